"""The statements that upgrade a database of each earlier schema to the next one, for SQLite and PostgreSQL.

They only add and widen, so a process of the earlier version can go on.
"""

from __future__ import annotations

import re

import sqlalchemy as sa

from ftq.store.gateway.upgrade import DOCUMENTS, GATEWAY, SESSIONS

_OWNER = "ALTER TABLE runs ADD COLUMN owner VARCHAR(64) NOT NULL DEFAULT ''"
_DRAINED = "ALTER TABLE workers ADD COLUMN drained_at FLOAT"
UPGRADES = {
    1: ("ALTER TABLE stages ADD COLUMN plan JSON", "ALTER TABLE workers ADD COLUMN facts JSON"),
    2: (
        "ALTER TABLE stages ADD COLUMN losses INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE questions ADD COLUMN written TEXT NOT NULL DEFAULT ''",
    ),
    3: (
        "ALTER TABLE runs ADD COLUMN family VARCHAR(120)",
        "ALTER TABLE runs ADD COLUMN version INTEGER",
        "CREATE TABLE versions (family VARCHAR(120) NOT NULL, number INTEGER NOT NULL, run_id VARCHAR(16) NOT NULL, "
        "created_at FLOAT NOT NULL, promotion INTEGER, gone VARCHAR(40), PRIMARY KEY (family, number))",
        "CREATE INDEX ix_versions_run_id ON versions (run_id)",
        "INSERT INTO versions (family, number, run_id, created_at, promotion) "
        "SELECT name, 1, id, created_at, 1 FROM runs WHERE NOT EXISTS "
        "(SELECT 1 FROM stages WHERE stages.run_id = runs.id AND stages.status <> 'succeeded')",
        "UPDATE runs SET version = 1 WHERE id IN (SELECT run_id FROM versions)",
    ),
    4: (
        _OWNER,
        _DRAINED,
        *GATEWAY,
    ),
    5: SESSIONS,
    6: (
        _OWNER,  # the first databases of version 5 lacked some of these four
        _DRAINED,
        "ALTER TABLE runs ALTER COLUMN owner TYPE VARCHAR(64)",
        "ALTER TABLE webhooks ADD COLUMN seen INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE runs ADD COLUMN revision VARCHAR(120)",
    ),
    7: DOCUMENTS,
    8: ("CREATE TABLE ftq_identity (number INTEGER NOT NULL, id VARCHAR(32) NOT NULL, PRIMARY KEY (number))",),
}
_ADDS_COLUMN = re.compile(r"ALTER TABLE (\w+) ADD COLUMN (\w+) ")


def is_needed(connection: sa.Connection, statement: str) -> bool:
    """Whether the database lacks the column that the statement adds. SQLite's texts have no width."""
    if " ALTER COLUMN " in statement:
        return connection.dialect.name != "sqlite"
    adds = _ADDS_COLUMN.match(statement)
    return not adds or all(one["name"] != adds[2] for one in sa.inspect(connection).get_columns(adds[1]))
