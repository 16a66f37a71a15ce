"""`python -m tests.fake_worker`: the real worker, its stages those of tests/fake_stages and its models fakes."""

import os

os.environ.setdefault("FTQ_STANDBY", "0")  # before the settings are read: fakes have nothing to import

from tests.fake_pool import FakePool
from worker import answers, process, run

# in the pool's children too, who import this module anew
process.PACKAGE = "tests.fake_stages"
answers.open_pool = FakePool  # type: ignore[assignment]

if __name__ == "__main__":
    run.main()
