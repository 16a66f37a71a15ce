"""No test touches a real home, broker or database."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import cli_tools
import pytest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """FTQ_HOME of this test: an artifacts folder of its own, not made yet; the other settings are the defaults."""
    for name in [name for name in os.environ if name.startswith("FTQ_") and name != "FTQ_CACHE"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FTQ_HOME", str(tmp_path / "artifacts"))
    return tmp_path / "artifacts"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty FTQ_CACHE, not made yet: no test deletes from the real one."""
    monkeypatch.setenv("FTQ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


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
    (folder / "b.json").write_text("[]\n")
    return folder
