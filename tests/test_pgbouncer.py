"""PostgreSQL with few connections, and behind a real PgBouncer in transaction mode: waiting, never a result."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ftq.errors import Unavailable
from ftq.files.run_dir import STAGES
from ftq.store import schema
from ftq.store.server import postgres as few
from ftq.store.server import refusals
from ftq.store.store import RunStore
from tests.test_store import LEASE, SPEC, in_processes
from tests.tools import PATIENCE, Bench, until

pytestmark = pytest.mark.long
PORT = 6432  # of a Unix socket in a folder of its own


class Bouncer:
    """PgBouncer before the server of `url`; `settings` beside transaction mode with two connections of the server."""

    def __init__(self, url: str, **settings: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ftq-pgb-"))
        server = sa.make_url(url)
        self.url = str(server.set(query={"host": str(self.folder), "port": str(PORT)}))
        pairs = {"listen_addr": "", "unix_socket_dir": str(self.folder), "listen_port": str(PORT), "auth_type": "any",
                 "pool_mode": "transaction", "default_pool_size": "2", "max_client_conn": "100",
                 "logfile": str(self.folder / "log"), **settings}  # fmt: skip
        lines = [f"{name} = {value}" for name, value in pairs.items()]
        databases = f"[databases]\n* = host={server.query['host']} user=ftq\n[pgbouncer]\n"
        (self.folder / "ini").write_text(databases + "\n".join(lines) + "\n")
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres")
            shutil.chown(self.folder / "ini", "postgres")
        self.start()

    def start(self) -> None:
        user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        command = [*user, "pgbouncer", "--quiet", str(self.folder / "ini")]
        self.process = subprocess.Popen(command, cwd=self.folder, start_new_session=True)
        until(lambda: (self.folder / f".s.PGSQL.{PORT}").exists())

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        (self.folder / f".s.PGSQL.{PORT}").unlink(missing_ok=True)


@pytest.fixture
def bouncer(postgres: str) -> Iterator[Callable[..., Bouncer]]:
    if not shutil.which("pgbouncer"):
        pytest.skip("no PgBouncer to start: apt-get install pgbouncer")
    started: list[Bouncer] = []

    def start(**settings: str) -> Bouncer:
        started.append(Bouncer(postgres, **settings))
        return started[-1]

    yield start
    for one in started:
        one.stop()
        shutil.rmtree(one.folder)


def _work(number: int, url: str) -> list[tuple[str, str]]:
    """Do every stage of the runs that this process gets, several at once; the stages that it did."""
    store, done = RunStore(url), list[tuple[str, str]]()

    def do(run_id: str) -> None:
        for stage in STAGES:
            token = store.claim(run_id, stage, 1, f"w{number}", LEASE, 2)
            if token:
                store.renew(token, LEASE)
                store.note(token, "checkpoint", "step 1")
                store.progress(token, {"percent": 50})
                with store.hold(token, LEASE, own_folder=stage == "train"):
                    pass
                store.succeed(token, None, [])
                done.append((run_id, stage))

    threads = [threading.Thread(target=do, args=(f"r{run}",)) for run in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    return done


def test_processes_share_two_connections_of_the_server(bouncer: Callable[..., Bouncer]) -> None:
    url = bouncer().url
    assert in_processes(4, _open, url) == [schema.VERSION] * 4, "the tables are made once"
    store = RunStore(url)
    for run in range(6):
        store.create(f"r{run}", f"run-{run}", SPEC, "hash", owner=f"o{run % 3}")
    store.close()
    done = Counter[tuple[str, str]]()
    for _ in range(20):  # who meets the limit of an owner, or comes too early, comes again
        if len(done) < 6 * len(STAGES):
            for found in in_processes(3, _work, url):
                done.update(found)
    assert done == {(f"r{run}", stage): 1 for run in range(6) for stage in STAGES}


def _open(number: int, url: str) -> Any:
    store = RunStore(url)
    with store.reading() as db:
        return db.scalar(sa.select(schema.schema.c.version))


def test_a_process_opens_four_connections_at_most(postgres: str) -> None:
    store = RunStore(postgres)
    begun, go = threading.Semaphore(0), threading.Event()

    def hold() -> None:
        with store.reading() as db:
            db.scalar(sa.text("SELECT 1"))
            begun.release()
            go.wait(PATIENCE)

    threads = [threading.Thread(target=hold) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        assert begun.acquire(timeout=PATIENCE)
    server = sa.create_engine(postgres)
    with server.connect() as db:
        mine = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        assert db.scalar(sa.text(mine)) == 4
    server.dispose()
    go.set()
    for thread in threads:
        thread.join()
    assert store.all() == []
    store.close()


def test_a_connection_that_does_not_become_free_is_said(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few, "POOL", {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.1})
    store = RunStore(postgres)
    with store.reading(), pytest.raises(Unavailable, match=r"^no connection of this process .* became free in time$"):
        store.all()
    store.close()


@pytest.mark.parametrize("full", ["server", "bouncer"])
def test_a_server_without_a_free_connection_is_waited_for(
    postgres: str, bouncer: Callable[..., Bouncer], full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres
    if full == "bouncer":
        url = bouncer(max_client_conn="1").url
    else:
        owner = sa.create_engine(postgres)
        with owner.begin() as db:
            db.exec_driver_sql("CREATE ROLE few LOGIN CONNECTION LIMIT 1")
            db.exec_driver_sql("GRANT ALL ON SCHEMA public TO few")
        owner.dispose()
        url = postgres.replace("ftq@", "few@")
    other = sa.create_engine(url)
    connection = other.connect()
    monkeypatch.setattr(schema, "CONNECT_SECONDS", 1)
    with pytest.raises(Unavailable) as caught:
        RunStore(url)
    assert caught.value.hint == refusals.ROOM, caught.value.message
    monkeypatch.setattr(schema, "CONNECT_SECONDS", 30)
    left = threading.Event()
    leave = threading.Timer(1, lambda: (left.set(), connection.close(), other.dispose()))
    leave.start()
    store = RunStore(url)
    assert store.all() == [] and left.is_set()
    store.close()
    leave.join()
    if full == "server":
        owner = sa.create_engine(postgres)
        with owner.begin() as db:
            db.exec_driver_sql("DROP OWNED BY few")
            db.exec_driver_sql("DROP ROLE few")
        owner.dispose()


def test_real_workers_behind_a_bouncer_that_is_restarted(bouncer: Callable[..., Bouncer], tmp_path: Path) -> None:
    between = bouncer()
    machine = Bench(tmp_path / "artifacts", FTQ_DATABASE_URL=between.url, FTQ_LEASE_SECONDS="6")
    try:
        machine.start_broker()
        for name in ("one", "two", "three"):
            machine.submit(name, max_steps=40)
        for _ in range(2):
            machine.start_worker("cpu,gpu")
        until(lambda: any(run.stage("train").status == "running" for run in machine.client.all()))
        between.stop()
        with pytest.raises(Unavailable):
            machine.client.all()
        between.start()
        machine.wait_for_all()
        for run in machine.client.all():
            kinds = Counter((event.stage, event.kind) for event in machine.client.store.events(run.id))
            assert {kinds[stage, "succeeded"] for stage in STAGES} == {1}
    finally:
        if between.process.poll() is not None:
            between.start()
        machine.close()


# ---- processes that stand still ---------------------------------------------------------------------------


def test_who_stands_still_in_a_transaction_holds_nobody_up(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few, "IDLE_SECONDS", 10.0)
    with contextlib.closing(RunStore(postgres)) as frozen, contextlib.closing(RunStore(postgres)) as other:
        frozen.create("abc", "first", SPEC, "hash")
        with pytest.raises(Unavailable), frozen.writing() as db:
            assert frozen._wanted(db, "abc") == "run"  # which locks the run
            other.pause("abc")
            assert other.get("abc").wanted == "pause"
        assert frozen.get("abc").wanted == "pause"  # by a new connection


def test_who_stands_still_while_files_are_renamed_keeps_the_stage(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(few, "IDLE_SECONDS", 5.0)
    with contextlib.closing(RunStore(postgres)) as frozen, contextlib.closing(RunStore(postgres)) as other:
        frozen.create("abc", "first", SPEC, "hash")
        token = frozen.claim("abc", "prepare", 1, "w1", LEASE)
        assert token
        taker = threading.Thread(target=other.expire_attempt, args=("abc", "prepare", 1))
        with frozen.hold(token, LEASE):
            taker.start()
            taker.join(8)
            assert taker.is_alive()
        taker.join(PATIENCE)
        assert not taker.is_alive()
