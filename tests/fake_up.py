"""`python -m tests.fake_up`: the real `ftq up`, its workers' stages those of tests/fake_stages."""

from worker.host import up

up.WORKER = "tests.fake_worker"

if __name__ == "__main__":
    up.main()
