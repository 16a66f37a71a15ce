"""SIGTERM in a pool child, where Celery's handler would raise SystemExit at any line."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def noted(note: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Call `note` at a SIGTERM, and go on."""
    if threading.current_thread() is not threading.main_thread():  # a threads pool has no such signal
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: note())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
