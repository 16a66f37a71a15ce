"""Workers: their signs of life, what they serve and what they have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from ftq.store.database import Database
from ftq.store.fleet.waits import QUEUE_PARTS, WAITS, queue_by
from ftq.store.records import Work, Worker, served_by
from ftq.store.schema import events, runs, stages, workers
from ftq.words import duration, listed

WORKER_SILENCE = 20.0  # seconds without a sign of life after which a worker counts as dead
FEW = 3  # workers that may look through the broker at the same time
LOOKING = 60.0  # seconds for which one of more looks through it
LOST_OFTEN = 3  # losses in a row that somebody should hear of
FORGOTTEN = 86_400.0  # seconds after which a dead worker isn't listed any more


class Workers(Database):
    """A part of RunStore."""

    def see_worker(
        self,
        name: str,
        host: str,
        queues: Iterable[str],
        gpu: str | None,
        pid: int,
        facts: dict[str, Any] | None = None,
    ) -> bool:
        """Record a worker's sign of life and its `facts` (see records.Worker). Returns whether it is drained."""
        values: dict[str, Any] = {"host": host, "queues": ",".join(queues), "gpu": gpu, "pid": pid, "facts": facts}
        with self.writing() as db:
            values["seen_at"] = now = self._now(db)
            if db.execute(workers.update().where(workers.c.name == name).values(**values)).rowcount == 0:
                db.execute(workers.insert().values(name=name, draining=False, **values))
                db.execute(workers.delete().where(workers.c.seen_at < now - FORGOTTEN))
            return db.scalar(sa.select(workers.c.drained_at).where(workers.c.name == name)) is not None

    def set_drained(self, name: str, drained: bool) -> None:
        """Let a worker take nothing new (True), or take work again (False). What it runs goes on."""
        with self.writing() as db:
            at = sa.func.coalesce(workers.c.drained_at, self._now(db)) if drained else None
            db.execute(workers.update().where(workers.c.name == name).values(drained_at=at))

    def rests(self, name: str) -> bool:
        """Whether no claim of this worker succeeds now: it is drained, or waits for its bucket."""
        with self.reading() as db:
            return db.scalar(sa.select(workers.c.name).where(resting(name))) is not None

    def is_replaced(self, name: str, queue: str) -> bool:
        """Whether this worker waits for its bucket while another one takes what is in the queue."""
        known = self.workers()
        waits = any(one.waits for one in known if one.name == name)
        return waits and queue in served_by(one for one in known if one.takes and one.name != name)

    def drain_worker(self, name: str, draining: bool) -> None:
        """Ask a worker's supervisors to hand their runs back (True), or withdraw that (False). It is a sign of life."""
        with self.writing() as db:
            values = {"draining": draining, "seen_at": self._now(db)}
            db.execute(workers.update().where(workers.c.name == name).values(**values))

    def forget_worker(self, name: str, only_silent: bool = False) -> bool:
        """Drop a worker from the list. With `only_silent` one that gives signs of life stays; False if it does."""
        with self.writing() as db:
            which = workers.c.name == name
            if only_silent:
                which &= ~_was_seen(self._now(db), WORKER_SILENCE)
            return db.execute(workers.delete().where(which)).rowcount > 0

    def live_workers(self, host: str | None = None) -> dict[str, set[str]]:
        """{name: queues} of the workers (with `host`, of that host) that are alive and weren't asked to stop."""
        with self.reading() as db:
            live = _is_live(self._now(db))
            if host is not None:
                live &= workers.c.host == host
            rows = db.execute(sa.select(workers.c.name, workers.c.queues).where(live)).all()
        return {row.name: set(row.queues.split(",")) for row in rows}

    def may_look(self, name: str) -> bool:
        """Whether this worker may look through the whole broker now: among many it is one at a time, for a minute."""
        with self.reading() as db:
            now = self._now(db)
            before = sa.func.sum(sa.case((workers.c.name < name, 1), else_=0))
            count, place = db.execute(sa.select(sa.func.count(), before).where(_is_live(now))).one()
        return bool(count <= FEW or int(now / LOOKING) % count == place)

    def live_queues(self) -> set[str]:
        """The queues, those of labels too, from which at least one live worker takes work."""
        return served_by(worker for worker in self.workers() if worker.takes)

    def at_work(self) -> list[Work]:
        """What the workers are doing, the oldest first."""
        columns = (stages.c.worker, runs.c.id, runs.c.name, stages.c.name, stages.c.attempt, stages.c.started_at)
        query = sa.select(*columns).join(runs).where(stages.c.status == "running").order_by(stages.c.started_at)
        with self.reading() as db:
            return [Work(*row) for row in db.execute(query)]

    def note_stalled(self, seconds: float) -> list[str]:
        """Record an event, once an attempt, for each stage that has waited so long with no worker to take it, or was
        lost LOST_OFTEN times in a row. Returns the runs' ids.
        """
        known = [one for one in self.workers() if one.is_live]
        able, waiting = [one for one in known if not one.waits], served_by(one for one in known if one.waits)
        refused = served_by(one for one in known if one.refused)
        live = served_by(one for one in able if one.takes)
        told = sa.exists().where(_says_stalled(stages.c.run_id, stages.c.name, stages.c.attempt))
        columns = (stages.c.run_id, stages.c.name, stages.c.attempt, stages.c.queued_at, stages.c.losses, *QUEUE_PARTS)
        stalled = list[str]()
        with self.reading() as db:
            now = self._now(db)
            late = (stages.c.queued_at < now - seconds) | (stages.c.losses == LOST_OFTEN)
            rows = db.execute(sa.select(*columns).join(runs).where(WAITS, late, ~told)).all()
        for run_id, stage, attempt, queued_at, losses, *parts in rows:
            queue = queue_by(stage, *parts)
            if losses == LOST_OFTEN:
                why = f"lost {losses} times in a row without a checkpoint"
            elif queue not in live:
                drained = sorted(one.name for one in able if queue in one.served)
                nobody = f"all workers of the queue {queue} are drained ({listed(drained)})"
                nobody = nobody if drained else f"no worker serves the queue {queue}"
                nobody = f"the workers of the queue {queue} wait for their bucket" if queue in waiting else nobody
                nobody = f"the broker refuses the workers of the queue {queue}" if queue in refused else nobody
                why = f"waits for {duration(now - queued_at)}: {nobody}"
            else:
                continue
            if self._say_stalled(run_id, stage, attempt, why):
                stalled.append(run_id)
        return stalled

    def _say_stalled(self, run_id: str, stage: str, attempt: int, why: str) -> bool:
        """False if another worker has said it, or the stage goes on."""
        with self.writing() as db:
            if not self._wanted(db, run_id):  # locks the run
                return False
            if db.scalar(sa.select(events.c.id).where(_says_stalled(run_id, stage, attempt))):
                return False
            self._event(db, run_id, "stalled", why, stage, attempt)
            return True

    def labels_wanted(self) -> list[str]:
        """The labels of the runs that aren't done."""
        label = runs.c.spec["worker"].as_string()
        query = sa.select(label).distinct().join(stages).where(stages.c.status == "queued", runs.c.wanted == "run")
        with self.reading() as db:
            return [text for text in db.scalars(query) if text]

    def workers(self) -> list[Worker]:
        """Every known worker, for a day also one that died; the one seen last comes first.

        One that was asked to stop leaves by itself. One that was killed before it had has left once nothing is its own.
        """
        with self.reading() as db:
            now = self._now(db)
            works = sa.exists().where(stages.c.worker == workers.c.name, stages.c.status == "running")
            there = _was_seen(now, WORKER_SILENCE) | ~workers.c.draining | works
            query = sa.select(workers, _is_live(now).label("live")).where(_was_seen(now, FORGOTTEN), there)
            query = query.order_by(workers.c.seen_at.desc(), workers.c.name)
            return [
                Worker(
                    row.name,
                    row.queues.split(","),
                    row.facts or {},
                    bool(row.live),
                    row.host,
                    row.gpu,
                    row.seen_at,
                    row.draining,
                    row.drained_at,
                )
                for row in db.execute(query)
            ]


def resting(name: str) -> sa.ColumnElement[bool]:
    """Whether a row of the workers is this one's, and it takes nothing new."""
    waits = sa.func.coalesce(workers.c.facts["waits"].as_string(), "") != ""
    return (workers.c.name == name) & (workers.c.drained_at.is_not(None) | waits)


def _says_stalled(run_id: Any, stage: Any, attempt: Any) -> sa.ColumnElement[bool]:
    """Whether an event is that of this attempt, whose parts are values or columns."""
    return sa.and_(
        events.c.run_id == run_id,
        events.c.stage == stage,
        events.c.attempt == attempt,
        events.c.kind == "stalled",
    )


def _is_live(now: float) -> sa.ColumnElement[bool]:
    """Whether a worker is alive, and doesn't stop."""
    return _was_seen(now, WORKER_SILENCE) & ~workers.c.draining


def _was_seen(now: float, seconds: float) -> sa.ColumnElement[bool]:
    """Whether it gave a sign of life since. One from the future doesn't count: its clock was ahead."""
    return workers.c.seen_at.between(now - seconds, now + seconds)
