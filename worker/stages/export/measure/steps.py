"""The steps of an export: each is shown while it is done, and its seconds are logged and kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from ftq.files.export_report import Step
from worker.stages.process.main import Report


class Steps:
    """Thread-safe: some steps are done beside others. `percent` is how far the export is."""

    def __init__(self, report: Report) -> None:
        self._report, self._taken, self._lock = report, list[Step](), threading.Lock()
        self._percent = 0.0

    @property
    def taken(self) -> tuple[Step, ...]:
        """Those that are over, in the order of their ends."""
        with self._lock:
            return tuple(self._taken)

    def reached(self, percent: float) -> None:
        with self._lock:
            self._percent = percent
            self._report.progress(percent)

    @contextmanager
    def step(self, name: str) -> Generator[None]:
        """Show `name` as what is being done now; its seconds count if it succeeds."""
        with self._lock:
            self._report.progress(self._percent, doing=name)
        began = time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        print(f"{seconds:.1f} s: {name}", flush=True)
        with self._lock:
            self._taken.append(Step(name, round(seconds, 2)))
