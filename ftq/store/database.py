"""What every part of the store shares: the connection, and how a row is found, locked and guarded by its token."""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from ftq.errors import LeaseLost, NotFound, RunError, Unavailable, with_run
from ftq.files.artifact import Artifact
from ftq.store import schema
from ftq.store.records import Run, Stage
from ftq.store.schema import events, runs, stages
from ftq.store.server import postgres

LOCAL_CLOCK = time.time


class Database:
    """The connection and the shared statements. `clock` is an argument so that tests can step it."""

    def __init__(self, url: str, clock: Callable[[], float] = LOCAL_CLOCK, connect_seconds: int = 0) -> None:
        """A server has `connect_seconds` to take a connection, if they are named."""
        self.engine = schema.open_engine(url, connect_seconds)
        self.clock = clock
        self._asks_server = clock is LOCAL_CLOCK and self.engine.dialect.name == "postgresql"

    def close(self) -> None:
        self.engine.dispose()

    @cached_property
    def identity(self) -> str:
        """What tells this database from all others, wherever it is; a copy or a restored one has the same."""
        while True:
            with self.reading() as db:
                if known := db.scalar(sa.select(schema.identity.c.id)):
                    return str(known)
            with contextlib.suppress(sa.exc.IntegrityError), self.writing() as db:  # another process was first
                db.execute(schema.identity.insert().values(number=1, id=secrets.token_hex(16)))

    def now(self) -> float:
        """The time by which leases and signs of life are measured, in seconds since the epoch."""
        with self.reading() as db:
            return self._now(db)

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """A connection to read with."""
        return self._connection().execution_options(read=True)

    @contextmanager
    def writing(self, limit: Callable[[sa.Connection], None] = postgres.end_if_idle) -> Iterator[sa.Connection]:
        """A transaction that is committed when the block ends.

        The `limit` is what PostgreSQL ends it at otherwise: usually when the process is frozen in it.
        """
        with self._connection() as connection, connection.begin():
            if self.engine.dialect.name == "postgresql":
                limit(connection)
            yield connection

    def _connection(self) -> sa.Connection:
        try:
            return self.engine.connect()
        except sa.exc.TimeoutError:  # too many threads of this process, or each of theirs takes too long
            message = "no connection of this process to the database became free in time"
            raise Unavailable(message, "Try again; if it lasts, the database is slow: `ftq doctor`.") from None

    def _now(self, db: sa.Connection) -> float:
        """Seconds since the epoch, by the server's clock if there is a server: all machines have to agree."""
        if self._asks_server:
            return float(db.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one())
        return self.clock()

    def _is(self, run_id: str, stage: str) -> sa.ColumnElement[bool]:
        return (stages.c.run_id == run_id) & (stages.c.name == stage)

    def _wanted(self, db: sa.Connection, run_id: str) -> str | None:
        """What the user wants, locked until this transaction ends; None if the run was deleted."""
        query = sa.select(runs.c.wanted).where(runs.c.id == run_id).with_for_update(key_share=True)
        return db.execute(query).scalar()

    def _locked(self, db: sa.Connection, run_id: str) -> Run:
        """Load the run and lock it until this transaction ends (SQLite has locked everything anyway)."""
        self._wanted(db, run_id)
        return self._load(db, run_id)

    def _load(self, db: sa.Connection, run_id: str) -> Run:
        matches = self._runs(db, sa.select(runs).where(runs.c.id == run_id))
        if not matches:
            raise NotFound(f"no run {run_id}", "`ftq status` lists the runs.")
        return matches[0]

    def _runs(self, db: sa.Connection, query: sa.Select[Any]) -> list[Run]:
        by_id = {row.id: run_of(row._mapping) for row in db.execute(query)}
        ids = query.with_only_columns(runs.c.id).subquery()
        parts = sa.select(stages).join(ids, ids.c.id == stages.c.run_id)
        parts = parts.order_by(stages.c.run_id, stages.c.position)
        for row in db.execute(parts).mappings():
            if row["run_id"] in by_id:
                by_id[row.run_id].stages.append(stage_of(by_id[row.run_id].name, row))
        return [run for run in by_id.values() if run.stages]  # one may have been deleted between the two reads

    def _owned(self, db: sa.Connection, token: str) -> Any:
        query = sa.select(stages).where(stages.c.owner == token, stages.c.status == "running")
        stage = db.execute(query.with_for_update()).first()
        if stage is None:
            raise LeaseLost("another process holds this stage now")
        return stage

    def _guarded(self, db: sa.Connection, token: str, **values: Any) -> None:
        mine = (stages.c.owner == token) & (stages.c.status == "running")
        if db.execute(stages.update().where(mine).values(**values)).rowcount != 1:
            raise LeaseLost("another process holds this stage now")

    def _touch_queue(self, db: sa.Connection, run_id: str, stage: str) -> None:
        db.execute(stages.update().where(self._is(run_id, stage)).values(queued_at=self._now(db)))

    def _event(
        self,
        db: sa.Connection,
        run_id: str,
        kind: str,
        message: str,
        stage: str | None = None,
        attempt: int | None = None,
        **data: Any,
    ) -> None:
        if " RUN" in message:  # of a stage, which doesn't know the name
            message = with_run(message, db.scalar(sa.select(runs.c.name).where(runs.c.id == run_id)) or "RUN")
        db.execute(
            events.insert().values(
                run_id=run_id,
                at=self._now(db),
                kind=kind,
                message=storable(message),
                stage=stage,
                attempt=attempt,
                data=data or None,
            )
        )


class Verbs:
    """The verbs about one kind of thing, as an attribute of the store."""

    def __init__(self, database: Database) -> None:
        self._database = database


def owned_by(owner: str | None) -> sa.ColumnElement[bool]:
    """Whether a run is the owner's; everybody's are where there is none."""
    return sa.true() if owner is None else runs.c.owner == owner


def is_id(text: str) -> bool:
    """Whether a run could have this id: no database takes every text."""
    return bool(re.fullmatch(r"[A-Za-z0-9_-]+", text))


def run_of(row: sa.RowMapping) -> Run:
    """The record for a row of `runs`, without its stages. Columns of other tables don't count."""
    values = {name: row[name] for name in runs.columns.keys()}  # noqa: SIM118 - a collection of columns
    return Run(**{**values, "family": row["family"] or row["name"]}, stages=[])


def stage_of(run: str, row: sa.RowMapping) -> Stage:
    """The record for a row of `stages`; `run` is the run's name."""
    values = {name: row[name] for name in Stage.__dataclass_fields__}
    if error := row.error:
        place = f"{row.name}.{row.attempt} on {row.worker}"
        values["error"] = RunError.from_json(error).of_run(run, place)
    if row.artifacts is not None:
        values["artifacts"] = [Artifact(file["kind"], file["path"], file["bytes"]) for file in row.artifacts]
    return Stage(**values)


def storable_error(error: RunError) -> dict[str, str]:
    """The error as a value for a JSON column."""
    return {name: storable(text) for name, text in asdict(error).items()}


def storable(text: str) -> str:
    """Escape what a database can't store: bytes of file names that aren't UTF-8, and NUL (PostgreSQL)."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
