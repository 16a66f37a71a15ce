"""The database's tables, and how an engine for them is opened. For RunStore and its parts only."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ftq.errors import Unavailable, first_line
from ftq.servers import sqlite_file, without_password
from ftq.store.server import postgres
from ftq.store.server.refusals import refusal
from ftq.store.server.upgrades import UPGRADES, is_needed

VERSION = 9
CONNECT_SECONDS = 4
ROOM = 2**20  # bytes that SQLite needs at least for -wal and -shm beside its file

metadata = sa.MetaData()

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("name", sa.String(120), nullable=False, unique=True),
    sa.Column("model", sa.String(400), nullable=False),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("documents_hash", sa.String(64), nullable=False),
    sa.Column("wanted", sa.String(8), nullable=False, default="run"),  # run, pause or cancel: what the user wants
    sa.Column("kept", sa.Boolean, nullable=False, default=False),
    sa.Column("created_at", sa.Float, nullable=False, index=True),
    sa.Column("family", sa.String(120)),  # what its versions are called; null in a run of an earlier ftq: its name
    sa.Column("version", sa.Integer),  # its number among them, once it has succeeded
    sa.Column("owner", sa.String(64), nullable=False, default="", server_default=""),  # see records.Run
    sa.Column("revision", sa.String(120)),  # the base model's, once prepare has succeeded
)

versions = sa.Table(
    "versions",  # a row stays when its run is deleted: its number isn't given again
    metadata,
    sa.Column("family", sa.String(120), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("run_id", sa.String(16), nullable=False, index=True),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("promotion", sa.Integer),  # counts the family's promotions: the highest one is `latest`
    sa.Column("gone", sa.String(40)),  # why there is no such version any more
)

stages = sa.Table(
    "stages",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("name", sa.String(16), primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("status", sa.String(12), nullable=False, default="queued", index=True),
    sa.Column("attempt", sa.Integer, nullable=False, default=1),
    sa.Column("tries", sa.Integer, nullable=False, default=0),  # useless attempts in a row
    sa.Column("losses", sa.Integer, nullable=False, default=0),  # attempts in a row that their machine lost
    sa.Column("fresh_from", sa.Integer, nullable=False, default=0),  # attempt from which nothing old may be used
    sa.Column("cached", sa.Boolean, nullable=False, default=False),
    sa.Column("key", sa.String(64), index=True),  # hash of everything that went in
    sa.Column("owner", sa.String(32)),  # the token of the lease
    sa.Column("worker", sa.String(200)),
    sa.Column("lease_until", sa.Float),
    sa.Column("queued_at", sa.Float),
    sa.Column("started_at", sa.Float),
    sa.Column("finished_at", sa.Float),
    sa.Column("progress", sa.JSON(none_as_null=True)),
    sa.Column("plan", sa.JSON(none_as_null=True)),  # how the stage was planned, and what it measured
    sa.Column("changes", sa.JSON(none_as_null=True)),  # options that an adaptation replaced
    sa.Column("error", sa.JSON(none_as_null=True)),  # see errors.RunError
    sa.Column("artifacts", sa.JSON(none_as_null=True)),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("run_id", sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("stage", sa.String(16)),
    sa.Column("attempt", sa.Integer),
    sa.Column("kind", sa.String(24), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("data", sa.JSON(none_as_null=True)),
)

questions = sa.Table(
    "questions",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("run_id", sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("options", sa.JSON, nullable=False),
    sa.Column("status", sa.String(12), nullable=False, default="queued"),
    sa.Column("written", sa.Text, nullable=False, default=""),  # the answer so far, while it is written
    sa.Column("answer", sa.JSON(none_as_null=True)),
    sa.Column("error", sa.JSON(none_as_null=True)),
    sa.Column("created_at", sa.Float, nullable=False),
)

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("host", sa.String(200), nullable=False),
    sa.Column("queues", sa.String(200), nullable=False),
    sa.Column("gpu", sa.String(200)),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("draining", sa.Boolean, nullable=False, default=False),  # it stops: its runs are handed back
    sa.Column("drained_at", sa.Float),  # since when it takes nothing new, and finishes what it has
    sa.Column("seen_at", sa.Float, nullable=False),
    sa.Column("facts", sa.JSON(none_as_null=True)),  # see records.Worker
)

schema = sa.Table("ftq_schema", metadata, sa.Column("version", sa.Integer, primary_key=True))

identity = sa.Table(
    "ftq_identity",  # tells this database from all others; one row, from when somebody asks
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("id", sa.String(32), nullable=False),
)


def open_engine(url: str, connect_seconds: int = 0) -> sa.Engine:
    """An engine whose tables exist. Raises Unavailable, the URL named without its password.

    A server has CONNECT_SECONDS to take a connection, or so many.
    """
    try:
        engine = _engine(url, connect_seconds or CONNECT_SECONDS)
    except (sa.exc.SQLAlchemyError, ImportError, ValueError) as error:  # no such driver; no URL
        raise _unavailable(url, error) from None
    try:
        version = _version(engine)
    except (sa.exc.SQLAlchemyError, OSError) as error:
        engine.dispose()
        raise _unavailable(url, error) from None
    if version != VERSION:
        engine.dispose()
        raise Unavailable(
            f"database {without_password(url)} has schema version {version}, this ftq needs {VERSION}",
            "Use the ftq that made it, or another FTQ_HOME.",
        )
    sa.event.listen(engine, "handle_error", _translate)
    return engine


def _version(engine: sa.Engine) -> int | None:
    """The schema's version. Tables are made if there are none, and upgraded if they are of an earlier version."""
    with engine.connect().execution_options(read=True) as connection:
        ready = sa.inspect(connection).has_table("ftq_schema")
    if not ready:
        _create(engine)
    with engine.connect().execution_options(read=True) as connection:
        version = connection.scalar(sa.select(schema.c.version))
    return _upgrade(engine) if version in UPGRADES else version


