"""An engine for PostgreSQL, or for PgBouncer before it, in any of its modes.

In PgBouncer's transaction mode each transaction may meet another connection of the server. So nothing is prepared or
set for a session, and every lock ends with its transaction.
"""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa

from ftq.store.server.refusals import ALL_TAKEN

# Notice a vanished server, or client, after 20 s, well within a lease, instead of after 15 minutes or two hours.
GONE = {"tcp_user_timeout": 20_000, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 2}
POOL = {"pool_size": 2, "max_overflow": 2, "pool_timeout": 20.0}  # connections of a process; the first two stay open
PAUSE = 0.1  # seconds between two tries
IDLE_SECONDS = 30  # in which who writes may say nothing: frozen in a transaction, it would hold its locks for ever
# The server's codes for a transaction that it ended so, for one that may only read, and for a right that is missing.
REFUSED = ("25P03", "25006", "42501")


def engine(url: str, connect_seconds: int) -> sa.Engine:
    """An engine that opens at most 4 connections, and waits for one that long where the server has none left."""
    arguments: dict[str, Any] = {"connect_timeout": connect_seconds, **GONE}
    if sa.make_url(url).get_driver_name() == "psycopg":
        arguments["prepare_threshold"] = None  # a prepared statement belongs to one connection of the server
    made = sa.create_engine(url, connect_args=arguments, pool_pre_ping=True, **POOL)

    @sa.event.listens_for(made, "do_connect")
    def connect(dialect: Any, record: Any, positional: Any, named: Any) -> Any:
        until = time.monotonic() + connect_seconds
        while True:
            try:
                return dialect.connect(*positional, **named)
            except dialect.loaded_dbapi.OperationalError as error:
                if not ALL_TAKEN.search(str(error)) or time.monotonic() > until:
                    raise
            time.sleep(PAUSE)

    return made


def end_if_idle(connection: sa.Connection) -> None:
    """Let the server end this transaction, and its locks, if the process stands still in it."""
    connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {round(IDLE_SECONDS * 1000)}")


def end_if_gone(connection: sa.Connection) -> None:
    """Let the server end it if the process's machine has vanished; otherwise it would hold its locks for two hours."""
    values = [f"set_config('tcp_{name.removeprefix('tcp_')}', '{value}', true)" for name, value in GONE.items()]
    connection.exec_driver_sql(f"SELECT {', '.join(values)}")


def end_never(connection: sa.Connection) -> None:
    """Let the server keep it as long as it takes the process to go on."""
