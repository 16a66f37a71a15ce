"""`python -m ftq.start MODULE ARGUMENTS...` runs a module that Ctrl-C ends without a traceback while it imports.

Imports take tenths of a second. Python answers Ctrl-C in them with a traceback of whatever line it was at.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130  # what shells report for Ctrl-C


def end_at_ctrl_c() -> None:
    """Let Ctrl-C end this process at once and in silence, which shells report as exit code 130.

    For as long as nothing has to be put away. A process that was told to ignore Ctrl-C goes on ignoring it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def interruptible() -> Iterator[None]:
    """Make Ctrl-C a KeyboardInterrupt, where `end_at_ctrl_c` has made it the end of the process."""
    if signal.getsignal(signal.SIGINT) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> None:
    end_at_ctrl_c()
    import runpy

    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
