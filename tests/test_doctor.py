"""The doctor on a client: machine, folders, database, workers, and the command; each check with both outcomes."""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import cli_tools
import pytest

from cli.commands import doctor
from ftq import version
from ftq.doctor import client, clock, machine
from ftq.doctor.clock import compare
from ftq.doctor.database import database
from ftq.doctor.findings import Check, Finding, examine, worst
from ftq.doctor.workers import workers
from ftq.errors import Unavailable
from ftq.settings import Settings
from ftq.store.store import RunStore
from tests.tools import PATIENCE, until


def told(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    return [(finding.level, finding.message) for finding in findings]


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings.from_env({"FTQ_HOME": str(home)})


# ---- looking at everything at once ------------------------------------------------------------------------


def test_a_check_that_hangs_costs_its_time_and_nothing_else() -> None:
    never, halfway = threading.Event(), threading.Event()

    def hangs() -> Iterator[Finding]:
        yield Finding("a", "ok", "half")
        halfway.set()
        never.wait()
        yield Finding("a", "ok", "the other half")

    def ends() -> Iterator[Finding]:
        assert halfway.wait(PATIENCE)
        yield Finding("b", "ok", "whole")

    checks = [Check("b", ends), Check("a", hangs, silence="warning", fix="wake it", seconds=0.2)]
    found = list(examine(checks, PATIENCE))
    never.set()
    assert found == [
        Finding("b", "ok", "whole"),
        Finding("a", "ok", "half"),
        Finding("a", "warning", "no answer within 0.2 s", "wake it"),
    ]


def test_a_check_that_fails_is_a_finding() -> None:
    def fails() -> Iterator[Finding]:
        raise RuntimeError("no such thing\nand more")

    assert list(examine([Check("a", fails, fix="m")])) == [
        Finding("a", "problem", "the check itself failed: RuntimeError: no such thing", "m")
    ]


def test_the_worst_finding_is_the_verdict() -> None:
    def of(*levels: Any) -> list[Finding]:
        return [Finding("a", level, "") for level in levels]

    assert [worst(of(*levels)) for levels in ((), ("ok", "note"), ("warning", "ok"), ("problem", "warning"))] == [
        "ok", "note", "warning", "problem"
    ]  # fmt: skip


# ---- versions ---------------------------------------------------------------------------------------------


def test_the_pins_are_those_of_the_requirements() -> None:
    root = Path(__file__).parent.parent / "requirements"
    lines = [line for line in (root / "cli.txt").read_text().splitlines() if "==" in line]
    assert [f"{name}=={pin}" for name, pin in machine.pins("cli").items()] == lines
    assert "torch" in machine.pins("worker") and "psycopg" in machine.pins("dev")
    assert machine.pins("no-such-file") == {}


def test_a_pin_for_another_python_is_none_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "requirements").mkdir()
    lines = ['old==1.0; python_version < "3"', 'both==1.0; python_version < "3"', 'both==2.0; python_version >= "3"',
             "extra[more]==3.0  # a comment", "", "# a comment"]  # fmt: skip
    (tmp_path / "requirements" / "x.txt").write_text("\n".join(lines))
    monkeypatch.setattr(machine.resources, "files", lambda _: tmp_path)
    assert machine.pins("x") == {"both": "2.0", "extra": "3.0"}


def test_what_is_missing_is_installed_from_the_source_folder_or_else_from_the_package(tmp_path: Path) -> None:
    assert version.install("formats") == "pip install -r requirements/formats.txt"
    package = tmp_path / "a b" / "ftq"  # as pip has installed it, where there is no Makefile and no requirements/
    shutil.copytree(Path(version.__file__).parent / "requirements", package / "requirements")
    shutil.copy(version.__file__, package)
    _, said = runpy.run_path(str(package / "version.py"))["install"]("formats").split(" -r ")
    assert [Path(path).is_file() for path in shlex.split(said)] == [True]


