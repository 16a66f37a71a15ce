"""Preloads nothing. FTQ_PRELOAD says what happens instead: it waits for a file of this name, or for ever, or fails."""

import os
import time
from pathlib import Path

from worker.stages.process.standby import main


def preload() -> None:
    wish = os.environ.get("FTQ_PRELOAD", "")
    if wish == "fail":
        raise ImportError("no such thing as Unsloth")
    while wish and not Path(wish).exists():
        time.sleep(0.02)


if __name__ == "__main__":
    main(preload)
