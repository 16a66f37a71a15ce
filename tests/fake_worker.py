"""`python -m tests.fake_worker`: the real worker, its stages those of tests/fake_stages and its models fakes."""

import os
from typing import Any

os.environ.setdefault("FTQ_STANDBY", "0")  # before the settings are read: fakes have nothing to import

from ftq.doorbell import owner
from ftq.trace import spans
from tests.fake_pool import FakePool
from worker import answers, reconciler
from worker.attempt import keeper, stage_process
from worker.host import worker
from worker.incoming import message

# in the pool's children too, who import this module anew
stage_process.PACKAGE = "tests.fake_stages"
keeper.FREE_MEMORY = 0  # a standby that has nothing to import needs none
answers.open_pool = FakePool  # type: ignore[assignment]


class Hasty(reconciler.Reconciler):
    """Looks twice a second for what got stuck, however long a lease is.

    FTQ_HASTE is for how many seconds a message may be on its way.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.every, self.grace = 0.5, float(os.environ["FTQ_HASTE"])


if os.environ.get("FTQ_TRUSTING"):
    message.unusable = lambda raw: ""
if os.environ.get("FTQ_HASTE"):
    # An earlier attempt's process ends, and a collector answers, as soon as a busy machine lets them.
    stage_process.LOCK_WAIT = spans.SEND_SECONDS = 120.0
    reconciler.Reconciler = Hasty  # type: ignore[misc]
    owner.RENEWED = 0.5

if __name__ == "__main__":
    worker.main()
