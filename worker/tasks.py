"""The Celery tasks. A task is a view: ids in, one call of the supervisor, and the chain goes on or stops."""

from __future__ import annotations

from functools import cache
from typing import Any

from celery import Celery, signals
from celery.exceptions import Ignore

from ftq.artifacts import STAGES
from ftq.runs import RunStore
from ftq.settings import Settings
from worker.flower_events import progress_sender, show_end
from worker.standby import Keeper
from worker.supervisor import Supervisor


def register(app: Celery, settings: Settings) -> None:
    """Add `ftq.prepare`, `ftq.train`, `ftq.export`, `ftq.infer` and `ftq.answer` to the app."""

    keeper = Keeper(settings)
    signals.worker_process_init.connect(keeper.start)
    signals.task_prerun.connect(keeper.busy)
    signals.task_postrun.connect(keeper.idle)

    @cache  # opened in the pool child at its first task
    def store() -> RunStore:
        return RunStore(settings.database_url)

    def supervisor(task: Any) -> Supervisor:
        return Supervisor(app, settings, store(), task.request.hostname, progress_sender(task), keeper)

    def add_stage(name: str) -> None:
        @app.task(name=f"ftq.{name}", bind=True)
        def run_stage(self: Any, run_id: str, attempt: int) -> None:
            if not supervisor(self).run(run_id, name, attempt):
                show_end(self, store(), run_id, name, attempt)
                raise Ignore  # a plain return would let the chain go on

    for name in STAGES:
        add_stage(name)

    @app.task(name="ftq.answer", bind=True)
    def answer(self: Any, question: str) -> None:
        supervisor(self).answer(question)