def test_versions_are_compared_with_the_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = metadata.version("click")
    monkeypatch.setattr(machine, "pins", lambda _: {"click": installed})
    assert [level for level, _ in told(machine.versions("x"))] == ["ok"]
    monkeypatch.setattr(machine, "pins", lambda _: {"click": "0.1", "no-such-package": "2.0", "rich": "15.0.0"})
    assert list(machine.versions("x", "--no-deps")) == [
        Finding("versions", "warning", f"click {installed} is installed, ftq is tested with 0.1",
                "python -m pip install --no-deps click==0.1"),
        Finding("versions", "problem", "no-such-package isn't installed, 2.0 is pinned",
                "python -m pip install --no-deps no-such-package==2.0"),
    ]  # fmt: skip
    assert "warning" in [level for level, message in told(machine.versions("x", missing="warning")) if "no-" in message]
    monkeypatch.setattr(machine, "pins", lambda _: {})
    assert [level for level, _ in told(machine.versions("x"))] == ["note"]


def test_a_build_for_cuda_is_the_pinned_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "pins", lambda _: {"torch": "2.13.0"})
    monkeypatch.setattr(metadata, "version", lambda _: "2.13.0+cu130")
    assert [level for level, _ in told(machine.versions("x"))] == ["ok"]


# ---- folders ----------------------------------------------------------------------------------------------


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A folder of root's in which this process has the rights of nobody: root may write everywhere."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(65534)
        yield folder
        os.seteuid(0)
    else:
        yield folder
    folder.chmod(0o700)
    shutil.rmtree(folder)


def test_an_artifacts_folder_that_cant_be_written(nobody: Path) -> None:
    (denied,) = [finding for finding in machine.artifacts(nobody) if finding.level == "problem"]
    assert denied.message == f"{nobody} can't be written (Permission denied)"
    assert denied.fix.startswith(f"sudo chown -R {os.geteuid()} {nobody}")
    (unmade,) = machine.artifacts(nobody / "artifacts")
    message = f"{nobody}/artifacts can't be made: {nobody} can't be written (Permission denied)"
    assert (unmade.level, unmade.message) == ("problem", message)


def test_a_database_in_such_a_folder_says_so(nobody: Path) -> None:
    url = f"sqlite:///{nobody}/ftq.db"
    with pytest.raises(Unavailable) as caught:
        RunStore(url)
    assert caught.value.message == f"database {url} can't be used: {nobody} can't be written"
    assert caught.value.hint == "Correct the folder's owner and mode, or set FTQ_HOME to a folder of yours."


def test_an_artifacts_folder_on_a_read_only_file_system() -> None:
    assert [level for level, _ in told(machine.artifacts(Path("/proc/artifacts")))] == ["problem"]


def test_the_artifacts_folder_is_private_or_somebody_may_look(home: Path) -> None:
    assert told(machine.artifacts(home)) == [("note", f"{home} isn't there yet: the first run makes it")]
    home.mkdir(mode=0o700)
    assert told(machine.artifacts(home)) == [("ok", f"{home} is writable")]
    home.chmod(0o755)
    assert list(machine.artifacts(home))[1].level == "warning"
    assert list(machine.artifacts(home))[1].fix == f"chmod 700 {home}"
    (home / ".gitignore").write_text("*\n")  # a clone's: the first run closes it
    assert told(machine.artifacts(home)) == [("ok", f"{home} is writable")]
    (home / ".gitignore").unlink()
    home.chmod(0o770)
    assert list(machine.artifacts(home))[1].level == "note"
    home.rmdir()
    home.write_text("")
    assert told(machine.artifacts(home)) == [("problem", f"{home} is no folder")]


def test_a_disk_that_gets_full(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, level in ((500e9, "ok"), (5e9, "warning"), (0.5e9, "problem")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: shutil._ntuple_diskusage(1e12, 0, free))
        assert [finding.level for finding in machine.disk("artifacts", home)] == [level]


def test_a_network_file_system_is_known_by_its_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "30 22 0:40 / /data rw shared:5 - nfs4 server:/data rw\n"
        "31 30 8:2 / /data/local rw - xfs /dev/sdb1 rw\n"
        "32 22 0:41 / /my\\040share rw - fuse.sshfs me@host:/ rw\n"
    )
    kinds = [machine.network_type(Path(path), mounts)
             for path in ("/data/artifacts", "/data/local/artifacts", "/database", "/my share/a")]  # fmt: skip
    assert kinds == ["nfs4", "", "", "fuse.sshfs"]
    assert machine.network_type(Path("/data"), tmp_path / "none") == ""


