"""`make demo` and `ftq up` asked to stop, killed, or left by one another: nothing of them stays."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ftq.client.client import Client
from ftq.programs import UpOptions
from ftq.settings import Settings
from tests.tools import PATIENCE, free_port, until
from worker.host import demo
from worker.host.demo import Demo

ROOT = Path(__file__).parents[1]
PARTS = ("valkey", "fake_worker", "flower", "fake_stages.prepare")


class Machine:
    """Starts the demo, or `ftq up`, with Flower, fast stages and an artifacts folder of its own."""

    def __init__(self, home: Path) -> None:
        self.home, self.said = home, home.parent / "said"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *command: str, folder: Path = ROOT, **environment: str) -> subprocess.Popen[bytes]:
        wanted = {"FTQ_HOME": str(self.home), "PYTHONPATH": str(ROOT), **environment}
        with self.said.open("ab") as output:
            self.process = subprocess.Popen(
                command, cwd=folder, env=os.environ | wanted, stdout=output, stderr=output, start_new_session=True
            )
        return self.process

    def demo(self, **how: str | Path) -> subprocess.Popen[bytes]:
        return self.start(sys.executable, "-m", "tests.fake_demo", str(free_port()), **how)  # type: ignore[arg-type]

    def processes(self) -> list[psutil.Process]:
        """All with this artifacts folder in their environment or, as Valkey's server, in their title."""
        mine = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = [*process.cmdline(), process.environ().get("FTQ_HOME", "")]
                if str(self.home) in " ".join(words) and process.status() != psutil.STATUS_ZOMBIE:
                    mine.append(process)
        return mine

    def running(self, *words: str) -> list[psutil.Process]:
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                found += [process] if all(word in " ".join(process.cmdline()) for word in words) else []
        return found

    def until(self, reached: Callable[[], object]) -> None:
        try:
            until(reached, 2 * PATIENCE, 0.1)
        except AssertionError:
            raise AssertionError(self.said.read_text() + str(self.processes())) from None

    def says(self, text: str) -> bool:
        return text in self.said.read_text()

    def is_up(self) -> bool:
        """A broker, a worker, Flower and a stage at work."""
        return all(map(self.running, PARTS))


@pytest.fixture
def machine(home: Path) -> Iterator[Machine]:
    machine = Machine(home)
    yield machine
    for process in machine.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    if machine.process:
        machine.process.wait()


AT_WORK = "3600"  # seconds of a stage


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        *(pytest.param(number, marks=pytest.mark.long) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGKILL)),
    ],
)
def test_a_demo_that_is_told_to_stop_or_killed_leaves_nothing_behind(machine: Machine, number: int) -> None:
    process = machine.demo(FTQ_STAGE_SECONDS=AT_WORK)
    machine.until(machine.is_up)
    process.send_signal(number)
    assert process.wait(PATIENCE) == (-number if number == signal.SIGKILL else 128 + number)
    if number != signal.SIGKILL:  # then nobody waits for its `ftq up` any more
        assert not any(map(machine.running, PARTS))
    machine.until(lambda: not machine.processes())  # a part's helper ends when it notices that the part has
    assert "Traceback" not in machine.said.read_text()


@pytest.mark.long
def test_make_passes_on_that_it_is_told_to_stop(machine: Machine, tmp_path: Path) -> None:
    make = shutil.which("make")
    if not make:
        pytest.skip("no make")
    (tmp_path / "Makefile").write_text(f"demo:\n\t{sys.executable} -m tests.fake_demo {free_port()}\n")
    process = machine.start(make, "-f", str(tmp_path / "Makefile"), "demo", FTQ_STAGE_SECONDS=AT_WORK)
    machine.until(machine.is_up)
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE)
    machine.until(lambda: not machine.processes())


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_demo_whose_ftq_up_ends_says_so_and_ends(machine: Machine, number: int) -> None:
    process = machine.demo(FTQ_STAGE_SECONDS=AT_WORK)
    machine.until(machine.is_up)
    [up] = machine.running("tests.fake_up")
    up.send_signal(number)
    assert process.wait(PATIENCE) == 1
    code = 0 if number == signal.SIGTERM else -number
    assert machine.says(f"Error: `ftq up` ended with exit code {code} before the demo was done\n")
    machine.until(lambda: not machine.processes())


