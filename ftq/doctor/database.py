"""The database: whether it opens, is whole, and lies where it may lie."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from ftq.doctor.clock import compare, difference
from ftq.doctor.findings import CONNECT_SECONDS, Finding
from ftq.doctor.machine import disk, existing, network_type
from ftq.errors import Unavailable
from ftq.servers import sqlite_file, without_password
from ftq.settings import Settings
from ftq.store import schema
from ftq.store.server.refusals import FORM


def database(settings: Settings) -> Iterator[Finding]:
    path = sqlite_file(settings.database_url)
    if path:
        yield from _place(path, settings.home)
    if path and not path.exists():
        yield _to_be_made(path, settings.home)
        return
    try:
        engine = schema.open_engine(settings.database_url, CONNECT_SECONDS)
        try:
            yield from _sqlite(engine, path) if path else _server(engine, without_password(settings.database_url))
        finally:
            engine.dispose()
    except Unavailable as error:
        yield Finding("database", "problem", error.message, error.hint)


def _to_be_made(path: Path, home: Path) -> Finding:
    if path.parent.is_dir() or path.parent == home:  # which is made too
        return Finding("database", "note", f"{path} isn't there yet: the first run makes it")
    message = f"{path} can't be made: there is no folder {path.parent}"
    return Finding("database", "problem", message, f"mkdir -p {shlex.quote(str(path.parent))}, or set FTQ_DATABASE_URL")


def _place(path: Path, home: Path) -> Iterator[Finding]:
    if kind := network_type(existing(path)):
        message = f"{path} is on a network file system ({kind}): SQLite's locks don't hold between machines there"
        yield Finding("database", "warning", message, f"{FORM}, or FTQ_HOME on a local disk")
    if not path.is_relative_to(home):
        yield from disk("database", path.parent, little=1)


def _sqlite(engine: sa.Engine, path: Path) -> Iterator[Finding]:
    with engine.connect().execution_options(read=True) as connection:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
        yield _journal(str(mode), path)
        answer = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
    if answer == "ok":
        yield Finding("database", "ok", f"{path} is whole ({path.stat().st_size / 1e6:.1f} MB)")
    else:
        fix = f"Stop the workers, then: sqlite3 {path} .recover | sqlite3 new.db && mv new.db {path}"
        yield Finding("database", "problem", f"{path} is damaged: {answer.splitlines()[-1]}", fix)


def _journal(mode: str, path: Path) -> Finding:
    if mode == "wal":
        return Finding("database", "ok", "SQLite with a write-ahead log")
    message = f"SQLite without a write-ahead log (journal_mode {mode}): readers and writers wait for each other"
    return Finding("database", "warning", message, f"sqlite3 {path} 'PRAGMA journal_mode=WAL'   (on a local disk)")


def _server(engine: sa.Engine, shown: str) -> Iterator[Finding]:
    with engine.connect().execution_options(read=True) as connection:
        now = sa.text("SELECT extract(epoch from clock_timestamp())")
        ahead, unsure = difference(lambda: float(connection.execute(now).scalar_one()))
        version = ".".join(map(str, connection.dialect.server_version_info or ()))
    yield Finding("database", "ok", f"{engine.dialect.name} {version} at {shown} answers in {unsure * 2000:.1f} ms")
    yield from compare("the database", ahead, unsure=unsure)