# ---- database ---------------------------------------------------------------------------------------------


def test_a_database_that_is_whole_or_not_there_yet(settings: Settings) -> None:
    assert told(database(settings)) == [("note", f"{settings.home}/ftq.db isn't there yet: the first run makes it")]
    assert not settings.home.exists()
    settings.home.mkdir()
    RunStore(settings.database_url).close()
    assert [level for level, _ in told(database(settings))] == ["ok", "ok"]


def test_a_database_whose_folder_isnt_there(home: Path, tmp_path: Path) -> None:
    """Every command would fail: SQLite makes a file, and no folder."""
    elsewhere = tmp_path / "no such" / "ftq.db"
    settings = Settings(home=home, broker_url="", database_url=f"sqlite:///{elsewhere}")
    [found] = [one for one in database(settings) if one.level == "problem"]
    assert found.message == f"{elsewhere} can't be made: there is no folder {elsewhere.parent}"
    assert found.fix == f"mkdir -p '{elsewhere.parent}', or set FTQ_DATABASE_URL"
    elsewhere.parent.mkdir()
    assert not [one for one in database(settings) if one.level == "problem"]
    with contextlib.closing(RunStore(settings.database_url)):
        assert elsewhere.is_file()


def test_a_damaged_database(settings: Settings, home: Path) -> None:
    home.mkdir()
    RunStore(settings.database_url).close()
    path = home / "ftq.db"
    with sqlite3.connect(path) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'stages'").fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\x55" * 4096)
    damaged = list(database(settings))[-1]
    assert (damaged.level, damaged.message.split(":")[0]) == ("problem", f"{path} is damaged")
    path.write_bytes(b"not a database " * 400)
    (unreadable,) = database(settings)
    assert (unreadable.level, "can't be used" in unreadable.message) == ("problem", True)


