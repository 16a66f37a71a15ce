"""`python -m tests.fake_worker`: the real worker, its stages those of tests/fake_stages."""

import os

os.environ.setdefault("FTQ_STANDBY", "0")  # before the settings are read: fakes have nothing to import

from worker import process, run

process.PACKAGE = "tests.fake_stages"  # in the pool's children too, who import this module anew

if __name__ == "__main__":
    run.main()
