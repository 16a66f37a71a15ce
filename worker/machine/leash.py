"""The leash: a process that ends when its parent ends, however that came about (Linux; elsewhere a no-op).

A process puts it on by itself. What `subprocess` can run between fork and exec (`preexec_fn`) may hang for ever where
the parent has threads. For a foreign program there is a launcher, `python leash.py PARENT COMMAND...`: the wish
survives the exec.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def put_on(parent: int, number: int = signal.SIGTERM) -> bool:
    """Send this process the signal when the thread of `parent` that started it ends.

    False if `parent` is dead already: then no signal will come.
    """
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    except (AttributeError, OSError):  # not Linux
        return True
    return os.getppid() == parent


def leashed(command: list[str]) -> list[str]:
    """The command that runs `command` as a child of this process that ends with it, by SIGTERM."""
    return [sys.executable, "-I", __file__, str(os.getpid()), *command]


def main() -> None:
    parent, *command = sys.argv[1:]
    if not put_on(int(parent)):
        sys.exit(128 + signal.SIGTERM)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
