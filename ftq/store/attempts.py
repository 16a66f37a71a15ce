"""Attempts of stages: how one is claimed and held, what it may write, how it ends, and what follows from its loss.

An attempt is lost if its machine, worker, broker or database failed, or if somebody killed its process. That isn't the
run's fault, so the run goes on: at once after the first loss, after growing waits later.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from ftq.errors import LeaseLost, RunError
from ftq.files.artifact import Artifact
from ftq.files.run_dir import STAGES
from ftq.store.database import storable_error
from ftq.store.fleet import waits
from ftq.store.records import Run
from ftq.store.schema import events, runs, stages, workers
from ftq.store.server import postgres
from ftq.store.versions import Judge, Versions, nobody
from ftq.store.workers import resting

MOST_LOSSES = 30  # in a row without a checkpoint, in about an hour: then the run itself may bring its worker down


class Attempts(Versions):
    """A part of RunStore. The lease's token guards every write but the claim: LeaseLost if another process holds it."""

    def claim(
        self, run_id: str, stage: str, attempt: int, worker: str, lease_seconds: float, owner_limit: int = 0
    ) -> str | None:
        """Take the stage and its lease. Returns the lease's token, or None if the stage can't be claimed (yet).

        With an `owner_limit` at most so many runs of one owner are at work at once.
        """
        token = secrets.token_hex(16)
        earlier = stages.alias()
        blocked = sa.exists().where(
            earlier.c.run_id == run_id, earlier.c.position < STAGES.index(stage), earlier.c.status != "succeeded"
        )
        allowed = sa.exists().where(runs.c.id == run_id, runs.c.wanted == "run")
        guard = self._is(run_id, stage) & (stages.c.status == "queued") & (stages.c.attempt == attempt)
        with self.writing() as db:
            if owner_limit:
                waits.lock(db, run_id)
                guard &= waits.has_room(run_id, owner_limit)
            now = self._now(db)
            claimed = db.execute(
                stages.update()
                .where(guard, ~blocked, ~sa.exists().where(resting(worker)), allowed, waits.is_due(now))
                .values(
                    status="running",
                    owner=token,
                    worker=worker,
                    lease_until=now + lease_seconds,
                    tries=stages.c.tries + 1,
                    started_at=now,
                    finished_at=None,
                    error=None,
                    progress=None,
                )
            )
            if claimed.rowcount != 1:
                return None
            self._event(
                db,
                run_id,
                "claimed",
                f"claimed by {worker}",
                stage,
                attempt,
                worker=worker,
                lease_seconds=lease_seconds,
            )
        return token

    def renew(self, token: str, lease_seconds: float) -> None:
        """Extend the lease to `lease_seconds` from now. LeaseLost if another process holds it."""
        with self.writing() as db:
            self._guarded(db, token, lease_until=self._now(db) + lease_seconds)

    @contextlib.contextmanager
    def hold(self, token: str, lease_seconds: float, own_folder: bool = False) -> Iterator[None]:
        """Renew the lease, and keep others from taking the stage while the block runs. It is for renaming the files.

        Without it, a process that was frozen between checking the lease and renaming could wake up after another one
        has published, and overwrite those files. Keep the block short: SQLite has one lock for all writers.
        A machine that vanishes meanwhile keeps the stage too, unless it has the files in its `own_folder`.
        """
        # frozen here, it keeps the stage: awake, it would go on
        with self.writing(postgres.end_if_gone if own_folder else postgres.end_never) as db:
            self._owned(db, token)
            yield
            self._guarded(db, token, lease_until=self._now(db) + lease_seconds)

    def check(self, token: str) -> tuple[str, bool]:
        """(what the user wants: run, pause or cancel; whether this worker was asked to stop). LeaseLost if lost."""
        query = (
            sa.select(runs.c.wanted, workers.c.draining)
            .select_from(stages.join(runs).outerjoin(workers, workers.c.name == stages.c.worker))
            .where(stages.c.owner == token, stages.c.status == "running")
        )
        with self.reading() as db:
            row = db.execute(query).first()
        if row is None:
            raise LeaseLost("another process holds this stage now")
        return row.wanted, bool(row.draining)

    def progress(self, token: str, progress: dict[str, Any]) -> None:
        with self.writing() as db:
            self._guarded(db, token, progress={**progress, "updated_at": self._now(db)})

    def note(self, token: str, kind: str, message: str, **data: Any) -> None:
        """Record an event of the stage. A saved checkpoint resets the count of useless attempts."""
        with self.writing() as db:
            stage = self._owned(db, token)
            if kind == "checkpoint":
                self._guarded(db, token, tries=1, losses=0)
            self._event(db, stage.run_id, kind, message, stage.name, stage.attempt, **data)

    def succeed(
        self,
        token: str,
        key: str | None,
        artifacts: list[Artifact],
        cached: bool = False,
        judge: Judge = nobody,
        revision: str | None = None,
    ) -> None:
        """Record that the stage is done and its files are in place; the next stage may start now.

        `revision` is the base model's, where this stage has chosen it. After the last stage the run gets its number.
        For promote=better `judge` compares it with `latest`.
        """
        with self.writing() as db:
            stage = self._owned(db, token)
            listed = [asdict(artifact) for artifact in artifacts]
            self._end(db, stage, status="succeeded", key=key, artifacts=listed, cached=cached, losses=0)
            if revision:
                db.execute(runs.update().where(runs.c.id == stage.run_id).values(revision=revision))
            message = "cache hit: nothing that goes into this stage has changed" if cached else "succeeded"
            self._event(db, stage.run_id, "cache_hit" if cached else "succeeded", message, stage.name, stage.attempt)
            if stage.position + 1 < len(STAGES):
                self._touch_queue(db, stage.run_id, STAGES[stage.position + 1])
            self._give_number(db, stage.run_id, judge, stage.name)

    def fail(self, token: str, error: RunError) -> None:
        """Record that the stage failed for good, and the run with it."""
        with self.writing() as db:
            self._fail(db, self._owned(db, token), error)

    def release(
        self, token: str, kind: str, message: str, *, changes: dict[str, Any] | None = None, counts: bool = False
    ) -> None:
        """Give the stage back to the queue as a new attempt, or cancel it if the user wants that.

        `counts` says whether this attempt counts as a useless one; otherwise that count goes back to 0. `changes` are
        adapted options: with them the count of losses goes back to 0, too.
        """
        with self.writing() as db:
            stage = self._owned(db, token)
            values: dict[str, Any] = {"changes": changes, "losses": 0} if changes else {}
            self._requeue(db, stage, kind, message, 0.0, tries=stage.tries if counts else 0, **values)

    # ---- losses -----------------------------------------------------------------------------------------

    def lose(self, token: str, message: str) -> None:
        """Record a lost attempt: the stage is tried again, now or after a wait, and no useless attempt is counted.

        After MOST_LOSSES in a row without a checkpoint the stage fails.
        """
        with self.writing() as db:
            self._lose(db, self._owned(db, token), message)

    def expire(self, lease_seconds: float) -> list[str]:
        """Take back every stage whose lease has ended. Returns the ids of the runs that go on at once.

        `lease_seconds` is the caller's lease. It is used for attempts whose claim doesn't say how long theirs is.
        """
        with self.writing() as db:
            now = self._now(db)
            self._shorten_leases(db, now, lease_seconds)
            over = (stages.c.status == "running") & (stages.c.lease_until < now)
            lost = db.execute(sa.select(stages).where(over).with_for_update(skip_locked=True)).all()
            return [
                stage.run_id
                for stage in lost
                if self._lose(db, stage, f"lease lost: no sign of life from {stage.worker}")
            ]

    def expire_attempt(self, run_id: str, stage: str, attempt: int, worker: str | None = None) -> list[str]:
        """Take back an attempt whose process has died, before its lease ends. With `worker`, only if that holds it."""
        with self.writing() as db:
            held = self._is(run_id, stage) & (stages.c.status == "running") & (stages.c.attempt == attempt)
            if worker:
                held &= stages.c.worker == worker
            lost = db.execute(sa.select(stages).where(held).with_for_update()).all()
            return [row.run_id for row in lost if self._lose(db, row, f"the process of {row.worker} that held it died")]

    def say_lease_lost(self, run_id: str, stage: str, attempt: int, worker: str) -> None:
        """Record that a process lost its lease; it may write nothing else."""
        with self.writing() as db:
            message = f"{worker} came too late: its lease was over, it published nothing"
            if self._wanted(db, run_id):  # the run may have been deleted since
                self._event(db, run_id, "lease_lost", message, stage, attempt)

    def waiting(self, grace_seconds: float, owner_limit: int = 0) -> list[tuple[str, str, int]]:
        """(run, stage, attempt) of the next stages whose messages may be lost: see fleet/waits.py."""
        with self.reading() as db:
            return waits.waiting(db, self._now(db), grace_seconds, owner_limit)

    def due(self, run_id: str) -> Run | None:
        """The run, or None if its next stage can't be sent now: finished, running, deleted, waiting after a loss."""
        with self.reading() as db:
            matches = self._runs(db, sa.select(runs).where(runs.c.id == run_id, runs.c.wanted == "run"))
            return matches[0] if matches and self._is_ready(db, matches[0]) else None

    # ---- inside -----------------------------------------------------------------------------------------

    def _lose(self, db: sa.Connection, stage: Any, message: str) -> bool:
        """Decide what follows from a loss. Returns whether the run goes on at once."""
        losses, tries = stage.losses + 1, max(0, stage.tries - 1)
        if losses >= MOST_LOSSES and self._wanted(db, stage.run_id) != "cancel":
            why = "so either the machine is unstable or the run itself brings its worker down"
            message = f"{message}; lost {losses} times in a row without a checkpoint, {why}"
            hint = f"`ftq logs RUN --stage {stage.name}` has the full log; `ftq retry RUN` tries again."
            self._fail(db, stage, RunError("lost", message, hint))
            return False
        wait = waits.wait_after(losses)
        if wait:
            message += f"; tried again in {wait:.0f} s, as it was lost {losses} times in a row"
        return self._requeue(db, stage, "lost", message, wait, losses=losses, tries=tries) and not wait

    def _requeue(self, db: sa.Connection, stage: Any, kind: str, message: str, wait: float, **values: Any) -> bool:
        """Queue a new attempt in `wait` seconds. If the user wants to cancel, do that and return False."""
        goes_on = self._wanted(db, stage.run_id) != "cancel"
        if goes_on:
            now = self._now(db)
            self._update(db, stage, status="queued", attempt=stage.attempt + 1, queued_at=now + wait, **values)
        else:
            self._end(db, stage, status="cancelled")
            kind, message = "cancelled", "stopped: cancelled by the user"
        self._event(db, stage.run_id, kind, message, stage.name, stage.attempt)
        return goes_on

    def _is_ready(self, db: sa.Connection, run: Run) -> bool:
        """Whether the run's next stage is queued and doesn't wait after a loss."""
        if run.current is None or run.current.status != "queued":
            return False
        ready = sa.exists().where(self._is(run.id, run.current.name), waits.is_due(self._now(db)))
        return bool(db.scalar(sa.select(ready)))

    def _fail(self, db: sa.Connection, stage: Any, error: RunError) -> None:
        self._end(db, stage, status="failed", error=storable_error(error))
        message = f"failed ({error.kind}): {error.message}"
        self._event(db, stage.run_id, "failed", message, stage.name, stage.attempt)

    def _end(self, db: sa.Connection, stage: Any, **values: Any) -> None:
        self._update(db, stage, finished_at=self._now(db), **values)

    def _update(self, db: sa.Connection, stage: Any, **values: Any) -> None:
        """Write an attempt's last values and give up its lease. The caller has locked the row."""
        mine = self._is(stage.run_id, stage.name)
        db.execute(stages.update().where(mine).values(owner=None, lease_until=None, **values))

    def _shorten_leases(self, db: sa.Connection, now: float, lease_seconds: float) -> None:
        """Shorten leases that end later than a whole lease from now: their clock was ahead and has been set back.

        A living holder renews its lease in time. Without this, the stage of a dead one would stay taken for too long.
        """
        latest = now + lease_seconds + waits.CLOCK_STEP
        ahead = (stages.c.status == "running") & (stages.c.lease_until > latest)
        for stage in db.execute(sa.select(stages).where(ahead).with_for_update(skip_locked=True)).all():
            claims = sa.select(events.c.data).where(
                events.c.run_id == stage.run_id,
                events.c.stage == stage.name,
                events.c.kind == "claimed",
                events.c.attempt == stage.attempt,
            )
            claim = db.execute(claims.order_by(events.c.id.desc())).scalars().first() or {}
            lease = claim.get("lease_seconds", lease_seconds)
            if stage.lease_until > now + lease + waits.CLOCK_STEP:
                mine = self._is(stage.run_id, stage.name)
                db.execute(stages.update().where(mine).values(lease_until=now + lease))
