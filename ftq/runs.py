"""RunStore: runs, stages and events. The one door to the database, and its verbs are the only writers.

A stage is claimed by one guarded UPDATE that takes a lease with an owner's token; every later write is guarded by
that token, so a process that lost its lease can change nothing. Times are seconds since the epoch (UTC).
SQL stands here and in the parts that RunStore is made of: database.py, questions.py, workers.py, plans.py.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from ftq.artifacts import STAGES
from ftq.database import storable
from ftq.errors import LeaseLost, NameTaken, NotFound, Refused, Unavailable, utf8
from ftq.plans import Plans
from ftq.questions import Questions
from ftq.records import FINISHED, Event, Run, Stage
from ftq.schema import events, questions, runs, stages, workers
from ftq.workers import Workers


class RunStore(Questions, Workers, Plans):
    """The whole store: the verbs of runs and stages here, and those of its parts."""

    # ---- what the user asks for -------------------------------------------------------------------------

    def create(self, run_id: str, name: str, spec: dict[str, Any], documents_hash: str) -> Run:
        """Record a run with all its stages queued. NameTaken if another run has the name."""
        now = self.clock()
        try:
            with self._write() as db:
                row = {"id": run_id, "name": name, "model": spec["model"], "spec": spec}
                db.execute(runs.insert().values(**row, documents_hash=documents_hash, created_at=now))
                for position, stage in enumerate(STAGES):
                    db.execute(stages.insert().values(run_id=run_id, name=stage, position=position,
                                                      queued_at=now if position == 0 else None))  # fmt: skip
                self._event(db, run_id, "submitted", f"submitted as {name}: {spec['model']}")
        except sa.exc.IntegrityError:
            raise NameTaken(name) from None
        return self.get(run_id)

    def cancel(self, run_id: str) -> Run:
        """Queued stages are cancelled now; a running one when its supervisor sees it, or its lease ends."""
        with self._write() as db:
            return self._cancel(db, self._locked(db, run_id))

    def cancel_attempt(self, run_id: str, stage: str, attempt: int) -> None:
        """Cancel the run if this attempt still waits: a message that was revoked may be an old one."""
        with self._write() as db:
            run = self._locked(db, run_id)
            if (run.stage(stage).status, run.stage(stage).attempt) == ("queued", attempt):
                self._cancel(db, run)

    def pause(self, run_id: str) -> Run:
        """Nothing more starts; a running stage saves its checkpoint and goes back to the queue."""
        with self._write() as db:
            run = self._locked(db, run_id)
            if run.is_finished or run.wanted != "run":
                return run
            db.execute(runs.update().where(runs.c.id == run_id).values(wanted="pause"))
            self._event(db, run_id, "paused", "paused by the user")
            return self._load(db, run_id)

    def resume(self, run_id: str) -> Run:
        """Undo a pause. The caller sends the remaining stages."""
        with self._write() as db:
            run = self._locked(db, run_id)
            if run.wanted != "pause":
                return run
            db.execute(runs.update().where(runs.c.id == run_id).values(wanted="run"))
            if run.current:
                self._touch_queue(db, run_id, run.current.name)
            self._event(db, run_id, "resumed", "resumed by the user")
            return self._load(db, run_id)

    def retry(self, run_id: str, from_stage: str | None = None) -> Run:
        """Queue a finished run's stages again, from the one that didn't succeed or from `from_stage` on.

        A stage named by the user is done anew: no cache, no old checkpoint. The caller sends the stages.
        """
        with self._write() as db:
            run = self._locked(db, run_id)
            if not run.is_finished:
                verb = "resume" if run.wanted == "pause" else "cancel"
                raise Refused(f"run {run.name} is {run.status}, there is nothing to retry",
                              f"Did you mean `ftq {verb} {run.name}`?")  # fmt: skip
            first = from_stage or (run.current.name if run.current else None)
            if first is None:
                raise Refused(f"run {run.name} succeeded, there is nothing to retry",
                              f"`ftq retry {run.name} --from train` trains it anew.")  # fmt: skip
            if run.current and STAGES.index(first) > STAGES.index(run.current.name):
                raise Refused(f"run {run.name} can't go on from {first}: {run.current.name} isn't done",
                              f"`ftq retry {run.name}` goes on from {run.current.name}.")  # fmt: skip
            db.execute(runs.update().where(runs.c.id == run_id).values(wanted="run"))
            for stage in run.stages[STAGES.index(first) :]:
                anew = from_stage is not None
                db.execute(stages.update().where(self._is(run_id, stage.name)).values(
                    status="queued", attempt=stage.attempt + 1, tries=0, cached=False, key=None, owner=None,
                    lease_until=None, queued_at=None, started_at=None, finished_at=None, progress=None, error=None,
                    plan=None if anew else stage.plan, changes=None if anew else stage.changes,
                    fresh_from=stage.attempt + 1 if anew else stage.fresh_from))  # fmt: skip
            self._touch_queue(db, run_id, first)
            self._event(db, run_id, "retried", f"retried by the user from {first}", first)
            return self._load(db, run_id)

    def keep(self, run_id: str, kept: bool) -> None:
        with self._write() as db:
            db.execute(runs.update().where(runs.c.id == run_id).values(kept=kept))

    def delete(self, run_id: str, put_away: Callable[[], Any] = lambda: None, *, old: bool = False) -> None:
        """Forget a run; `put_away` takes its files aside meanwhile. Refused while it is running.

        With `old` also if it is kept or not finished any more: a person has been asked since the run was chosen.
        """
        with self._write() as db:
            run = self._locked(db, run_id)
            if run.status == "running":
                raise Refused(f"run {run.name} is running", f"`ftq cancel {run.name}` first.")
            if old and (run.kept or not run.is_finished):
                raise Refused(f"run {run.name} is {'kept' if run.kept else run.status} now", f"`ftq rm {run.name}`")
            for table in (events, questions, stages):
                db.execute(table.delete().where(table.c.run_id == run_id))
            db.execute(runs.delete().where(runs.c.id == run_id))
            put_away()

    # ---- what anybody may read --------------------------------------------------------------------------

    def get(self, run_id: str) -> Run:
        with self._read() as db:
            return self._load(db, run_id)

    def all(self, limit: int | None = None) -> list[Run]:
        """Every run, or the latest so many; the newest first."""
        with self._read() as db:
            return self._runs(db, sa.select(runs).order_by(runs.c.created_at.desc(), runs.c.id).limit(limit))

    def count(self) -> int:
        with self._read() as db:
            return db.execute(sa.select(sa.func.count()).select_from(runs)).scalar_one()

    def find(self, wanted: str) -> Run:
        """A run by id, else by name, else by a unique prefix of its id. NotFound names what there is."""
        wanted = utf8(wanted)
        blank, matches = not wanted.strip(), list[str]()  # an empty text would be a prefix of every id
        ways = (runs.c.id == wanted, runs.c.name == wanted, runs.c.id.startswith(wanted, autoescape=True))
        with self._read() as db:
            for way in () if blank else ways:
                matches = matches or list(db.execute(sa.select(runs.c.id).where(way)).scalars())
            if len(matches) == 1:
                return self._load(db, matches[0])
            latest = sa.select(runs.c.id, runs.c.name).order_by(runs.c.created_at.desc()).limit(3)
            recent = ", ".join(f"{row.id} ({row.name})" for row in db.execute(latest))
        if matches:
            raise NotFound(
                f"{wanted} matches {len(matches)} runs: {', '.join(sorted(matches)[:5])}", "Type more of the id."
            )
        message = "no run is named: the name is empty" if blank else f"no run matches {wanted}"
        raise NotFound(message, f"Recent runs: {recent}" if recent else "There is no run yet: `ftq submit`.")

    def names(self, prefix: str) -> set[str]:
        with self._read() as db:
            return set(
                db.execute(sa.select(runs.c.name).where(runs.c.name.startswith(prefix, autoescape=True))).scalars()
            )

    def events(self, run_id: str, after: int = 0) -> list[Event]:
        """The run's events in order, those with a greater id than `after`."""
        query = sa.select(events).where(events.c.run_id == run_id, events.c.id > after).order_by(events.c.id)
        with self._read() as db:
            return [
                Event(row.id, row.at, row.stage, row.attempt, row.kind, row.message, row.data)
                for row in db.execute(query)
            ]

    def find_cached(self, stage: str, key: str) -> str | None:
        """The newest run whose stage succeeded with this key."""
        query = (
            sa.select(stages.c.run_id)
            .where(stages.c.name == stage, stages.c.key == key, stages.c.status == "succeeded")
            .order_by(stages.c.finished_at.desc())
        )
        with self._read() as db:
            return db.execute(query.limit(1)).scalar()

    # ---- what a worker does -----------------------------------------------------------------------------

    def claim(self, run_id: str, stage: str, attempt: int, worker: str, lease_seconds: float) -> str | None:
        """Take the stage and its lease; the owner's token, or None if it isn't there to be taken."""
        now, token = self.clock(), secrets.token_hex(16)
        earlier = stages.alias()
        blocked = sa.exists().where(
            earlier.c.run_id == run_id, earlier.c.position < STAGES.index(stage), earlier.c.status != "succeeded"
        )
        allowed = sa.exists().where(runs.c.id == run_id, runs.c.wanted == "run")
        guard = self._is(run_id, stage) & (stages.c.status == "queued") & (stages.c.attempt == attempt)
        with self._write() as db:
            taken = db.execute(stages.update().where(guard, ~blocked, allowed).values(
                status="running", owner=token, worker=worker, lease_until=now + lease_seconds, tries=stages.c.tries + 1,
                started_at=now, finished_at=None, error=None, progress=None))  # fmt: skip
            if taken.rowcount != 1:
                return None
            self._event(db, run_id, "claimed", f"claimed by {worker}", stage, attempt, worker=worker)
        return token

    def renew(self, token: str, lease_seconds: float) -> None:
        """Hold the lease for so long from now. LeaseLost if it is no longer ours."""
        self._guarded(token, lease_until=self.clock() + lease_seconds)

    @contextlib.contextmanager
    def hold(self, token: str, lease_seconds: float) -> Iterator[None]:
        """Renew the lease, and let nobody take the stage away inside this block: for putting its files in place.

        Without it, a process frozen between its last look at the lease and the renaming would wake up long after
        another has published, and overwrite that. LeaseLost if it is no longer ours.
        """
        with self._write() as db:
            self._owned(db, token)
            yield
            mine = stages.c.owner == token
            db.execute(stages.update().where(mine).values(lease_until=self.clock() + lease_seconds))

    def check(self, token: str) -> tuple[str, bool]:
        """(what the user wants: run, pause or cancel; whether this worker was told to stop). LeaseLost if not ours."""
        query = (
            sa.select(runs.c.wanted, workers.c.draining)
            .select_from(stages.join(runs).outerjoin(workers, workers.c.name == stages.c.worker))
            .where(stages.c.owner == token, stages.c.status == "running")
        )
        with self._read() as db:
            row = db.execute(query).first()
        if row is None:
            raise LeaseLost("another process holds this stage now")
        return row.wanted, bool(row.draining)

    def say_lease_lost(self, run_id: str, stage: str, attempt: int, worker: str) -> None:
        """The late process says so in the event log; it may write nothing else."""
        with self._write() as db:
            message = f"{worker} came too late: its lease was over, it published nothing"
            if self._wanted(db, run_id):  # the run may have been deleted since
                self._event(db, run_id, "lease_lost", message, stage, attempt)

    def cancel_by_token(self, token: str) -> None:
        """Cancel the run whose stage the token holds."""
        with self._write() as db:
            run_id = self._owned(db, token).run_id
        self.cancel(run_id)

    def progress(self, token: str, progress: dict[str, Any]) -> None:
        self._guarded(token, progress={**progress, "updated_at": self.clock()})

    def note(self, token: str, kind: str, message: str, **data: Any) -> None:
        """An event of the stage that the token holds. A saved checkpoint proves that the attempt brought something."""
        with self._write() as db:
            stage = self._owned(db, token)
            if kind == "checkpoint":
                db.execute(stages.update().where(stages.c.owner == token).values(tries=1))
            self._event(db, stage.run_id, kind, message, stage.name, stage.attempt, **data)

    def succeed(self, token: str, key: str | None, artifacts: list[dict[str, Any]], cached: bool = False) -> None:
        """The stage is done and its files are in place; the next stage is now the head of the run."""
        with self._write() as db:
            stage = self._owned(db, token)
            self._update_owned(db, token, status="succeeded", key=key, artifacts=artifacts, cached=cached)
            message = "cache hit: nothing that goes into this stage has changed" if cached else "succeeded"
            self._event(db, stage.run_id, "cache_hit" if cached else "succeeded", message, stage.name, stage.attempt)
            if stage.position + 1 < len(STAGES):
                self._touch_queue(db, stage.run_id, STAGES[stage.position + 1])

    def fail(self, token: str, error: dict[str, str]) -> None:
        """The stage failed for good, and the run with it."""
        with self._write() as db:
            stage = self._owned(db, token)
            error = {name: storable(text) for name, text in error.items()}
            self._update_owned(db, token, status="failed", error=error)
            self._event(
                db, stage.run_id, "failed", f"failed ({error['kind']}): {error['message']}", stage.name, stage.attempt
            )

    def release(self, token: str, kind: str, message: str, *, changes: dict[str, Any] | None = None,
                counts: bool = False) -> None:  # fmt: skip
        """Give the stage back to the queue as a new attempt, or cancel it if the user wants that.

        `counts` says whether this attempt counts towards the most attempts a stage may have.
        """
        with self._write() as db:
            self._requeue(db, self._owned(db, token), kind, message, changes, counts)

    def expire(self, max_attempts: int) -> Sequence[str]:
        """Take back every stage whose lease has ended; the ids of the runs that go on."""
        with self._write() as db:
            over = (stages.c.status == "running") & (stages.c.lease_until < self.clock())
            lost = db.execute(sa.select(stages).where(over).with_for_update(skip_locked=True)).all()
            for stage in lost:
                self._give_up_or_requeue(db, stage, max_attempts, f"lease lost: no sign of life from {stage.worker}")
        return [stage.run_id for stage in lost]

    def expire_attempt(self, run_id: str, stage: str, attempt: int, max_attempts: int,
                       worker: str | None = None) -> Sequence[str]:  # fmt: skip
        """The same at once for an attempt whose process is known to have died, if that worker (or any) held it."""
        with self._write() as db:
            held = self._is(run_id, stage) & (stages.c.status == "running") & (stages.c.attempt == attempt)
            if worker:
                held &= stages.c.worker == worker
            lost = db.execute(sa.select(stages).where(held).with_for_update()).all()
            for row in lost:
                self._give_up_or_requeue(db, row, max_attempts, f"the process of {row.worker} that held it died")
        return [row.run_id for row in lost]

    def _give_up_or_requeue(self, db: sa.Connection, stage: Any, max_attempts: int, message: str) -> None:
        if stage.tries < max_attempts or self._wanted(db, stage.run_id) == "cancel":
            self._requeue(db, stage, "lost", message, None, counts=True)
            return
        error = {"kind": "lost", "message": f"{message}, {stage.tries} times in a row",
                 "hint": f"See `ftq logs {stage.run_id}`; `ftq retry {stage.run_id}` tries again."}  # fmt: skip
        db.execute(stages.update().where(self._is(stage.run_id, stage.name)).values(
            status="failed", error=error, owner=None, lease_until=None, finished_at=self.clock()))  # fmt: skip
        self._event(db, stage.run_id, "failed", f"failed (lost): {error['message']}", stage.name, stage.attempt)

    def waiting(self, grace_seconds: float) -> list[Run]:
        """Runs whose next stage has been queued longer than the grace: their message may be gone."""
        head = (stages.c.status == "queued") & (stages.c.queued_at < self.clock() - grace_seconds)
        query = sa.select(stages.c.run_id).join(runs).where(head, runs.c.wanted == "run").order_by(stages.c.queued_at)
        with self._read() as db:
            return [self._load(db, run_id) for run_id in db.execute(query).scalars().all()]

    # ---- inside -----------------------------------------------------------------------------------------

    def _cancel(self, db: sa.Connection, run: Run) -> Run:
        if run.is_finished or run.wanted == "cancel":
            return run
        db.execute(runs.update().where(runs.c.id == run.id).values(wanted="cancel"))
        queued = (stages.c.run_id == run.id) & (stages.c.status == "queued")
        db.execute(stages.update().where(queued).values(status="cancelled", started_at=None, finished_at=self.clock()))
        self._event(db, run.id, "cancelled", "cancelled by the user")
        return self._load(db, run.id)

    def _requeue(self, db: sa.Connection, stage: Any, kind: str, message: str, changes: dict[str, Any] | None,
                 counts: bool) -> None:  # fmt: skip
        values: dict[str, Any] = {"owner": None, "lease_until": None}
        if self._wanted(db, stage.run_id) == "cancel":
            values |= {"status": "cancelled", "finished_at": self.clock()}
            kind, message = "cancelled", "stopped: cancelled by the user"
        else:
            values |= {"status": "queued", "attempt": stage.attempt + 1, "queued_at": self.clock(),
                       "tries": stage.tries if counts else 0, "changes": changes or stage.changes}  # fmt: skip
        db.execute(stages.update().where(self._is(stage.run_id, stage.name)).values(**values))
        self._event(db, stage.run_id, kind, message, stage.name, stage.attempt)

    def _touch_queue(self, db: sa.Connection, run_id: str, stage: str) -> None:
        db.execute(stages.update().where(self._is(run_id, stage)).values(queued_at=self.clock()))


__all__ = ["FINISHED", "Event", "Run", "RunStore", "Stage", "Unavailable"]
