"""Which stages wait, for how long, and whom FTQ_OWNER_LIMIT keeps from beginning.

The limit is on the runs of one owner that are at work at once. A run is at work while one of its stages runs. What has
no owner, a run of an earlier ftq, has no limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ftq.files.run_dir import STAGES
from ftq.store.records import queue_of
from ftq.store.schema import runs, stages

_FIRST = {"high": 0, "normal": 1, "low": 2}
_NAMESPACE = 20_117  # of ftq's advisory locks on owners
LONGEST_WAIT = 120.0  # seconds
CLOCK_STEP = 1.0  # seconds: clocks are corrected by less than this all the time
WAITS = (stages.c.status == "queued") & stages.c.queued_at.is_not(None) & (runs.c.wanted == "run")
# The options by which a stage has its queue, as columns: label, GPUs, who answers. See `queue_by`.
QUEUE_PARTS = (
    runs.c.spec["worker"].as_string(),
    runs.c.spec["gpus"].as_integer(),
    runs.c.spec["infer_with"].as_string(),
)


@dataclass(frozen=True)
class Place:
    """Where a stage waits: whose it is, in which queue, and how urgent it is; runs that have begun go first."""

    run_id: str
    stage: str
    attempt: int
    owner: str
    queue: str
    rank: tuple[Any, ...]


def wait_after(losses: int) -> float:
    """Seconds before a stage is tried again after so many losses in a row: 0, 2, 4, 8..., 120."""
    return 0.0 if losses <= 1 else min(LONGEST_WAIT, 2.0 ** (losses - 1))


def is_due(now: float) -> sa.ColumnElement[bool]:
    """Whether a stage's wait is over. A wait longer than LONGEST_WAIT comes from a clock that was ahead."""
    queued = stages.c.queued_at
    return queued.is_(None) | (queued <= now + CLOCK_STEP) | (queued > now + LONGEST_WAIT + CLOCK_STEP)


def queue_by(stage: str, label: str | None, gpus: int | None, infer_with: str | None) -> str:
    """The queue of a stage by its run's QUEUE_PARTS, which a run of an earlier ftq lacks."""
    return queue_of(stage, {"worker": label or "", "gpus": gpus or 1, "infer_with": infer_with})


def waiting(db: sa.Connection, now: float, grace: float, limit: int = 0) -> list[tuple[str, str, int]]:
    """(run, stage, attempt) of the next stages that have waited longer than the grace, the oldest first.

    Their messages may be lost. A stage that waited after a loss has had no message yet, so it gets no grace. Those that
    the limit keeps from beginning are left out.
    """
    is_old = (stages.c.queued_at < now - grace) | (stages.c.queued_at > now + LONGEST_WAIT + CLOCK_STEP)
    has_waited = (stages.c.losses > 1) & (stages.c.queued_at <= now)
    if limit:
        return [(one.run_id, one.stage, one.attempt) for one in may_begin(db, is_old | has_waited, limit)]
    query = sa.select(stages.c.run_id, stages.c.name, stages.c.attempt).join(runs)
    query = query.where(WAITS, is_old | has_waited)
    return [tuple(row) for row in db.execute(query.order_by(stages.c.queued_at))]


def lock(db: sa.Connection, run_id: str) -> None:
    """Let no other claim look at what this run's owner has at work until this transaction ends.

    SQLite has locked everything anyway. The lock is the transaction's, so a pool of connections may be in between.
    """
    if db.dialect.name == "postgresql":
        owner = sa.select(sa.func.hashtext(runs.c.owner)).where(runs.c.id == run_id).scalar_subquery()
        db.execute(sa.select(sa.func.pg_advisory_xact_lock(_NAMESPACE, owner)))


def has_room(run_id: str, limit: int) -> sa.ColumnElement[bool]:
    """Whether the run's owner has fewer others at work than the limit."""
    mine, others = runs.alias(), stages.alias()
    owner = sa.select(runs.c.owner).where(runs.c.id == run_id).scalar_subquery()
    at_work = sa.select(sa.func.count(others.c.run_id.distinct())).join(mine, mine.c.id == others.c.run_id)
    at_work = at_work.where(others.c.status == "running", others.c.run_id != run_id, mine.c.owner == owner)
    return (owner == "") | (at_work.scalar_subquery() < limit)


def at_work(db: sa.Connection) -> dict[str, int]:
    """{owner: runs at work}"""
    number = sa.func.count(stages.c.run_id.distinct())
    query = sa.select(runs.c.owner, number).join(stages).where(stages.c.status == "running", runs.c.owner != "")
    return {owner: count for owner, count in db.execute(query.group_by(runs.c.owner))}


def may_begin(db: sa.Connection, condition: sa.ColumnElement[bool], limit: int) -> list[Place]:
    """The stages that wait, as far as their owners may have more at work, those that should go first in front.

    Of an owner there are as many in each queue as may begin: the others would only be turned away.
    """
    priority = runs.c.spec["priority"].as_string()
    columns = (stages.c.run_id, stages.c.name, stages.c.attempt, stages.c.queued_at, runs.c.owner, priority)
    query = sa.select(*columns, *QUEUE_PARTS).join(runs).where(WAITS, condition)
    places = map(_place, db.execute(query))
    return list(_fitting(places, at_work(db), limit))


def _place(row: Any) -> Place:
    run_id, stage, attempt, queued_at, owner, priority, *parts = row
    only_waits = stage == STAGES[0] and attempt == 1
    rank = (_FIRST.get(priority or "", 1), only_waits, queued_at)
    return Place(run_id, stage, attempt, owner, queue_by(stage, *parts), rank)


def _fitting(places: Iterable[Place], busy: dict[str, int], limit: int) -> Iterator[Place]:
    taken = Counter[tuple[str, str]]()
    for place in sorted(places, key=lambda one: one.rank):
        room = limit - busy.get(place.owner, 0)
        if not place.owner or taken[place.owner, place.queue] < room:
            taken[place.owner, place.queue] += 1
            yield place
