"""Attempts whose supervisor's process has died: taken back before their lease ends, if that is certain.

How that could run a stage twice: a holder that is alive is taken for dead, and another process begins the next attempt
beside it. It could look dead because it is frozen; because it is in another container, where its process id means
another process or none; because the folder is another machine's too, or its file a copy; because locks mean nothing on
that disk; or because the machine has been started anew and nothing of it is there. Or it is dead, and its stage's
process still computes and writes a checkpoint. Or two workers see the same death, and each sends the next attempt.
In all of these nothing may be taken, or once. What is overlooked here costs work, not a result: the token is void, so
the earlier holder stops at its next look, and publishes nothing.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftq.errors import Unavailable
from tests.test_supervisor import Rig, rig  # noqa: F401 (a fixture)
from tests.tools import container, freeze, gone, until
from worker.attempt import holders
from worker.attempt.holders import Holder, end_the_dead, forget_other_boots, holding
from worker.reconciler import Reconciler

ROOT = Path(__file__).parent.parent
ONE = Holder("r", "train", 1, "w1", "token")
HOLD = "with holding(Path(sys.argv[1]), ONE): print(os.getpid(), flush=True); sys.stdin.read()"
ASK = "print(os.getpid()); end_the_dead(Path(sys.argv[1]), lambda holder: print(holder.token))"
Hold = Callable[..., "subprocess.Popen[str]"]


def command(program: str, home: Path, *prefix: str) -> list[str]:
    begin = "import os, sys; from pathlib import Path; from worker.attempt.holders import *; "
    return [*prefix, sys.executable, "-c", f"{begin}ONE = {ONE}\n{program}", str(home)]


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Hold]:
    """hold(*prefix): a process that holds the attempt ONE; it has said so."""
    started = list[subprocess.Popen[str]]()

    def start(*prefix: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(command(HOLD, tmp_path, *prefix), cwd=ROOT, text=True, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE)  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def dead(home: Path) -> list[Holder]:
    told = list[Holder]()
    end_the_dead(home, told.append)
    return told


def files(home: Path) -> list[str]:
    return [path.name for path in (home / holders.FOLDER).iterdir()]


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_only_a_holder_that_was_killed_is_dead(tmp_path: Path, hold: Hold) -> None:
    assert dead(tmp_path) == []
    process = hold()
    assert said(process) == str(process.pid)
    assert dead(tmp_path) == []
    freeze(process.pid)
    assert dead(tmp_path) == []
    process.kill()
    process.wait()
    assert dead(tmp_path) == [ONE]
    assert (files(tmp_path), dead(tmp_path)) == ([], [])


def test_who_is_done_leaves_nothing(tmp_path: Path) -> None:
    descriptors = os.listdir("/proc/self/fd")
    with pytest.raises(KeyError), holding(tmp_path, ONE):
        assert len(files(tmp_path)) == 1
        raise KeyError
    assert (files(tmp_path), dead(tmp_path), os.listdir("/proc/self/fd")) == ([], [], descriptors)


def test_in_containers_in_which_process_ids_are_the_same(tmp_path: Path, hold: Hold) -> None:
    def ask() -> list[str]:
        asks = command(ASK, tmp_path, *container())
        return subprocess.run(asks, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()

    process = hold(*container())
    assert said(process) == "1"
    assert ask() == ["1"]
    process.kill()
    process.wait()
    until(lambda: ask() == ["1", "token"])


def test_a_stages_process_that_outlives_its_supervisor_is_waited_for(tmp_path: Path, hold: Hold) -> None:
    process = hold()
    said(process)
    process.kill()
    process.wait()
    (tmp_path / "r").mkdir()
    with (tmp_path / "r" / ".train.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert dead(tmp_path) == []
    assert dead(tmp_path) == [ONE]


def test_another_boot_or_another_file_proves_nothing(
    tmp_path: Path, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = hold()
    said(process)
    process.kill()
    process.wait()
    (name,) = files(tmp_path)
    with monkeypatch.context() as elsewhere:
        (tmp_path / "boot_id").write_text("00000000-0000-0000-0000-000000000000\n")
        elsewhere.setattr(holders, "BOOT", tmp_path / "boot_id")
        assert dead(tmp_path) == []
        forget_other_boots(tmp_path, lambda token: False)
        assert files(tmp_path) == [name]
        elsewhere.setattr(holders, "BOOT", tmp_path / "no such system")
        assert dead(tmp_path) == []
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / holders.FOLDER, copy / holders.FOLDER)
    assert dead(copy) == []
    assert dead(tmp_path) == [ONE]


def test_what_an_earlier_boot_left_goes_when_its_token_is_over(
    rig: Rig,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home, lost, held = rig.settings.home, Path("lost"), Path("held")
    (home / "boot_id").write_text("1")
    rig.submit("r")
    token = rig.store.claim("r", "prepare", 1, "w1", 60)
    with monkeypatch.context() as earlier:
        earlier.setattr(holders, "BOOT", home / "boot_id")
        for left, its_token in ((lost, "another"), (held, token)):
            with holding(home, Holder("r", "prepare", 1, "w1", its_token or "")):
                shutil.copytree(home / holders.FOLDER, home / left)
    for left in (lost, held):
        shutil.copytree(home / left, home / holders.FOLDER, dirs_exist_ok=True)
    worker = Reconciler(rig.settings, "w1", ["gpu"])
    with holding(home, ONE):
        (living,) = set(files(home)) - {*os.listdir(home / lost), *os.listdir(home / held)}
        worker._beat()
        assert sorted(files(home)) == sorted([living, *os.listdir(home / held)])
    worker.store.close()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"holder": {"of": "a later ftq"}, "file": IDENTITY}'])
def test_what_cant_be_read_ends_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / holders.FOLDER).mkdir()
    file = tmp_path / holders.FOLDER / f"{holders.BOOT.read_text().strip()}.1"
    file.touch()
    file.write_text(text.replace("IDENTITY", f"[{file.stat().st_dev}, {file.stat().st_ino}]"))
    assert (dead(tmp_path), files(tmp_path)) == ([], [file.name])
    (tmp_path / "boot_id").write_text("2")
    monkeypatch.setattr(holders, "BOOT", tmp_path / "boot_id")
    forget_other_boots(tmp_path, lambda token: token == "")
    assert files(tmp_path) == []


@pytest.mark.parametrize("trouble", ["no locks", "full disk", "no folder"])
def test_without_a_file_the_attempt_is_done_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    def fail(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    (tmp_path / holders.FOLDER).touch() if trouble == "no folder" else (tmp_path / holders.FOLDER).mkdir()
    descriptors = os.listdir("/proc/self/fd")
    if trouble == "no locks":
        monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    elif trouble == "full disk":
        monkeypatch.setattr(os, "write", fail)
    with holding(tmp_path, ONE):
        assert trouble == "no folder" or files(tmp_path) == []
        assert dead(tmp_path) == []
    assert os.listdir("/proc/self/fd") == descriptors


def test_two_workers_that_look_at_once_take_it_once(tmp_path: Path, hold: Hold) -> None:
    process, told = hold(), list[Holder]()
    said(process)
    process.kill()
    process.wait()

    def lose(holder: Holder) -> None:
        told.append(holder)
        end_the_dead(tmp_path, told.append)

    end_the_dead(tmp_path, lose)
    assert told == [ONE]


def test_what_the_database_didnt_hear_is_told_again(tmp_path: Path, hold: Hold) -> None:
    def unreachable(holder: Holder) -> None:
        raise Unavailable("the server is starting")

    process = hold()
    said(process)
    process.kill()
    process.wait()
    with pytest.raises(Unavailable):
        end_the_dead(tmp_path, unreachable)
    assert dead(tmp_path) == [ONE]


# ---- with a supervisor, a stage's process and the database ------------------------------------------------


def _supervise(home: Path) -> None:
    Rig(home, lease_seconds=10_000).supervisor.run("r", "train", 1)


def test_a_killed_supervisors_training_goes_on_once_when_its_process_is_gone(
    rig: Rig,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = rig.submit("r", {"train": {"1": "wait"}}, done=1, max_steps=20, save_steps=100)
    rig.store.close()
    child = multiprocessing.get_context("fork").Process(target=_supervise, args=(rig.settings.home,))
    child.start()
    pid = rig.wait_for("started")["pid"]
    until(lambda: (rig.store.get("r").stage("train").progress or {}).get("step") == 10)
    one, other = Reconciler(rig.settings, "w1", ["gpu"]), Reconciler(rig.settings, "w2", ["gpu"])
    try:
        assert (one._expired(), other._expired()) == ([], [])
        freeze(pid)
        child.kill()
        child.join()
        assert (one._expired(), other._expired()) == ([], [])
        os.kill(pid, signal.SIGCONT)
        with monkeypatch.context() as stuck:  # the file stays, as if the first had died here
            stuck.setattr(Path, "unlink", lambda *_: (_ for _ in ()).throw(OSError("read-only")))
            assert until(one._expired) == ["r"]
        until(lambda: gone(pid))
        assert other._expired() == []
    finally:
        one.store.close()
        other.store.close()
    assert files(rig.settings.home) == []
    assert rig.messages("lost") == ["the process of w1 that held it died"]
    stage = rig.store.get("r").stage("train")
    assert (stage.status, stage.attempt, stage.losses) == ("queued", 2, 1)
    assert rig.supervisor.run("r", "train", 2) is True
    assert (folder.adapter / "steps.json").read_text().startswith(f'{{"steps": {list(range(1, 21))}')
    assert rig.said()[-3:] == [("train", 2, "started"), ("train", 2, "resumed"), ("train", 2, "succeeded")]
