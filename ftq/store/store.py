"""RunStore: the one door to the database. Only its verbs write.

A stage is claimed by one guarded UPDATE that takes a lease with an owner's token; every later write is guarded by
that token, so a process that lost its lease can change nothing. Times are seconds since the epoch (UTC).
SQL is here and in RunStore's parts: database.py, attempts.py, questions.py, workers.py, plans.py, fleet/, gateway/.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from ftq.errors import NameTaken, Refused, utf8
from ftq.files.run_dir import STAGES
from ftq.store.attempts import Attempts
from ftq.store.database import is_id, owned_by
from ftq.store.fleet.parts import FleetParts
from ftq.store.gateway.files import hold_documents
from ftq.store.gateway.parts import GatewayParts
from ftq.store.gateway.tables import deliveries, jobs
from ftq.store.plans import Plans
from ftq.store.questions import Questions
from ftq.store.records import Event, Run, id_in
from ftq.store.schema import events, questions, runs, stages
from ftq.store.versions import MODEL_STAGES, ambiguous, unfound
from ftq.store.workers import Workers

LOOKED_AT = 500  # runs, the newest, among which one may be meant that was misspelt
# Newest first, in the order of the submits: a machine's clock may be ahead by hours, and `gc` deletes by this order.
_SUBMITTED = sa.select(sa.func.min(events.c.id)).where(events.c.run_id == runs.c.id).scalar_subquery()
_NEWEST = (_SUBMITTED.desc(), runs.c.created_at.desc(), runs.c.id)
_EVENTS = (  # built once: clients poll it
    sa.select(events)
    .where(events.c.run_id == sa.bindparam("run_id"), events.c.id > sa.bindparam("after"))
    .order_by(events.c.id)
)


class RunStore(Attempts, Questions, Workers, Plans, FleetParts, GatewayParts):
    """The whole store: the verbs about runs, and those of its parts."""

    # ---- what the user asks for -------------------------------------------------------------------------

    def create(
        self,
        run_id: str,
        name: str,
        spec: dict[str, Any],
        documents_hash: str,
        family: str | None = None,
        owner: str = "",
        documents: int = 0,
        bucket: str | None = None,
    ) -> Run:
        """Record a run with all its stages queued. NameTaken if another run has the name.

        Once it has succeeded it is a version of `family`, or of its own name. `owner` is the id of the key that asked
        for it, or empty; `documents` are the bytes that it has sent. Full if it may store no more. `bucket` is the URL
        of the place that its files are in, empty where that is a folder.
        """
        try:
            with self.writing() as db:
                now = self._now(db)
                row = {"id": run_id, "name": name, "family": family or name, "model": spec["model"], "spec": spec}
                db.execute(runs.insert().values(**row, documents_hash=documents_hash, created_at=now, owner=owner))
                for position, stage in enumerate(STAGES):
                    db.execute(
                        stages.insert().values(
                            run_id=run_id, name=stage, position=position, queued_at=now if position == 0 else None
                        )
                    )
                if documents:
                    hold_documents(db, run_id, owner, documents)
                place: dict[str, Any] = {} if bucket is None else {"bucket": bucket}
                self._event(db, run_id, "submitted", f"submitted as {name}: {spec['model']}", **place)
        except sa.exc.IntegrityError:
            raise NameTaken(name) from None
        return self.get(run_id)

    def cancel(self, run_id: str) -> Run:
        """Cancel a run: queued stages now, a running one as soon as its supervisor sees it or its lease ends."""
        with self.writing() as db:
            return self._cancel(db, self._locked(db, run_id))

    def cancel_attempt(self, run_id: str, stage: str, attempt: int, begun: bool = False) -> None:
        """Cancel the run if this attempt still waits; with `begun` also if it is running or has just ended.

        The message that was revoked may be an old one, of an earlier attempt.
        """
        with self.writing() as db:
            run = self._locked(db, run_id)
            if run.stage(stage).attempt == attempt and (begun or run.stage(stage).status == "queued"):
                self._cancel(db, run)

    def pause(self, run_id: str) -> Run:
        """Pause a run: nothing more starts, a running stage saves its checkpoint and goes back to the queue."""
        with self.writing() as db:
            run = self._locked(db, run_id)
            if run.is_finished or run.wanted != "run":
                return run
            db.execute(runs.update().where(runs.c.id == run_id).values(wanted="pause"))
            self._event(db, run_id, "paused", "paused by the user")
            return self._load(db, run_id)

    def resume(self, run_id: str) -> Run:
        """Undo a pause. The caller sends the remaining stages."""
        with self.writing() as db:
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

        A stage that the user names is done anew, without cache and old checkpoints. A version whose model is made anew
        is gone: the run gets a new number when it succeeds again. A run that waits after a loss goes on now. The caller
        sends the stages.
        """
        with self.writing() as db:
            run = self._locked(db, run_id)
            if from_stage is None and run.status == "queued" and not self._is_ready(db, run):
                return self._try_now(db, run)
            if not run.is_finished:
                if run.wanted == "cancel":
                    ends = "takes it up once its stage has stopped, in some seconds."
                    raise Refused(f"run {run.name} is still being cancelled", f"`ftq retry {run.name}` {ends}")
                verb = "resume" if run.wanted == "pause" else "cancel"
                raise Refused(
                    f"run {run.name} is {run.status}, there is nothing to retry",
                    f"Did you mean `ftq {verb} {run.name}`?",
                )
            first = from_stage or (run.current.name if run.current else None)
            if first is None:
                raise Refused(
                    f"run {run.name} succeeded, there is nothing to retry",
                    f"`ftq retry {run.name} --from train` trains it anew.",
                )
            if run.current and STAGES.index(first) > STAGES.index(run.current.name):
                raise Refused(
                    f"run {run.name} can't go on from {first}: {run.current.name} isn't done",
                    f"`ftq retry {run.name}` goes on from {run.current.name}.",
                )
            revision = None if first == STAGES[0] else run.revision
            db.execute(runs.update().where(runs.c.id == run_id).values(wanted="run", revision=revision))
            self._add_stages(db, run)
            for stage in run.stages[STAGES.index(first) :]:
                anew = from_stage is not None
                db.execute(
                    stages.update()
                    .where(self._is(run_id, stage.name))
                    .values(
                        status="queued",
                        attempt=stage.attempt + 1,
                        tries=0,
                        losses=0,
                        cached=False,
                        key=None,
                        owner=None,
                        lease_until=None,
                        queued_at=None,
                        started_at=None,
                        finished_at=None,
                        progress=None,
                        error=None,
                        plan=None if anew else stage.plan,
                        changes=None if anew else stage.changes,
                        fresh_from=stage.attempt + 1 if anew else stage.fresh_from,
                    )
                )
            self._touch_queue(db, run_id, first)
            self._event(db, run_id, "retried", f"retried by the user from {first}", first)
            if first in MODEL_STAGES:
                self._end_version(db, run, f"retried from {first}")
            return self._load(db, run_id)

    def keep(self, run_id: str, kept: bool) -> None:
        with self.writing() as db:
            db.execute(runs.update().where(runs.c.id == run_id).values(kept=kept))

    def delete(self, run_id: str, put_away: Callable[[], Any] = lambda: None, *, old: bool = False) -> None:
        """Delete a run's rows and call `put_away`, which moves its files aside, before the commit. Refused if running.

        `old` is for runs chosen as old ones: also Refused if the run is kept, is `latest` or isn't finished any
        more. A person may have thought for minutes since it was listed.
        """
        with self.writing() as db:
            run = self._locked(db, run_id)
            if run.status == "running":
                raise Refused(f"run {run.name} is running", f"`ftq cancel {run.name}` first.")
            is_latest = run.version_name in self._latest_names(db)
            if old and (run.kept or is_latest or not run.is_finished):
                state = "kept" if run.kept else f"{run.family}:latest" if is_latest else run.status
                raise Refused(f"run {run.name} is {state} now", f"`ftq rm {run.name}`")
            self._end_version(db, run, "removed")
            for table in (events, questions, stages, jobs, deliveries):
                db.execute(table.delete().where(table.c.run_id == run_id))
            db.execute(runs.delete().where(runs.c.id == run_id))
            put_away()

    # ---- what anybody may read --------------------------------------------------------------------------

    def get(self, run_id: str) -> Run:
        with self.reading() as db:
            return self._load(db, run_id)

    def all(self, limit: int | None = None, owner: str | None = None, skip: int = 0) -> list[Run]:
        """Every run, or `limit` of them after the first `skip`; the newest first. With an `owner` that key's alone."""
        query = sa.select(runs).where(owned_by(owner)).order_by(*_NEWEST).limit(limit)
        with self.reading() as db:
            return self._runs(db, query.offset(skip or None))

    def some(self, ids: Sequence[str], owner: str | None = None) -> list[Run]:
        """Those of these runs that are there, in no order. With an `owner` those of that key alone."""
        mine = runs.c.id.in_([one for one in ids if is_id(one)]) & owned_by(owner)
        with self.reading() as db:
            return self._runs(db, sa.select(runs).where(mine))

    def count(self, owner: str | None = None) -> int:
        with self.reading() as db:
            return db.execute(sa.select(sa.func.count()).select_from(runs).where(owned_by(owner))).scalar_one()

    def find(self, text: str, owner: str | None = None) -> Run:
        """A run by id, by name, by a unique prefix of its id, or as a version; NotFound names recent or matching runs.

        `handbook:2` is a version, `handbook:latest` the promoted one. ftjob-ID and ft:BASE:ORG:SUFFIX:ID are how the
        gateway's clients know a run. With an `owner` the others' runs aren't there.
        """
        text = id_in(utf8(text))
        if ":" in text:
            return self.get(self.find_version(text, owner))
        blank, matches = not text.strip(), list[str]()  # an empty text would be a prefix of every id
        ways = (runs.c.id == text, runs.c.name == text, runs.c.id.startswith(text, autoescape=True))
        with self.reading() as db:
            for way in () if blank else ways:
                matches = matches or list(db.execute(sa.select(runs.c.id).where(way, owned_by(owner))).scalars())
            if len(matches) == 1:
                return self._load(db, matches[0])
            newest = sa.select(runs.c.id, runs.c.name).where(owned_by(owner)).order_by(*_NEWEST)
            if matches:
                several = db.execute(newest.where(runs.c.id.in_(matches[:LOOKED_AT])))
                raise ambiguous(text, len(matches), several.all())
            latest = db.execute(newest.limit(LOOKED_AT)).all()
            raise unfound(text, latest, has_versions=self._latest_of(db, text, owner) is not None)

    def names(self, prefix: str, owner: str | None = None) -> set[str]:
        query = sa.select(runs.c.name).where(runs.c.name.startswith(prefix, autoescape=True), owned_by(owner))
        with self.reading() as db:
            return set(db.execute(query).scalars())

    def events(self, run_id: str, after: int = 0) -> list[Event]:
        """The run's events whose id is greater than `after`, in order."""
        with self.reading() as db:
            return [
                Event(row.id, row.at, row.stage, row.attempt, row.kind, row.message, row.data)
                for row in db.execute(_EVENTS, {"run_id": run_id, "after": after})
            ]

    def find_cached(self, stage: str, key: str) -> str | None:
        """The newest run whose stage succeeded with this key."""
        query = (
            sa.select(stages.c.run_id)
            .where(stages.c.name == stage, stages.c.key == key, stages.c.status == "succeeded")
            .order_by(stages.c.finished_at.desc())
        )
        with self.reading() as db:
            return db.execute(query.limit(1)).scalar()

    # ---- inside -----------------------------------------------------------------------------------------

    def _add_stages(self, db: sa.Connection, run: Run) -> None:
        """Queue the stages that a run of an earlier version lacks."""
        for position, stage in list(enumerate(STAGES))[len(run.stages) :]:
            db.execute(stages.insert().values(run_id=run.id, name=stage, position=position))

    def _cancel(self, db: sa.Connection, run: Run) -> Run:
        if run.is_finished or run.wanted == "cancel":
            return run
        db.execute(runs.update().where(runs.c.id == run.id).values(wanted="cancel"))
        queued = (stages.c.run_id == run.id) & (stages.c.status == "queued")
        values = {"status": "cancelled", "started_at": None, "finished_at": self._now(db)}
        db.execute(stages.update().where(queued).values(**values))
        self._event(db, run.id, "cancelled", "cancelled by the user")
        return self._load(db, run.id)

    def _try_now(self, db: sa.Connection, run: Run) -> Run:
        """End the wait of a run after a loss, and set the count of its losses back to 0."""
        waiting = next(stage.name for stage in run.stages if stage.status == "queued")
        db.execute(stages.update().where(self._is(run.id, waiting)).values(losses=0))
        self._touch_queue(db, run.id, waiting)
        self._event(db, run.id, "retried", f"retried by the user: {waiting} waits no longer")
        return self._load(db, run.id)
