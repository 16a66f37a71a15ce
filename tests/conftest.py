"""No test touches a real home, broker or database."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import cli_tools
import pytest
import sqlalchemy as sa

from tests import database_server, forked
from tests.tools import PATIENCE, Bench

if TYPE_CHECKING:
    from tests.ceph_server import CephServer

os.environ.setdefault("OMP_NUM_THREADS", "1")  # each of the tests that run side by side has a processor
_NUMBERS = count(1)  # of databases

FIRST = ("test_train.py", "test_end_to_end.py", "test_queue.py", "test_export_infer.py", "test_llama.py",
         "test_flower_browser.py", "test_ranks.py", "test_inductor.py", "test_demo.py", "test_memory.py",
         "test_flower_server.py", "test_questions.py", "test_gateway_real.py", "test_gateway_killed.py")  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take long first: with `--dist loadfile` one process runs all tests of a file."""
    order = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """FTQ_HOME of this test: an artifacts folder of its own, not made yet; the other settings are the defaults."""
    for name in [name for name in os.environ if name.startswith("FTQ_") and name != "FTQ_CACHE"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FTQ_HOME", str(tmp_path / "artifacts"))
    return tmp_path / "artifacts"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of this process waits for a broker that a busy machine or disk holds up; a person's gives it up."""
    monkeypatch.setattr("ftq.queue.QUICK_SECONDS", PATIENCE)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty FTQ_CACHE, not made yet: no test deletes from the real one."""
    monkeypatch.setenv("FTQ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is started in this test is forked, with what the engine `trl` needs in it (tests/forked.py)."""
    monkeypatch.setattr(subprocess, "Popen", forked.Forked)


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is UTC, and `now` is NOW wherever the client looks at the clock."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(time, "time", lambda: cli_tools.NOW)
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def store(home: Path, cache: Path) -> Iterator[cli_tools.Store]:
    made = cli_tools.Store(home)
    yield made
    made.runs.close()


@pytest.fixture
def documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two documents; the test's working directory is beside it."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "a.md").write_text("# A\n\nText.\n")
    (folder / "b.json").write_text('[{"question": "Why?", "answer": "So."}]\n')
    return folder


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A machine of the test's own with a broker, as yet without a worker."""
    with Bench(tmp_path / "artifacts") as bench:
        yield bench


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[str]:
    """A database of the test's own, without tables."""
    name = f"test_{next(_NUMBERS)}"
    server = sa.create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield postgres_server.replace("/postgres?", f"/{name}?")
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    server.dispose()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A server of its own, on a Unix socket in a folder that goes away; skipped where there is none to start."""
    with database_server.start() as url:
        yield url


@pytest.fixture(scope="module")
def ceph() -> Iterator[CephServer]:
    """A real S3 server that checks keys, quotas and policies: of a file's tests."""
    from tests.ceph_server import CephServer  # its libraries take a second, and few tests need it

    server = CephServer("ceph")
    yield server
    server.close()