@pytest.mark.long
def test_a_demo_beside_another_ftq_up_says_that_and_submits_nothing(machine: Machine) -> None:
    machine.start(*UpOptions(flower=False).argv("tests.fake_up"))
    machine.until(lambda: machine.says("Everything is up"))
    first = machine.process
    assert first
    assert machine.demo().wait(PATIENCE) == 1
    assert machine.says(f"Error: ftq is already up for {machine.home}\n")
    assert machine.says("Error: `ftq up` ended with exit code 1 before the demo was done\n")
    assert [path.name for path in machine.home.iterdir() if (path / "run.json").exists()] == []
    first.terminate()
    assert first.wait(PATIENCE) == 0


@pytest.mark.long
def test_a_refused_submit_is_said_in_its_own_words(machine: Machine, documents: Path) -> None:
    folder = documents.parent  # it has no demo.yaml
    assert machine.demo(folder=folder).wait(PATIENCE) == 1
    assert machine.says("Error: the run was refused\n")
    assert machine.says("demo.yaml") and not machine.says("Traceback")
    assert machine.processes() == []


@pytest.mark.long
def test_a_demo_without_a_terminal_is_never_silent_for_long(machine: Machine) -> None:
    process = machine.demo(FTQ_STAGE_SECONDS="5", FTQ_SILENCE="0.2")
    machine.until(lambda: machine.says(" s: train is running, "))
    assert machine.says(" s: the workers start\n") and machine.says(" s: prepare is running\n")
    process.terminate()
    process.wait(PATIENCE)


@pytest.mark.long
def test_a_killed_ftq_up_leaves_nothing_behind(machine: Machine, tmp_path: Path) -> None:
    """Its standby too: the workers here have the real one's place, with nothing to import."""
    process = machine.demo(FTQ_STAGE_SECONDS=AT_WORK, FTQ_STANDBY="1")
    machine.until(lambda: machine.is_up() and machine.running("fake_stages.process.standby"))
    [up] = machine.running("tests.fake_up")
    up.kill()
    assert process.wait(PATIENCE) == 1
    machine.until(lambda: not machine.processes())


def test_a_demo_goes_on_with_the_run_that_another_one_was_stopped_in(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    up = subprocess.Popen(["sleep", "3600"])
    try:
        with contextlib.closing(Client(Settings.from_env())) as client:
            demo = Demo(client, up)
            assert demo._interrupted() == ""
            submitted = demo._submit()
            assert demo._interrupted() == submitted
            assert capsys.readouterr().out == "smollm2-135m-1 goes on: an earlier demo was stopped in it\n"
            client.cancel(submitted)
            assert demo._interrupted() == ""
    finally:
        up.kill()
        up.wait()


def test_make_refuses_a_python_that_is_too_old_before_it_makes_anything(tmp_path: Path) -> None:
    make = shutil.which("make")
    if not make:
        pytest.skip("no make")
    old = tmp_path / "python3.10"
    old.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'import sys; sys.version_info = (3, 10); '\"$2\"\n")
    old.chmod(0o755)
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # of a `make test`
    made = subprocess.run([make, "install", f"PYTHON={old}"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert made.returncode
    assert made.stdout == f"ftq needs Python 3.11 or newer, and {old} isn't: make install PYTHON=python3.12\n"
    assert not (tmp_path / ".venv").exists()


def test_what_the_demo_says_to_type_next_finds_ftq(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.closing(Client(Settings.from_env())) as client:
        demo._what_next(client, "abcd1234", 1.0)
    export = next(line for line in capsys.readouterr().out.splitlines() if "export" in line)
    shell = [shutil.which("sh") or "sh", "-c", f"{export}; command -v ftq"]
    assert subprocess.run(shell, env={}, capture_output=True, text=True).stdout.strip() == demo.FTQ
