"""What many tests need: to wait for something, to know that a process is gone, a port that nobody has."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def until(reached: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait until `reached()` is true and return what it gave."""
    end = time.monotonic() + seconds
    while not (value := reached()):
        assert time.monotonic() < end, f"not reached within {seconds} s"
        time.sleep(0.02)
    return value


def gone(pid: int) -> bool:
    """Whether the process has ended; who collects an orphan's remains is no concern of ours."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
