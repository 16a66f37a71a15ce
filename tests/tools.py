"""What many tests need: waiting, processes that are gone, free ports, and a machine that runs are submitted to."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from benchmarks.drill_machine import Machine
from ftq.files.run_dir import STAGES
from ftq.store.records import Event, Run
from ftq.store.schema import stages
from ftq.store.store import RunStore

# Far more than anything waited for takes: the machine may have others' work to do, and who succeeds waits no longer.
PATIENCE = 120.0
Wishes = dict[str, dict[str, str]]  # {stage: {attempt: how it fails}}, see tests/fake_stages


def until(reached: Callable[[], Any], seconds: float = PATIENCE, pause: float = 0.02) -> Any:
    """Wait until `reached()` is true and return what it gave."""
    end = time.monotonic() + seconds
    while not (value := reached()):
        assert time.monotonic() < end, f"not reached within {seconds} s"
        time.sleep(pause)
    return value


def instead_of_sleep(monkeypatch: pytest.MonkeyPatch, act: Callable[[float], Any]) -> None:
    """Let this thread call `act` where it would sleep. Threads that others have left behind sleep."""
    here, sleep = threading.current_thread(), time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: (act if threading.current_thread() is here else sleep)(seconds))


def give_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody give up a bucket for being slow: the seconds are those of a person on a machine at rest."""
    for name in ("bucket.OPEN", "bucket.PROBE", "kinds.silence.PROBE"):
        monkeypatch.setattr(f"ftq.files.remote.{name}_SECONDS", PATIENCE)
    for name in ("ADVICE", "BUCKET"):
        monkeypatch.setattr(f"ftq.doctor.web.{name}_SECONDS", PATIENCE)


def gone(pid: int) -> bool:
    """Whether the process has ended; who collects an orphan's remains is no concern of ours."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def freeze(*pids: int) -> None:
    """Stop processes (SIGSTOP). Threads run on for milliseconds after the signal is sent, which is enough to answer."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        until(lambda pid=pid: set(_states(pid)) <= set("TZ"))  # type: ignore[misc]


def _states(pid: int) -> list[str]:
    """The state of each of its threads, as in ps."""
    found = []
    for thread in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found.append(thread.read_text().rpartition(")")[2].split()[0])
    return found


def container() -> list[str]:
    """What begins a command that has process ids of its own, as in a container; skipped where nobody may have that."""
    prefix = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if shutil.which(prefix[0]) is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody have a process namespace")
    return prefix


def succeed(store: RunStore, run_id: str, *stages: str, attempt: int = 1, key: str | None = None, **how: Any) -> Run:
    """Let these stages of a run succeed, or all; they make nothing."""
    for stage in stages or STAGES:
        token = store.claim(run_id, stage, attempt, "w1", PATIENCE)
        assert token
        store.succeed(token, key, [], **how)
    return store.get(run_id)


def free_port() -> int:
    """A port that is still free when its server takes it, and when it does so again after a stop.

    The system gives only higher ones to whoever asks for any. Each of the test processes that run side by side has its
    own, and gives none of them twice.
    """
    while True:
        port = _PORTS.pop(secrets.randbelow(len(_PORTS)))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


_NUMBER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PORTS = list(range(10_000 + _NUMBER, 32_000, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Bench(Machine):
    """The drill's machine, with what tests ask of it.

    Leases outlast whatever else the computer has to do, and what got stuck is looked for twice a second all the same
    (tests/fake_worker.py). A test in which a lease has to end lets it end (end_leases).
    """

    def __init__(self, home: Path, module: str = "tests.fake_worker", **environment: str) -> None:
        calm = {"FTQ_LEASE_SECONDS": str(PATIENCE), "FTQ_GRACE_SECONDS": str(PATIENCE), "FTQ_HASTE": "1.5"}
        super().__init__(home, module, **calm | environment)

    def __enter__(self) -> Self:
        self.start_broker()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, name: str, wishes: Wishes | None = None, owner: str = "", **options: Any) -> Run:
        """A run with a document of its own."""
        folder = self.settings.home.parent / "texts" / name
        folder.mkdir(parents=True)
        (folder / "text.md").write_text(f"# {name}\n\nThis is the text of the run {name}.\n" * 12)
        if wishes:
            (folder / "behave.json").write_text(json.dumps(wishes))
        given = {"model": "smollm2-135m", "documents": str(folder), "max_steps": 4, "save_steps": 5, **options}
        return self.client.submit(given, name, owner).run

    def run(self, name: str) -> Run:
        return self.client.find(name)

    def events(self, name: str) -> list[Event]:
        return self.client.store.events(self.run(name).id)

    def has(self, name: str, kind: str, stage: str) -> bool:
        return any((event.kind, event.stage) == (kind, stage) for event in self.events(name))

    def let_go(self, name: str) -> None:
        """End what a stage with the wish `wait` waits for."""
        (self.client.run_dir(self.run(name).id).documents / "go").touch()

    def end_leases(self) -> None:
        """Let those who hold a stage now have given no sign of life for longer than their leases."""
        with self.client.store.writing() as db:
            db.execute(stages.update().where(stages.c.status == "running").values(lease_until=0.0))

    def wait_for(self, name: str, status: str = "succeeded") -> None:
        """Wait for the run's end, and see that it is this one."""
        until(lambda: self.run(name).is_finished)
        assert self.run(name).status == status

    def wait_for_all(self, status: str = "succeeded", seconds: float = 2 * PATIENCE) -> None:
        until(lambda: all(run.is_finished for run in self.client.all()), seconds)
        assert {run.name: run.status for run in self.client.all()} == {run.name: status for run in self.client.all()}