def test_a_database_on_a_network_file_system(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftq.doctor.database.network_type", lambda _: "nfs4")
    assert [level for level, _ in told(database(settings))] == ["warning", "note"]


def test_a_database_server_that_is_unreachable_or_has_no_driver(home: Path) -> None:
    for url in ("postgresql+psycopg://ftq:secret@127.0.0.1:1/ftq", "nosuchdatabase://ftq:secret@host/ftq", "nonsense"):
        (away,) = database(Settings.from_env({"FTQ_HOME": str(home), "FTQ_DATABASE_URL": url}))
        assert away.level == "problem" and away.fix and "secret" not in away.message


@pytest.mark.slow
def test_a_database_server(home: Path, postgres: str) -> None:
    found = list(database(Settings.from_env({"FTQ_HOME": str(home), "FTQ_DATABASE_URL": postgres})))
    assert [(finding.check, finding.level) for finding in found] == [("database", "ok"), ("clock", "ok")]
    assert found[0].message.startswith("postgresql ")


# ---- workers and clocks -----------------------------------------------------------------------------------

NOW = time.time()  # a database lists whoever was seen within a day of its own clock


def seen(settings: Settings, **ago: float) -> None:
    """Workers that gave their last sign of life so many seconds ago, by their own clock; gpu0 serves gpu."""
    settings.home.mkdir(exist_ok=True)
    store = RunStore(settings.database_url)
    for name, seconds in ago.items():
        store.clock = lambda seconds=seconds: NOW - seconds
        gpu = name.startswith("gpu")
        store.see_worker(name, "box", ["gpu"] if gpu else ["cpu", "ask"], "NVIDIA L4" if gpu else None, 1)
    store.close()


def look(settings: Settings, *answering: str, away: bool = False) -> list[tuple[str, str, str]]:
    found = workers(settings, lambda: NOW, lambda _, names: None if away else set(names) & set(answering))
    return [(finding.check, finding.level, finding.message) for finding in found]


def test_workers_that_are_alive(settings: Settings) -> None:
    seen(settings, gpu0=3, cpu=1)
    expected = [("workers", "ok", "cpu (cpu,ask) is alive"), ("workers", "ok", "gpu0 (gpu, NVIDIA L4) is alive")]
    assert look(settings, "gpu0", "cpu") == expected
    assert look(settings, away=True) == expected


def test_a_worker_of_an_earlier_version_is_named(settings: Settings) -> None:
    seen(settings, gpu0=3, cpu=1)
    store = RunStore(settings.database_url)
    store.clock = lambda: NOW
    store.see_worker("cpu", "box", ["cpu", "ask"], None, 1, {"gpus": 0, "gpu": "CPU", "memory": 1})
    store.close()
    old = ("workers", "warning", "cpu is of an earlier version of ftq, and drops the stage evaluate")
    assert look(settings, "gpu0", "cpu")[1] == old


def test_no_worker_at_all_or_none_for_a_queue(settings: Settings) -> None:
    nobody = ("workers", "warning", "no worker is up: runs are recorded and wait")
    assert look(settings) == [nobody]
    seen(settings, gpu0=500, gpu1=2 * 86_400)
    gone = ("workers", "note", "gpu0 (gpu, NVIDIA L4) is gone: silent for 8m. Its runs go to another worker.")
    assert look(settings) == [gone, nobody]
    seen(settings, cpu=1)
    assert look(settings, "cpu")[-1] == ("workers", "warning", "no worker serves the queue gpu: runs wait there")
    seen(settings, gpu0=1, cpu=500)
    assert look(settings, "gpu0")[-2:] == [
        ("workers", "warning", "no worker serves the queue cpu: runs wait there"),
        ("workers", "warning", "no worker serves the queue ask: questions wait there"),
    ]


def test_drained_workers_are_said_to_be_what_is_missing(settings: Settings) -> None:
    seen(settings, cpu=1, gpu0=1)
    with contextlib.closing(RunStore(settings.database_url)) as store:
        store.set_drained("cpu", True)
        drained = [
            ("workers", "warning", f"all workers of the queue {queue} are drained (cpu): {what} wait there")
            for queue, what in (("cpu", "runs"), ("ask", "questions"))
        ]
        assert look(settings, "gpu0", "cpu")[-2:] == drained
        store.set_drained("gpu0", True)
    found = [one for one in workers(settings, lambda: NOW, lambda _, names: set(names)) if one.level == "warning"]
    message, fix = "all workers are drained (cpu, gpu0): runs are recorded and wait", "ftq workers undrain cpu gpu0"
    assert [(one.message, one.fix) for one in found] == [(message, f"`{fix}` lets them take work.")]


def test_a_worker_on_another_broker_or_about_to_stop(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftq.doctor.workers.RunStore", partial(RunStore, clock=lambda: NOW))
    seen(settings, cpu=1, gpu0=1)
    assert look(settings, "gpu0")[0][1:] == (
        "warning", "cpu (cpu,ask) is alive by the database, but doesn't answer through this broker"
    )  # fmt: skip
    store = RunStore(settings.database_url)
    store.clock = lambda: NOW
    store.drain_worker("cpu", True)
    store.close()
    assert [finding[1:] for finding in look(settings, "gpu0", "cpu") if finding[1] != "ok"] == [
        ("note", "cpu (cpu,ask) is stopping"), ("warning", "no worker serves the queue cpu: runs wait there"),
        ("warning", "no worker serves the queue ask: questions wait there"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ago", "level", "words"),
    [(100, "problem", "100 s behind"), (30, "warning", "30 s behind"), (-15, "warning", "15 s ahead of"),
     (-100, "problem", "100 s ahead of"), (24, None, "")],
)  # fmt: skip
def test_a_worker_whose_clock_differs(settings: Settings, ago: float, level: str | None, words: str) -> None:
    """It answers, so a sign of life that is old or of the future tells its clock; half a lease is 30 s.

    On a busy machine a sign of life may be 20 s late.
    """
    seen(settings, gpu0=ago, cpu=1)
    found = [(kind, message) for check, kind, message in look(settings, "gpu0", "cpu") if check == "clock"]
    assert [kind for kind, _ in found] == ([level] if level else [])
    assert all(words in message for _, message in found)


def test_a_worker_of_this_machine_has_its_clock(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "box")
    seen(settings, gpu0=100, cpu=1)
    assert [finding for finding in look(settings, "gpu0", "cpu") if finding[0] == "clock"] == []


def test_workers_of_a_database_that_cant_be_read(home: Path) -> None:
    url = "postgresql+psycopg://ftq@127.0.0.1:1/ftq"
    away = Settings.from_env({"FTQ_HOME": str(home), "FTQ_DATABASE_URL": url})
    assert look(away) == [("workers", "note", "unknown: the database can't be read")]


def test_of_several_answers_the_fastest_tells_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine: the others take 20 s to come back."""
    now, waits = [1000.0], iter([20.0, 20.0, 0.5, 20.0, 20.0])
    monkeypatch.setattr(clock.time, "time", lambda: now[0])
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])

    def ask() -> float:
        answer = now[0] + 3.0
        now[0] += next(waits)
        return answer

    assert clock.difference(ask) == (2.75, 0.25)


def test_clocks_that_agree_and_differ() -> None:
    assert [finding.level for finding in compare("the broker", 0.2)] == ["ok"]
    assert [finding.level for finding in compare("the broker", -7)] == ["warning"]
    assert [finding.level for finding in compare("the broker", -7, unsure=3)] == ["ok"]


# ---- the command ------------------------------------------------------------------------------------------


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """All may take a minute: a busy machine hasn't imported everything after 2.5 or 4.5 seconds."""
    monkeypatch.setattr(doctor, "WORKER_SECONDS", PATIENCE)
    monkeypatch.setattr(examine, "__defaults__", (PATIENCE,))


@pytest.fixture
def thin(patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the client is installed; its disk has room."""
    from importlib import util

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1e12, 0, 500e9))

    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *rest: None if name == "torch" else find(name, *rest))


def test_a_thin_client_leaves_the_worker_out_and_says_so(
    thin: None, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTQ_BROKER_URL", "redis://127.0.0.1:1/0")
    result = cli_tools.run("doctor", "--flower", "http://127.0.0.1:1")
    assert "only the client is installed here (torch missing): the worker's checks are left out" in result.stdout
    assert "compiler" not in result.stdout
    assert "-> ftq up   (or ftq worker)   where the worker is installed" in result.stdout
    assert result.stderr == "1 problem and 1 warning found.\n"
    assert not home.exists()


def test_a_thin_client_that_knows_of_no_workers_is_told_first_how_it_gets_to_them(thin: None, home: Path) -> None:
    result = cli_tools.run("doctor")
    assert (result.exit_code, result.stderr) == (1, "1 problem found.\n")
    said = " ".join(result.stdout.split())
    assert "nothing says where workers are: runs wait in" in said and "-> export FTQ_SERVER=https://" in said
    assert "ftq up (" not in said, "it can't be started here"
    assert not home.exists()


@pytest.mark.parametrize(
    "name", ["FTQ_SERVER", "FTQ_BROKER_URL", "FTQ_DATABASE_URL", "FTQ_ARTIFACTS_URL", "a broker's socket", ""]
)
def test_a_thin_client_that_knows_of_workers_looks_for_them(thin: None, home: Path, name: str) -> None:
    values = {"FTQ_SERVER": "https://a", "FTQ_BROKER_URL": "redis://a", "FTQ_DATABASE_URL": "postgresql+psycopg://a/b"}
    values["FTQ_ARTIFACTS_URL"] = "s3://a"
    settings = Settings.from_env({"FTQ_HOME": str(home), **({name: values[name]} if name in values else {})})
    if name == "a broker's socket":
        socket_there = settings.home / "valkey.sock"
        settings.socket_place.parent.mkdir(parents=True)
        settings.socket_place.write_bytes(os.fsencode(socket_there))
        socket_there.touch()
    names = [check.name for check in client.checks(settings, None)]
    assert ("broker" in names or "server" in names) is bool(name)


def test_an_installation_that_lacks_a_package(thin: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ftq.doctor.broker", None)  # importing it fails
    monkeypatch.setenv("FTQ_BROKER_URL", "redis://127.0.0.1:1/0")
    result = cli_tools.run("doctor")
    assert result.exit_code == 1
    assert "nothing else can be looked at" in result.stdout


def test_a_model_without_deep_says_what_to_type() -> None:
    result = cli_tools.run("doctor", "--model", "phi-3.5-mini")
    assert (result.exit_code, "ftq doctor --deep --model NAME" in result.stderr) == (2, True)


def test_deep_on_a_thin_client_says_where_to_run_it(thin: None) -> None:
    result = cli_tools.run("doctor", "--deep")
    assert result.exit_code == 1 and "Run it where `ftq worker` runs." in result.stderr


def test_a_problem_is_exit_code_1(thin: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTQ_BROKER_URL", "redis://:secret@127.0.0.1:1/0")
    result = cli_tools.run("doctor", "--json")
    answer = json.loads(result.stdout)
    assert (result.exit_code, answer["verdict"]) == (1, "problem")
    broker = next(finding for finding in answer["findings"] if finding["check"] == "broker")
    assert broker["where"] == "client" and broker["fix"].startswith("Start it, or set FTQ_BROKER_URL")
    assert "secret" not in result.output


def test_the_workers_half_comes_from_a_process_of_its_own(home: Path, patient: None) -> None:
    home.mkdir(mode=0o700)
    found = json.loads(cli_tools.run("doctor", "--json").stdout)["findings"]
    checks = list(dict.fromkeys(finding["check"] for finding in found if finding["where"] == "worker"))
    assert checks[:1] == ["versions"] and checks[-5:] == ["limits", "shared memory", "disk", "hub", "llama.cpp"]


def test_a_hub_that_never_answers_costs_no_other_finding(
    home: Path, patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir(mode=0o700)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{mute.getsockname()[1]}")
        for offline in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):  # a stage that ran in this process sets them
            monkeypatch.delenv(offline, raising=False)
        found = json.loads(cli_tools.run("doctor", "--json").stdout)["findings"]
    levels = {finding["check"]: finding["level"] for finding in found if finding["where"] == "worker"}
    assert levels["hub"] == "warning" and {"versions", "gpu", "limits"} <= set(levels)


def test_what_the_workers_half_found_in_time_counts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine so busy that the checks aren't done in time."""
    home.mkdir(mode=0o700)
    line = json.dumps({"check": "gpu", "level": "ok", "message": "GPU 0: H100", "fix": "", "seconds": None})
    said = f"echo a library\\'s own line; echo '{line}'; echo -n '{line[:20]}'"
    slow, start = ["sh", "-c", f"{said}; touch {home}/said; exec sleep 60"], subprocess.Popen

    def begin(_: object, **options: Any) -> Any:
        process = start(slow, **options)
        until((home / "said").exists)
        return process

    monkeypatch.setattr(subprocess, "Popen", begin)
    monkeypatch.setattr(doctor, "WORKER_SECONDS", 2.0)
    result = cli_tools.run("doctor", "--json")
    found = [finding for finding in json.loads(result.stdout)["findings"] if finding["where"] == "worker"]
    assert [(finding["check"], finding["level"]) for finding in found] == [("gpu", "ok"), ("worker", "warning")]
    assert "weren't done within 2 s: the machine may be busy" in found[1]["message"]


def test_a_workers_half_that_was_done_before_the_clients_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's checks may take longer than the worker's half has time."""
    monkeypatch.setattr(doctor, "LEAST_SECONDS", PATIENCE)
    said = '{"check": "gpu", "level": "ok", "message": "one", "fix": "", "seconds": null}'
    with subprocess.Popen(["echo", said], stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8") as process:
        until(lambda: os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT))
        assert doctor._collect(process, time.monotonic() - 1) == [Finding("gpu", "ok", "one")]


def test_a_workers_half_that_breaks_is_a_problem(home: Path, patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [sys.executable, "-c", "import no_such_module"]
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: start(broken, **options))
    result = cli_tools.run("doctor")
    assert result.exit_code == 1
    assert "the worker's checks failed: ModuleNotFoundError: No module named 'no_such_module'" in result.stdout
