"""Whose turn it is: beside the priority, no owner's many runs keep another's one waiting."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ftq.store.database import Database
from ftq.store.fleet.waits import WAITS
from ftq.store.fleet.waits import at_work as runs_at_work
from ftq.store.records import Run
from ftq.store.schema import runs, stages

ALIKE = ("priority", "worker", "gpus")  # options by which stages of one name wait in different places


def next_in_turn(database: Database, run_id: str, stage: str, limit: int = 0) -> Run | None:
    """The run that should follow one whose stage has just begun; None if all that wait alike have one owner.

    It is the oldest of the owner who has the fewest of these stages at work, and among equals was served least lately.
    With a limit, an owner who has as many runs at work has no turn.
    """
    with database.reading() as db:
        asked = db.execute(sa.select(*_alike()).where(runs.c.id == run_id)).first()
        if asked is None:
            return None
        alike = [part.is_not_distinct_from(value) for part, value in zip(_alike(), asked, strict=True)]
        same = (stages.c.name == stage) & sa.and_(*alike)
        now = database._now(db)
        waits = same & WAITS & (stages.c.queued_at <= now)
        waiting = set(db.scalars(sa.select(runs.c.owner).distinct().join(stages).where(waits)))
        if len(waiting) < 2:
            return None
        if limit:
            waiting -= {owner for owner, number in runs_at_work(db).items() if number >= limit}
        at_work = sa.func.sum(sa.case((stages.c.status == "running", 1), else_=0))
        served = sa.select(runs.c.owner, at_work, sa.func.max(stages.c.started_at)).join(stages).where(same)
        turns = {
            owner: (int(busy or 0), last or 0.0) for owner, busy, last in db.execute(served.group_by(runs.c.owner))
        }
        if not waiting:
            return None
        first = min(waiting, key=lambda owner: (*turns.get(owner, (0, 0.0)), owner))
        oldest = sa.select(runs.c.id).join(stages).where(waits, runs.c.owner == first)
        chosen = db.scalar(oldest.order_by(stages.c.queued_at, runs.c.created_at).limit(1))
        return database._load(db, chosen) if chosen else None


def _alike() -> list[Any]:
    return [runs.c.spec[name].as_string() for name in ALIKE]
