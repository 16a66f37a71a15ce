"""What Flower hears of a stage beside Celery's own events: its progress, and how it ended.

Events are sent from a thread of their own. An event that can't be sent is dropped, so an unreachable broker never
holds up a run.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from celery import Celery

from ftq import queue
from ftq.store.store import RunStore
from worker.machine.hardware import gpu_name

EVERY_SECONDS = 1.0

Send = Callable[[dict[str, Any]], None]


def progress_sender(task: Any) -> Send:
    """A function that shows a stage's progress in Flower: the newest report, once a second."""
    gpu_name()  # the first call may take long: make it before a lease is held
    tell, begun, first = _teller(task), time.time(), True
    # A Flower that was started later knows nothing of this task, so each event describes all of it.
    request = task.request
    identity = {
        "name": task.name,
        "args": request.argsrepr,
        "kwargs": request.kwargsrepr,
        "received": begun,
        "started": begun,
        "root_id": request.root_id,
        "parent_id": request.parent_id,
    }

    def send(progress: dict[str, Any]) -> None:
        nonlocal first
        if first:
            _close_the_attempt_before(tell, request.id)
            first = False
        tell(request.id, "task-progress", **identity, **_columns(progress))

    return send


def show_end(task: Any, store: RunStore, run_id: str, stage: str, attempt: int) -> None:
    """Tell Flower how a task ended that raised Ignore: Celery says nothing, and Flower would show it as STARTED."""
    with contextlib.suppress(Exception):
        now, tell = store.get(run_id).stage(stage), _teller(task)
        if now.attempt > attempt:
            tell(task.request.id, "task-retried", exception=f"goes on as attempt {now.attempt}")
        elif now.attempt == attempt and now.status == "failed":
            tell(task.request.id, "task-failed", exception=now.error.message if now.error else "")
        elif now.attempt == attempt and now.status == "cancelled":
            tell(task.request.id, "task-revoked", terminated=True)


def _close_the_attempt_before(tell: Callable[..., None], task_id: str) -> None:
    """Tell Flower that the attempt before is over: its worker may have died without saying so."""
    run_id, stage, attempt = queue.attempt_of(task_id) or ("", "", 0)
    if attempt > 1:
        before = queue.task_id(run_id, stage, attempt - 1)
        tell(before, "task-retried", exception=f"goes on as attempt {attempt}")


def _columns(progress: dict[str, Any]) -> dict[str, str]:
    """The columns that flower/pages.py adds to Flower's task list, as text."""
    step, total, loss = progress.get("step"), progress.get("total_steps"), progress.get("loss")
    eta, gpu = progress.get("eta_seconds"), gpu_name()
    columns = {"progress": f"{progress['percent']:.1f}%", "time_left": "" if eta is None else _clock(eta)}
    if step is not None:
        columns["step"] = f"{step}/{total}"
    if loss is not None:
        columns["loss"] = f"{loss:.4f}"
    if gpu:
        columns["gpu"] = gpu
    return columns


def _clock(seconds: float) -> str:
    """Seconds as h:mm:ss, without the hours where there are none."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _teller(task: Any) -> Callable[..., None]:
    courier, hostname = _courier(task.app), task.request.hostname

    def tell(task_id: str, kind: str, **fields: Any) -> None:
        courier.put(task_id, kind, hostname, fields)

    return tell


class Courier:
    """Sends each task's newest event of each kind, at most one a second, from a thread of its own."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._waiting: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
        self._changed = threading.Condition()
        threading.Thread(target=self._loop, name="flower", daemon=True).start()

    def put(self, task_id: str, kind: str, hostname: str, fields: dict[str, Any]) -> None:
        with self._changed:
            self._waiting[task_id, kind] = (hostname, fields)
            self._changed.notify()

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                waiting, self._waiting = self._waiting, {}
            for (task_id, kind), (hostname, fields) in waiting.items():
                with contextlib.suppress(Exception):
                    self._send(task_id, kind, hostname, fields)
            time.sleep(EVERY_SECONDS)

    def _send(self, task_id: str, kind: str, hostname: str, fields: dict[str, Any]) -> None:
        with self._app.events.default_dispatcher(hostname=hostname) as dispatcher:
            dispatcher.send(kind, uuid=task_id, retry=False, **fields)


@cache
def _courier(app: Celery) -> Courier:
    return Courier(app)
