"""The whole queue in numbers, counted by the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ftq.store.database import Database
from ftq.store.fleet.waits import QUEUE_PARTS, WAITS, queue_by
from ftq.store.schema import events, questions, runs, stages

# A run's status by that of its stages (records.Run.status): the lowest rank among them counts.
_RANKS = ("running", "failed", "cancelled", "queued", "succeeded")
COUNTED = ("lost", "lease_lost", "retried", "stalled", "checkpoint")


@dataclass(frozen=True)
class Waiting:
    """Stages that wait for a worker of a queue, and for how many seconds the oldest has."""

    stages: int
    seconds: float


@dataclass(frozen=True)
class Training:
    run: str
    worker: str
    tokens_per_second: float


@dataclass(frozen=True)
class Numbers:
    """`finished` are (number, seconds together) of the stages that really ran; `events` count some kinds.

    Deleted runs and old questions aren't counted any more.
    """

    runs: dict[str, int]
    waiting: dict[str, Waiting]
    running: dict[str, int]
    finished: dict[str, tuple[int, float]]
    training: list[Training]
    events: dict[str, int]
    questions: dict[str, int]


class Counts(Database):
    """A part of RunStore."""

    def numbers(self) -> Numbers:
        """The whole queue in numbers. A second at most for 10,000 runs; ask every few seconds, not more often."""
        with self.reading() as db:
            return Numbers(
                runs=_runs(db),
                waiting=_waiting(db, self._now(db)),
                running=_counted(db, stages.c.name, stages.c.status == "running"),
                finished=_finished(db),
                training=_training(db),
                events=_counted(db, events.c.kind, events.c.kind.in_(COUNTED)),
                questions=_counted(db, questions.c.status, sa.true()),
            )


def _counted(db: sa.Connection, column: sa.ColumnElement[str], which: sa.ColumnElement[bool]) -> dict[str, int]:
    query = sa.select(column, sa.func.count()).where(which).group_by(column)
    return {name: number for name, number in db.execute(query)}


def _runs(db: sa.Connection) -> dict[str, int]:
    rank = sa.case(*((stages.c.status == status, place) for place, status in enumerate(_RANKS)))
    lowest = sa.select(stages.c.run_id, sa.func.min(rank).label("rank")).group_by(stages.c.run_id).subquery()
    columns = (lowest.c.rank, runs.c.wanted)
    query = sa.select(*columns, sa.func.count()).join(runs, runs.c.id == lowest.c.run_id).group_by(*columns)
    found = dict.fromkeys((*_RANKS, "paused"), 0)
    for place, wanted, number in db.execute(query):
        status = _RANKS[place]
        found["paused" if status == "queued" and wanted == "pause" else status] += number
    return found


def _waiting(db: sa.Connection, now: float) -> dict[str, Waiting]:
    named = [part.label(name) for part, name in zip(QUEUE_PARTS, ("label", "gpus", "infer_with"), strict=True)]
    heads = sa.select(stages.c.name, stages.c.queued_at, *named).join(runs).where(WAITS).subquery()
    kinds = (heads.c.name, heads.c.label, heads.c.gpus, heads.c.infer_with)
    query = sa.select(*kinds, sa.func.count(), sa.func.min(heads.c.queued_at)).group_by(*kinds)
    found: dict[str, Waiting] = {}
    for stage, label, gpus, infer_with, number, since in db.execute(query):
        queue = queue_by(stage, label, gpus, infer_with)
        earlier = found.get(queue, Waiting(0, 0.0))
        found[queue] = Waiting(earlier.stages + number, max(earlier.seconds, now - since))
    return found


def _finished(db: sa.Connection) -> dict[str, tuple[int, float]]:
    seconds = sa.func.sum(stages.c.finished_at - stages.c.started_at)
    really = (stages.c.status == "succeeded") & ~stages.c.cached
    query = sa.select(stages.c.name, sa.func.count(), seconds).where(really).group_by(stages.c.name)
    return {name: (number, float(together or 0)) for name, number, together in db.execute(query)}


def _training(db: sa.Connection) -> list[Training]:
    query = sa.select(runs.c.name, stages.c.worker, stages.c.progress).join(runs).where(stages.c.status == "running")
    rows: list[Any] = list(db.execute(query))
    speeds = [(name, worker, (progress or {}).get("tokens_per_second")) for name, worker, progress in rows]
    return [Training(name, worker, float(speed)) for name, worker, speed in speeds if speed is not None]
