"""Preloads nothing. FTQ_PRELOAD says what happens instead: a number of seconds to sleep, or `fail`."""

import os
import time

from worker.stages.process.standby import main


def preload() -> None:
    wish = os.environ.get("FTQ_PRELOAD", "0")
    if wish == "fail":
        raise ImportError("no such thing as Unsloth")
    time.sleep(float(wish))


if __name__ == "__main__":
    main(preload)
