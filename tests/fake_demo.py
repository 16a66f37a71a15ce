"""`python -m tests.fake_demo PORT`: the real demo on the `ftq up` of tests/fake_up, Flower on that port.

FTQ_SILENCE: seconds between two of its lines; nobody asks the base model.
"""

import os
import sys

from ftq.programs import UpOptions
from worker.host import demo

demo.UP = UpOptions(port=int(sys.argv[1])).argv("tests.fake_up")
demo.SILENCE = float(os.environ.get("FTQ_SILENCE", "30"))
demo._compare = demo._what_next = lambda *_: None  # type: ignore[assignment]

if __name__ == "__main__":
    demo.main()
