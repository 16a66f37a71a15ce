"""`python -m tests.fake_worker`: the real worker, its stages those of tests/fake_stages."""

from worker import process, run

if __name__ == "__main__":
    process.PACKAGE = "tests.fake_stages"
    run.main()
