"""A database of each earlier schema, as the ftq of then made it, is brought up to date by processes at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ftq.files.run_dir import STAGES
from ftq.store import schema
from ftq.store.server.upgrades import UPGRADES
from ftq.store.store import RunStore
from tests.test_store import SPEC, START, Clock, clock, in_processes, url
from tests.tools import succeed

__all__ = ["clock", "url"]  # fixtures
SCHEMAS = Path(__file__).with_name("schemas")
EARLIER = sorted(path.stem for path in SCHEMAS.glob("*.sql"))


def make(url: str, earlier: str) -> int:
    """The tables of that version, with a finished run, one that is at work, one that waits, and a worker."""
    text, version = (SCHEMAS / f"{earlier}.sql").read_text(encoding="utf-8"), int(earlier[0])
    statements = [line for line in text.splitlines() if not line.startswith("--")]
    if url.startswith("postgresql"):
        statements = [line.replace("events (id INTEGER", "events (id SERIAL") for line in statements]
    engine = sa.create_engine(url)
    with engine.begin() as db:
        for statement in statements:
            db.exec_driver_sql(statement)
        db.exec_driver_sql(f"INSERT INTO ftq_schema VALUES ({version})")
        add(db, version, "done", *["succeeded"] * len(STAGES))
        add(db, version, "half", "succeeded", "running")
        add(db, version, "new")
        row = {"name": "w1", "host": "host", "queues": "cpu", "pid": 1, "draining": False, "seen_at": START}
        db.execute(sa.table("workers", *map(sa.column, row)).insert().values(**row))
    engine.dispose()
    return version


def add(db: sa.Connection, version: int, name: str, *statuses: str) -> None:
    """A run as that version records it: with the columns that it knows."""
    run: dict[str, Any] = {"id": name, "name": name, "model": "qwen3-4b", "spec": json.dumps(SPEC),
                           "documents_hash": "hash", "wanted": "run", "kept": False, "created_at": START}  # fmt: skip
    if version >= 4:
        run["family"] = name
        run["version"] = 1 if name == "done" else None
    insert(db, "runs", run)
    if version >= 4 and name == "done":
        row = {"family": name, "number": 1, "run_id": name, "created_at": START, "promotion": 1}
        insert(db, "versions", row)
    for position, stage in enumerate(STAGES):
        status = [*statuses, *["queued"] * len(STAGES)][position]
        held = {"owner": "token", "worker": "w1", "lease_until": START + 60} if status == "running" else {}
        losses = {"losses": 0} if version >= 3 else {}
        insert(db, "stages", {"run_id": name, "name": stage, "position": position, "status": status, "attempt": 1,
                              "tries": 0, "fresh_from": 0, "cached": False, "queued_at": START, **losses,
                              **held})  # fmt: skip


def insert(db: sa.Connection, table: str, row: dict[str, Any]) -> None:
    columns = [sa.column(name, schema.metadata.tables[table].c[name].type) for name in row]
    values = {name: json.loads(value) if name == "spec" else value for name, value in row.items()}
    db.execute(sa.table(table, *columns).insert().values(**values))


def shape(url: str) -> dict[str, Any]:
    """All tables with their columns, keys and indexes; defaults aside, which only old workers need."""
    engine = sa.create_engine(url)
    looked = sa.inspect(engine)

    def kind(of: Any) -> str:
        return str(of).partition("(")[0] if engine.dialect.name == "sqlite" else str(of)  # its texts have no width

    found = {
        table: {
            "columns": {one["name"]: (kind(one["type"]), one["nullable"]) for one in looked.get_columns(table)},
            "key": looked.get_pk_constraint(table)["constrained_columns"],
            "foreign": sorted((one["constrained_columns"], one["referred_table"], one["options"])
                              for one in looked.get_foreign_keys(table)),
            "unique": sorted(one["column_names"] for one in looked.get_unique_constraints(table)),
            "indexes": sorted((str(one["name"]), one["column_names"]) for one in looked.get_indexes(table)),
        }
        for table in looked.get_table_names()
    }  # fmt: skip
    engine.dispose()
    return found


def wipe(url: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as db:
        reflected = sa.MetaData()
        reflected.reflect(db)
        reflected.drop_all(db)
    engine.dispose()


def _open(number: int, url: str) -> list[str]:
    store = RunStore(url)
    ids = sorted(run.id for run in store.all())
    store.close()
    return ids


@pytest.mark.parametrize("earlier", EARLIER)
def test_an_earlier_schema_becomes_this_one(url: str, clock: Clock, earlier: str) -> None:
    version = make(url, earlier)
    assert in_processes(3, _open, url) == [["done", "half", "new"]] * 3
    store = RunStore(url, clock)
    done, half, new = (store.get(name) for name in ("done", "half", "new"))
    assert (done.version_name, done.status, done.documents_hash) == ("done:1", "succeeded", "hash")
    assert store.find("done:latest").id == "done"
    assert (half.status, half.current and half.current.name, half.spec) == ("running", "train", SPEC)
    assert (new.owner, new.revision) == ("", None)
    store.succeed("token", None, [])  # the worker that held it goes on
    assert succeed(store, "half", *STAGES[2:]).version_name == "half:1"
    with store.writing() as db:
        add(db, version, "old")  # a process of the earlier version that is still there submits
    token = store.claim("old", "prepare", 1, "w1", 60, 1)
    assert token
    store.succeed(token, None, [], revision="r")
    assert [worker.name for worker in store.workers()] == ["w1"]
    store.close()


@pytest.mark.parametrize("earlier", EARLIER)
def test_what_was_upgraded_is_what_would_have_been_made(url: str, earlier: str) -> None:
    make(url, earlier)
    RunStore(url).close()
    upgraded = shape(url)
    wipe(url)
    RunStore(url).close()
    assert upgraded == shape(url)


def test_every_earlier_schema_is_kept() -> None:
    """Whoever raises VERSION keeps what it was: `.schema` of a database that the commit before has made."""
    assert {int(earlier[0]) for earlier in EARLIER} == set(range(1, schema.VERSION)) == set(UPGRADES)