def _upgrade(engine: sa.Engine) -> int | None:
    """Add the columns of later versions. Others wait for the lock on the version (SQLite locks everything)."""
    with engine.begin() as connection:
        version = connection.scalar(sa.select(schema.c.version).with_for_update())
        while version in UPGRADES:
            for statement in UPGRADES[version]:
                if is_needed(connection, statement):
                    connection.exec_driver_sql(statement)
            version += 1
            connection.execute(schema.update().values(version=version))
    return version


def _unavailable(url: str, error: BaseException) -> Unavailable:
    cause = without_password(first_line(getattr(error, "orig", None) or error))
    if (file := sqlite_file(url)) and _is_full(file.parent):
        return Unavailable(
            f"database {url} can't be used: its disk is full",
            "Make a few MB of room by hand: ~/.cache/ftq is made again, and the folder `merged` of a finished run "
            "isn't needed to ask it. Then `ftq gc` deletes old runs.",
        )
    if file and file.parent.is_dir() and not os.access(file.parent, os.W_OK, effective_ids=True):
        return Unavailable(
            f"database {url} can't be used: {file.parent} can't be written",
            "Correct the folder's owner and mode, or set FTQ_HOME to a folder of yours.",
        )
    what, fix = ("", "Check FTQ_DATABASE_URL, and that its folder is there and writable.") if file else refusal(cause)
    why = f"{what} ({cause})" if what else cause
    return Unavailable(f"database {without_password(url)} can't be used: {why}", fix)


def _is_full(folder: Path) -> bool:
    """Whether the disk is full: SQLite says only "disk I/O error" if there is no room for its -shm."""
    try:
        return shutil.disk_usage(folder).free < ROOM
    except OSError:
        return False


def _translate(context: Any) -> None:
    """Raise Unavailable for an unreachable server, a full or read-only disk, and for what a server refuses now."""
    is_refused = getattr(context.original_exception, "sqlstate", None) in postgres.REFUSED
    if (is_refused or isinstance(context.sqlalchemy_exception, sa.exc.OperationalError)) and not context.is_pre_ping:
        url = context.engine.url.render_as_string(hide_password=True)
        raise _unavailable(url, context.sqlalchemy_exception)


def _engine(url: str, connect_seconds: int) -> sa.Engine:
    if url.startswith("postgresql"):
        return postgres.engine(url, connect_seconds)
    sqlite = url.startswith("sqlite")
    arguments = {"timeout": 30} if sqlite else {"connect_timeout": connect_seconds}
    engine = sa.create_engine(url, connect_args=arguments, pool_pre_ping=not sqlite)
    if sqlite:
        _touch(engine.url.database)
        sa.event.listen(engine, "connect", _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _touch(file: str | None) -> None:
    """Make SQLite's file by the umask; SQLite would make it 0644. Its -wal and -shm follow the file's mode."""
    if file and not file.startswith((":", "file:")):
        with contextlib.suppress(OSError):  # opening the database raises it again
            Path(file).touch(mode=0o666)


def _set_up_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions are begun below, not guessed by the driver
    _switch_to_wal(connection)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):  # FULL: a commit survives a power cut
        connection.execute(f"PRAGMA {pragma}")


def _switch_to_wal(connection: Any) -> None:
    """Switch to WAL; retry while other processes do the same, because SQLite's timeout doesn't cover that."""
    until = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later fails instead of waiting for the lock: take it at the start.
    connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get("read") else "BEGIN IMMEDIATE")


def _create(engine: sa.Engine) -> None:
    try:
        with engine.begin() as connection:
            if not sa.inspect(connection).has_table("ftq_schema"):
                metadata.create_all(connection)
                connection.execute(schema.insert().values(version=VERSION))
    except sa.exc.SQLAlchemyError:
        # Another process made the tables at the same moment (PostgreSQL has no lock on a schema).
        with engine.connect().execution_options(read=True) as connection:
            if not sa.inspect(connection).has_table("ftq_schema"):
                raise
