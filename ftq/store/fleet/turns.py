"""Whose turn it is: beside the priority, no owner's many runs keep another's one waiting."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ftq.store.database import Database
from ftq.store.fleet.waits import WAITS, at_work, may_begin
from ftq.store.records import Run
from ftq.store.schema import runs, stages

ALIKE = ("priority", "worker", "gpus")  # options by which stages of one name wait in different places


class Turns(Database):
    """A part of RunStore."""

    def next_in_turn(self, run_id: str, stage: str, owner_limit: int = 0) -> Run | None:
        """The run that should follow one whose stage has just begun; None if all that wait alike have one owner.

        It is the oldest of the owner who has the fewest of these stages at work, and among equals was served least
        lately. With a limit, an owner who has as many runs at work has no turn.
        """
        with self.reading() as db:
            asked = db.execute(sa.select(*_alike()).where(runs.c.id == run_id)).first()
            if asked is None:
                return None
            alike = [part.is_not_distinct_from(value) for part, value in zip(_alike(), asked, strict=True)]
            same = (stages.c.name == stage) & sa.and_(*alike)
            now = self._now(db)
            waits = same & WAITS & (stages.c.queued_at <= now)
            waiting = set(db.scalars(sa.select(runs.c.owner).distinct().join(stages).where(waits)))
            if len(waiting) < 2:
                return None
            if owner_limit:
                waiting -= {owner for owner, number in at_work(db).items() if number >= owner_limit}
            if not waiting:
                return None
            busy = sa.func.sum(sa.case((stages.c.status == "running", 1), else_=0))
            served = sa.select(runs.c.owner, busy, sa.func.max(stages.c.started_at)).join(stages).where(same)
            rows = db.execute(served.group_by(runs.c.owner))
            turns = {owner: (int(number or 0), last or 0.0) for owner, number, last in rows}
            first = min(waiting, key=lambda owner: (*turns.get(owner, (0, 0.0)), owner))
            oldest = sa.select(runs.c.id).join(stages).where(waits, runs.c.owner == first)
            chosen = db.scalar(oldest.order_by(stages.c.queued_at, runs.c.created_at).limit(1))
            return self._load(db, chosen) if chosen else None

    def next_of_owner(self, run_id: str, owner_limit: int) -> Run | None:
        """The run of the same owner that may begin now that this one has ended; None if none waits."""
        with self.reading() as db:
            owner = db.scalar(sa.select(runs.c.owner).where(runs.c.id == run_id))
            mine = (runs.c.owner == owner) & (runs.c.id != run_id) & (stages.c.queued_at <= self._now(db))
            places = may_begin(db, mine, owner_limit) if owner else []
            return self._load(db, places[0].run_id) if places else None

    def at_work_of(self, owner: str) -> int:
        """How many runs of the owner are at work."""
        with self.reading() as db:
            return at_work(db).get(owner, 0)


def _alike() -> list[Any]:
    return [runs.c.spec[name].as_string() for name in ALIKE]
