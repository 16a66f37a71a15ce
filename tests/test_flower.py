"""Flower with ftq's configuration: the pin, what it reaches into, its logins, and what an event says."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from flower_tools import CONFIG, LOGIN, until

from ftq.errors import UserError
from ftq.queue import make_app
from ftq.settings import Settings
from worker.flower import events, login

ROOT = Path(__file__).parents[1]
FACTS = """
import json, sys
from tornado.options import options, parse_config_file
import flower.command
from celery.events import state
from flower import urls
from flower.views import tasks
parse_config_file(sys.argv[1])
def classes(route):
    return [found.__name__ for found in (route.target if hasattr(route, "target") else route[1]).__mro__]
print(json.dumps({
    "columns": tasks.visible_task_columns(options.tasks_columns),
    "fields": state.Task._fields, "state": state.TASK_EVENT_TO_STATE["progress"],
    "live": [route.name for route in urls.handlers if "Live" in classes(route)],
    "routes": len(urls.handlers), "guarded": sum("Guarded" in classes(route) for route in urls.handlers),
    "options": {name: getattr(options, name) for name in ("address", "read_only", "persistent", "db", "basic_auth")},
}))
"""


def facts(home: Path, **environment: str) -> dict[str, Any]:
    """What Flower is after it has read the configuration, seen from inside a process of its own."""
    given = os.environ | {"FTQ_HOME": str(home), "FTQ_FLOWER_AUTH": LOGIN, **environment}
    asked = subprocess.run([sys.executable, "-c", FACTS, str(CONFIG)], env=given, capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr
    found: dict[str, Any] = json.loads(asked.stdout)
    return found


# ---- the pin, and what the configuration reaches into ---------------------------------------------------


def test_flower_is_the_one_that_the_configuration_was_made_for() -> None:
    assert version("flower").startswith("2.2.")
    assert f"flower=={version('flower')}\n" in (ROOT / "requirements" / "flower.txt").read_text()


def test_the_configuration_takes_hold(home: Path) -> None:
    found = facts(home)
    assert [label for _, label in found["columns"]] == [
        "Name", "Run", "State", "Progress", "Step", "Loss", "Time left", "GPU", "Received", "Runtime", "Worker", "UUID",
    ]  # fmt: skip
    assert found["fields"][:5] == ["progress", "step", "loss", "time_left", "gpu"]
    assert found["state"] == "STARTED"
    assert found["live"] == ["task", "tasks"]
    assert found["guarded"] == found["routes"] == 32
    assert found["options"] == {
        "address": "127.0.0.1", "read_only": True, "persistent": True, "db": str(home / "flower" / "state"),
        "basic_auth": [LOGIN],
    }  # fmt: skip
    assert stat.S_IMODE((home / "flower").stat().st_mode) == 0o700


@pytest.mark.parametrize(("given", "read_only"), [("1", False), ("0", True), ("", True), ("yes", True)])
def test_only_a_clear_word_opens_the_controls(home: Path, given: str, read_only: bool) -> None:
    found = facts(home, FTQ_FLOWER_CONTROL=given, FLOWER_READ_ONLY="false", FTQ_FLOWER_STATE=str(home / "x" / "s"))
    assert found["options"]["read_only"] is read_only
    assert found["options"]["db"] == str(home / "x" / "s")


def start_and_fail(**environment: str) -> str:
    command = [sys.executable, "-m", "celery", "-A", "worker.app", "flower", f"--conf={CONFIG}"]
    failed = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=300)
    assert failed.returncode == 1
    return failed.stderr


def test_without_a_login_it_does_not_start() -> None:
    said = start_and_fail(FTQ_FLOWER_AUTH="")
    assert said.startswith(
        "Error: Flower has no login, and without one it isn't started\nPut user:password into a file"
    )


def test_a_state_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    said = start_and_fail(FTQ_FLOWER_AUTH=LOGIN, FTQ_FLOWER_STATE=str(open_to_all / "state"))
    assert said.startswith(f"Error: FTQ_FLOWER_STATE: everybody may write to {open_to_all}\nchmod o-w {open_to_all}")


# ---- logins ---------------------------------------------------------------------------------------------


def test_logins_come_from_the_file_then_from_the_variable(tmp_path: Path) -> None:
    file = tmp_path / "login"
    file.write_text("\nann:one:two\n  bob:three  \n")
    assert login.read({"FTQ_FLOWER_AUTH_FILE": str(file), "FTQ_FLOWER_AUTH": "c:d"}) == [
        "ann:one:two",
        "bob:three",
    ]
    assert login.read({"FTQ_FLOWER_AUTH": "c:d"}) == ["c:d"]


@pytest.mark.parametrize("text", ["hidden", ":hidden", "hidden:", "ann:hiddén"])
def test_a_wrong_login_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(UserError) as caught:
        login.read({"FTQ_FLOWER_AUTH": f"ann:fine\n{text}"})
    assert caught.value.message == "FTQ_FLOWER_AUTH, line 2: not user:password in ASCII"
    assert "hidd" not in caught.value.hint


def test_a_login_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"FTQ_FLOWER_AUTH_FILE=.*No such file"):
        login.read({"FTQ_FLOWER_AUTH_FILE": str(tmp_path / "missing"), "FTQ_FLOWER_AUTH": "c:d"})


def test_a_made_login_is_random_private_and_stays(tmp_path: Path) -> None:
    files = [tmp_path / "new" / "login", tmp_path / "other" / "login"]
    for file in files:
        login.make(file)
    first = files[0].read_text()
    assert re.fullmatch(r"ftq:[\w-]{22}\n", first)
    assert first != files[1].read_text()
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(files[0].parent.stat().st_mode) == 0o700
    login.make(files[0])
    assert files[0].read_text() == first


def test_an_empty_login_that_a_full_disk_left_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "login"
    file.touch()
    login.make(file)
    assert re.fullmatch(r"ftq:[\w-]{22}\n", file.read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["login"]


def test_a_login_that_cannot_be_written_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"Flower's login can't be written: .*/file/login: File exists"):
        login.make(tmp_path / "file" / "login")
    with pytest.raises(UserError, match="File name too long"):
        login.make(tmp_path / ("x" * 254))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# ---- what an event says ---------------------------------------------------------------------------------


def test_the_columns_of_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "gpu_name", lambda: "NVIDIA H100")
    report = {"percent": 17.0512, "step": 341, "total_steps": 2000, "loss": 2.21184, "eta_seconds": 3725.9}
    assert events._columns(report) == {
        "progress": "17.1%", "step": "341/2000", "loss": "2.2118", "time_left": "1:02:05", "gpu": "NVIDIA H100",
    }  # fmt: skip
    monkeypatch.setattr(events, "gpu_name", lambda: None)
    bare = {"percent": 50, "step": None, "total_steps": None, "loss": None, "eta_seconds": None}
    assert events._columns(bare) == {"progress": "50.0%", "time_left": ""}
    assert [events._clock(seconds) for seconds in (0, 59.9, 82, 3600)] == ["0:00", "0:59", "1:22", "1:00:00"]


def test_events_wait_for_nobody_and_only_the_newest_is_sent(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    class Slow(events.Courier):
        def _send(self, task_id: str, kind: str, hostname: str, fields: dict[str, Any]) -> None:
            sent.append(fields["step"])
            raise ConnectionError("the broker is unreachable")

    monkeypatch.setattr(events, "EVERY_SECONDS", 0.01)
    courier = Slow(make_app(Settings.from_env()))
    with courier._changed:  # the thread can't look while all of these come in
        for step in range(1000):
            courier.put("task", "task-progress", "host", {"step": step})
    until(lambda: sent)
    courier.put("task", "task-progress", "host", {"step": "last"})
    until(lambda: sent[-1] == "last")
    assert sent == [999, "last"]
