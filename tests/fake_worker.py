"""`python -m tests.fake_worker`: the real worker, its stages those of tests/fake_stages and its models fakes."""

import os

os.environ.setdefault("FTQ_STANDBY", "0")  # before the settings are read: fakes have nothing to import

from tests.fake_pool import FakePool
from worker import answers
from worker.attempt import stage_process
from worker.host import worker

# in the pool's children too, who import this module anew
stage_process.PACKAGE = "tests.fake_stages"
answers.open_pool = FakePool  # type: ignore[assignment]

if __name__ == "__main__":
    worker.main()
