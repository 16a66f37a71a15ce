"""The span of one attempt of a stage."""

from __future__ import annotations

from contextlib import suppress

from ftq.errors import FtqError
from ftq.store.store import RunStore
from ftq.trace import spans


def attempt(store: RunStore, run_id: str, name: str, number: int, worker: str, began: int) -> None:
    """Record the attempt that has just ended, with what became of it; nothing where no traces are asked for."""
    if not spans.requested():
        return
    with suppress(FtqError):  # an unreachable database, a deleted run
        run = store.get(run_id)
        stage = run.stage(name)
        ended = stage.attempt == number and stage.status not in ("queued", "running")
        status = stage.status if ended else "given back"
        error = stage.error.message if ended and stage.error else ""
        spans.record(run_id, name, began, error, run=run.name, model=run.model, attempt=number, worker=worker,
                     cached=stage.cached if ended else None, status=status)  # fmt: skip
