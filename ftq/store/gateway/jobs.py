"""Jobs: runs as the gateway's clients ask for them. What was asked is kept before the run is made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ftq.errors import NotFound, Refused
from ftq.store.database import Verbs, is_id, owned_by, run_of, stage_of
from ftq.store.gateway.files import SENT_AGAIN
from ftq.store.gateway.tables import jobs
from ftq.store.records import Run
from ftq.store.schema import runs, stages, versions

if TYPE_CHECKING:
    Row = sa.Row[Any]

KEY_LIVES = 86_400  # seconds that an Idempotency-Key counts


@dataclass(frozen=True)
class Job:
    """What a client asked for: `asked` is the body as it came. The run of `run_id` is made after it, or was."""

    run_id: str
    owner: str
    asked: dict[str, Any]
    seed: int
    created_at: float = 0.0


@dataclass(frozen=True)
class Tuned:
    """A model that a run has made, as it is listed."""

    run_id: str
    run: str
    base: str
    suffix: str
    version: str
    created_at: float


class Jobs(Verbs):
    """As `store.jobs`. An `owner` of None sees everybody's: an admin's key."""

    # ---- making one -------------------------------------------------------------------------------------

    def begin(self, job: Job, key: str | None = None, again: bool = False) -> Job:
        """Keep what is asked, or return the job that an earlier sending of the same request began.

        Requests are the same by their Idempotency-Key; where one is sent `again` without it, by owner and body.
        Refused if the key came with another body before.
        """
        body_hash = _hash(job.asked)
        with self._database.writing() as db:
            now = self._database.clock()
            earlier = self._by_key(db, job.owner, key, now) if key else None
            if earlier and earlier.body_hash != body_hash:
                raise Refused("This Idempotency-Key came with another body before.", "Send a new key with a new body.")
            if again and not key:
                earlier = self._same(db, job.owner, body_hash, now)
            if earlier:
                return _job(earlier)
            row = {"run_id": job.run_id, "owner": job.owner, "asked": job.asked, "seed": job.seed}
            db.execute(jobs.insert().values(**row, body_hash=body_hash, idempotency_key=key, created_at=now))
        return replace(job, created_at=now)

    def forget(self, run_id: str) -> None:
        """Delete what was asked if no run came of it: it was refused."""
        made = sa.exists().where(runs.c.id == run_id)
        with self._database.writing() as db:
            db.execute(jobs.delete().where(jobs.c.run_id == run_id, ~made))

    # ---- reading ----------------------------------------------------------------------------------------

    def run(self, run_id: str) -> Run | None:
        """The run of this very id; None if there is none."""
        with self._database.reading() as db:
            return next(iter(self._database._runs(db, sa.select(runs).where(runs.c.id == run_id))), None)

    def find(self, run_id: str, owner: str | None) -> tuple[Run, Job | None] | None:
        """The run and what was asked, None for a run of `ftq submit`. None if there is no such run of the owner's."""
        if not is_id(run_id):
            return None
        with self._database.reading() as db:
            row = db.execute(_ONE, {"run_id": run_id}).first()
            if row is None or owner not in (None, row.owner):
                return None
            run = run_of(row._mapping)
            parts = db.execute(_STAGES, {"run_id": run_id}).mappings()
            run.stages.extend(stage_of(run.name, part) for part in parts)
        return (run, _asked(row)) if run.stages else None  # it may have been deleted between the two

    def page(
        self, owner: str | None, limit: int, after: str | None = None, metadata: Mapping[str, str] | None = None
    ) -> list[tuple[Run, Job | None]]:
        """At most `limit` runs, the newest first. NotFound for an `after` that isn't there.

        With `metadata` those that have all of these pairs; with an empty one those that have none.
        """
        with self._database.reading() as db:
            query = _of(owner).order_by(runs.c.created_at.desc(), runs.c.id.desc())
            if after is not None:
                query = query.where(self._older_than(db, after, owner))
            if metadata is None:
                return self._both(db, query.limit(limit))
            ids = self._with_metadata(db, query, metadata, limit)
            return self._both(db, query.where(runs.c.id.in_(ids)))

    def models(self, owner: str | None) -> list[Tuned]:
        """The models of finished runs, the newest first; those that were deleted are none any more."""
        query = (
            _of(owner)
            .with_only_columns(runs, versions.c.created_at.label("made_at"), jobs.c.asked)
            .join(versions, (versions.c.run_id == runs.c.id) & versions.c.gone.is_(None))
            .outerjoin(jobs, jobs.c.run_id == runs.c.id)
            .where(runs.c.version.is_not(None))
            .order_by(versions.c.created_at.desc())
        )
        with self._database.reading() as db:
            return [
                Tuned(
                    row.id,
                    row.name,
                    row.model,
                    (row.asked or {}).get("suffix", ""),
                    f"{row.family or row.name}:{row.version}",
                    row.made_at,
                )
                for row in db.execute(query)
            ]

    # ---- inside -----------------------------------------------------------------------------------------

    def _by_key(self, db: sa.Connection, owner: str, key: str, now: float) -> Row | None:
        """The job of an Idempotency-Key. One that is too old gives the key up."""
        mine = (jobs.c.owner == owner) & (jobs.c.idempotency_key == key)
        db.execute(jobs.update().where(mine, jobs.c.created_at < now - KEY_LIVES).values(idempotency_key=None))
        return db.execute(sa.select(jobs).where(mine)).first()

    def _same(self, db: sa.Connection, owner: str, body_hash: str, now: float) -> Row | None:
        same = (jobs.c.owner == owner) & (jobs.c.body_hash == body_hash) & (jobs.c.created_at > now - SENT_AGAIN)
        return db.execute(sa.select(jobs).where(same).order_by(jobs.c.created_at.desc())).first()

    def _older_than(self, db: sa.Connection, run_id: str, owner: str | None) -> sa.ColumnElement[bool]:
        last = db.execute(_of(owner).where(runs.c.id == run_id)).first()
        if last is None:
            raise NotFound(f"no job ftjob-{run_id}")
        edge = sa.tuple_(sa.literal(last.created_at), sa.literal(last.id))
        return sa.tuple_(runs.c.created_at, runs.c.id) < edge

    def _with_metadata(
        self, db: sa.Connection, query: sa.Select[Any], metadata: Mapping[str, str], limit: int
    ) -> list[str]:
        """The ids of the first so many. JSON in the database is searched differently by each kind of it: not there."""
        asked = query.with_only_columns(runs.c.id, jobs.c.asked).outerjoin(jobs, jobs.c.run_id == runs.c.id)
        ids = list[str]()
        for row in db.execute(asked):
            found = (row.asked or {}).get("metadata") or {}
            if (metadata.items() <= found.items()) if metadata else not found:
                ids.append(row.id)
            if len(ids) == limit:
                break
        return ids

    def _both(self, db: sa.Connection, query: sa.Select[Any]) -> list[tuple[Run, Job | None]]:
        """The runs of a query with their stages, and what was asked: two queries, as many runs as there may be."""
        rows = db.execute(_with_asked(query)).all()
        found = {row.id: run_of(row._mapping) for row in rows}
        parts = sa.select(stages).where(stages.c.run_id.in_(found)).order_by(stages.c.run_id, stages.c.position)
        for part in db.execute(parts).mappings():
            found[part["run_id"]].stages.append(stage_of(found[part["run_id"]].name, part))
        both = [(found[row.id], _asked(row)) for row in rows]
        return [(run, job) for run, job in both if run.stages]  # one may have been deleted between the two


def _of(owner: str | None) -> sa.Select[Any]:
    return sa.select(runs).where(owned_by(owner))


def _with_asked(query: sa.Select[Any]) -> sa.Select[Any]:
    """A query of runs, with what was asked."""
    asked = [jobs.c.asked, jobs.c.seed, jobs.c.owner.label("asker"), jobs.c.created_at.label("at")]
    return query.add_columns(*asked).outerjoin(jobs, jobs.c.run_id == runs.c.id)


def _asked(row: Row) -> Job | None:
    return Job(row.id, row.asker, row.asked, row.seed, row.at) if row.asked else None


# Clients poll one job: building these statements anew took longer than the database.
_ONE = _with_asked(sa.select(runs).where(runs.c.id == sa.bindparam("run_id")))
_STAGES = sa.select(stages).where(stages.c.run_id == sa.bindparam("run_id")).order_by(stages.c.position)


def _hash(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _job(row: Row) -> Job:
    return Job(row.run_id, row.owner, row.asked, row.seed, row.created_at)
