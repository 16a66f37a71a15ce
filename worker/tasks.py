"""The Celery tasks. A task is a view: ids in, one call of the supervisor, and the chain goes on or stops."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from celery import Celery, signals
from celery.exceptions import Ignore

from ftq import queue
from ftq.files.remote.share import share_of
from ftq.files.run_dir import STAGES
from ftq.settings import Settings
from ftq.store.records import ASK
from ftq.store.store import RunStore
from worker import strays
from worker.answers import Answerer
from worker.attempt.keeper import Keeper
from worker.attempt.supervisor import Supervisor
from worker.flower.events import progress_sender, show_end
from worker.machine import hardware

log = logging.getLogger("ftq.worker")
Value = TypeVar("Value")


def register(app: Celery, settings: Settings) -> None:
    """Add `ftq.prepare`, `ftq.train`, `ftq.export`, `ftq.infer`, `ftq.evaluate` and `ftq.answer` to the app."""

    keeper = Keeper(settings)
    signals.worker_process_init.connect(keeper.start)
    signals.task_prerun.connect(keeper.busy)
    signals.task_postrun.connect(keeper.idle)

    def open_store() -> RunStore:
        store = RunStore(settings.database_url)
        app.database = store.identity
        return store

    store = _once(open_store)  # in the pool child at its first task
    share = _once(lambda: share_of(settings, database=store().identity))  # a bucket is a process's own
    answerer = Answerer(settings, store, lambda: _only_answers(app) and bool(hardware.own_gpus()))
    signals.worker_process_shutdown.connect(answerer.close)  # a pool child ends
    signals.worker_shutdown.connect(answerer.close)  # a worker without pool children ends

    def supervisor(task: Any) -> Supervisor:
        return Supervisor(app, settings, store(), task.request.hostname, progress_sender(task), keeper, share())

    def check(task: Any, *arguments: Any) -> None:
        if not queue.is_genuine(settings.signing_key, task, *arguments):
            message = "%r (%s): not signed with the key of FTQ_SIGNING_KEY_FILE: message dropped"
            log.warning(message, task.request.id, task.name)
            raise Ignore

    def add_stage(name: str) -> None:
        @app.task(name=f"ftq.{name}", bind=True)
        def run_stage(self: Any, run_id: str, attempt: int) -> None:
            check(self, run_id, attempt)
            if strays.is_stray(self.request, store(), run_id):
                strays.turn_away(app, settings, self.request, self.name)
                raise Ignore
            if not supervisor(self).run(run_id, name, attempt):
                strays.put_back(app, store(), self.request, self.name, run_id)
                show_end(self, store(), run_id, name, attempt)
                raise Ignore  # a plain return would let the chain go on

    for name in STAGES:
        add_stage(name)

    @app.task(name="ftq.answer", bind=True)
    def answer(self: Any, question: str) -> None:
        check(self, question)
        if strays.is_stray(self.request, store()):
            strays.turn_away(app, settings, self.request, self.name)
            return
        answerer.answer(question, self.request.hostname)


def _only_answers(app: Celery) -> bool:
    """Whether this worker serves questions alone. Beside stages a model would take memory from a training run."""
    return bool(app.serves == [ASK])


def _once(make: Callable[[], Value]) -> Callable[[], Value]:
    """Call `make` once, at the first call. functools.cache alone lets two threads each call it."""
    lock, cached = threading.Lock(), cache(make)

    def get() -> Value:
        with lock:
            return cached()

    return get
