"""Progress as Celery events, so that Flower shows it. What can't be sent is dropped: it never harms a run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from worker.hardware import gpu_name

EVERY_SECONDS = 1.0

Send = Callable[[dict[str, Any]], None]


def progress_sender(task: Any) -> Send:
    """A function that sends a stage's progress as `task-progress` events, at most one a second."""
    last = 0.0

    def send(progress: dict[str, Any]) -> None:
        nonlocal last
        if time.monotonic() - last < EVERY_SECONDS:
            return
        last = time.monotonic()
        with contextlib.suppress(Exception):
            task.send_event("task-progress", retry=False, **_fields(progress))

    return send


def _fields(progress: dict[str, Any]) -> dict[str, str]:
    """The columns that flowerconfig.py adds to Flower's task list, as text."""
    step, total, loss = progress.get("step"), progress.get("total_steps"), progress.get("loss")
    eta = progress.get("eta_seconds")
    shown = {
        "progress": f"{progress['percent']:.0f}%",
        "step": f"{step}/{total}" if step is not None else "",
        "loss": f"{loss:.4f}" if loss is not None else "",
        "gpu": gpu_name() or "",
        "time_left": f"{int(eta) // 60:02d}:{int(eta) % 60:02d}" if eta is not None else "",
    }
    return shown
