"""`python -m tests.fake_worker`: the real worker, its stages those of tests/fake_stages."""

from worker import process, run

process.PACKAGE = "tests.fake_stages"  # in the pool's children too, who import this module anew

if __name__ == "__main__":
    run.main()
