"""`ftq up`: its broker, and what ends it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ftq import programs
from ftq.errors import FtqError
from ftq.settings import Settings
from ftq.store.store import RunStore
from tests.tools import PATIENCE, free_port
from worker.app import app
from worker.host import broker, up, worker
from worker.host.up import Up


@pytest.fixture
def one(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Up]:
    """A `ftq up` without workers and Flower, which starts its broker again at once."""
    monkeypatch.setattr(up, "LATE", 0.0)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    made = Up(Settings.from_env(), None, [], False)
    made.logs.mkdir(parents=True)
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_dead_broker_is_said_and_started_again(
    one: Up, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Up, "_start_worker", lambda *_: None)
    monkeypatch.setattr(Up, "_wait_until_ready", lambda *_: None)
    one._start()
    assert one.broker
    first = one.broker.process
    first.kill()
    first.wait()
    assert not broker.answers(one.settings.broker_socket)
    one._restart_the_dead()  # notes when it is due
    one._restart_the_dead()
    assert one.broker.process.pid != first.pid
    broker.wait(one.settings, one.broker.process)
    one._stop_all()
    assert not broker.answers(one.settings.broker_socket)
    assert "broker ended with exit code -9: starts again in 0 s\n" in capsys.readouterr().err


def test_a_part_that_cannot_be_started_again_ends_nothing(one: Up, capsys: pytest.CaptureFixture[str]) -> None:
    part = one._start_part("x", lambda: one._spawn(["false"], "x.log", {}))
    part.process.wait()
    one.logs.rename(one.logs.with_name("elsewhere"))
    one.workers = [part]
    for _ in range(3):
        one._restart_the_dead()
    said = capsys.readouterr().err
    assert "x can't be started: [Errno 2] No such file or directory" in said
    assert said.count("x ended with exit code 1: starts again in") == 2


def test_workers_that_end_while_they_start_are_not_waited_for(one: Up) -> None:
    one.workers = [one._start_part("w1", lambda: one._spawn(["false"], "w1.log", {}))]
    with closing(RunStore(one.settings.database_url)) as store, pytest.raises(FtqError) as ended:
        one._wait_until_ready(store)
    assert ended.value.text == f"all workers ended while they started\nTheir logs are in {one.logs}"


def test_a_broker_that_a_killed_ftq_up_left_is_replaced_and_ends_with_this_one(
    one: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = broker.start(one.settings)
    monkeypatch.setattr(Up, "_start_worker", lambda *_: None)
    monkeypatch.setattr(Up, "_wait_until_ready", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert one.run() == 0
    assert left.wait(timeout=PATIENCE) == 0
    assert not broker.answers(one.settings.broker_socket)


@pytest.mark.parametrize("ignored", [False, True])
def test_a_closed_terminal_stops_it_unless_it_was_started_by_nohup(
    one: Up, monkeypatch: pytest.MonkeyPatch, ignored: bool
) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    seen: list[bool] = []

    def start(self: Up) -> None:
        for number in (signal.SIGHUP, signal.SIGINT):
            os.kill(os.getpid(), number)
            seen.append(self.stopping)

    monkeypatch.setattr(Up, "_start", start)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a script's `ftq up &` inherits it
    assert one.run() == 0
    assert seen == [not ignored, True]


def test_flowers_address_is_written_down_for_the_doctor_and_a_taken_port_is_said(
    one: Up, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = programs.flower_address(one.settings.home)
    monkeypatch.setattr(Up, "_spawn", lambda *_: subprocess.Popen(["true"]))
    port = free_port()
    one._start_flower(port)
    assert address.read_text() == f"http://127.0.0.1:{port}\n"
    capsys.readouterr()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        one._start_flower(port)
    said = capsys.readouterr().err
    assert said == f"Flower    left out: port {port}: address already in use (another one: ftq up --port {port + 1})\n"
    one._stop_all()
    assert not address.exists()


def test_the_gateway_is_a_part_and_the_first_key_is_said_once(
    one: Up, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(Up, "_spawn", lambda _, command, *__: commands.append(command) or subprocess.Popen(["true"]))
    store, port = RunStore(one.settings.database_url), free_port()
    one._start_gateway(port, store)
    assert commands == [programs.ServeOptions(port=port).argv()]
    first, page = capsys.readouterr().err.splitlines()
    assert page == f"page      http://127.0.0.1:{port}/  (for people, who log in with a key)"
    address, _, key = first.partition("  (key, shown this once: ")
    assert address == f"serve     http://127.0.0.1:{port}/v1"
    assert store.keys.find(key.removesuffix(")"))
    one._stop_all()
    one._start_gateway(port, store)
    assert capsys.readouterr().err == f"serve     http://127.0.0.1:{port}/v1\n{page}\n"
    one._stop_all()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        one._start_gateway(port, store)
    said = capsys.readouterr().err
    other = f"another one: ftq up --serve-port {port + 1}"
    assert said == f"serve     left out: port {port}: address already in use ({other})\n"
    store.close()


def test_stopped_while_it_starts_it_does_not_say_that_it_is_up(
    one: Up, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Up, "_start_worker", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert one.run() == 0
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(" ")[0] for line in said] == ["broker", "stopping:", "stopped"]


def test_what_keeps_it_from_starting_is_said_without_a_traceback(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(program: Callable[[], None], options: str) -> tuple[object, str]:
        monkeypatch.setattr("sys.argv", ["program", options])
        with pytest.raises(SystemExit) as end:
            program()
        return end.value.code, capsys.readouterr().err

    home.write_text("")
    unmade = f"Error: the artifacts folder {home} can't be made (File exists)\nSet FTQ_HOME to another.\n"
    assert refused(up.main, "{}") == refused(worker.main, "{}") == (1, unmade)
    home.unlink()
    (home / "up.lock").mkdir(parents=True)
    assert refused(up.main, "{}") == (1, f"Error: {home}/up.lock: Is a directory\n")
    code, said = refused(worker.main, '{"queues": "gpu2"}')
    assert (code, said.partition("\n")[0]) == (2, "Error: --queues gpu2: that needs 2 GPUs, this worker has 0")


def test_a_broker_that_is_not_there_yet_is_said(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "redis://127.0.0.1:1/0"
    monkeypatch.setenv("FTQ_BROKER_URL", url)
    monkeypatch.setattr(Up, "_start_worker", lambda *_: None)
    monkeypatch.setattr(Up, "_wait_until_ready", lambda self, _: self._stop())
    home.mkdir()
    Up(Settings.from_env(), None, [], False)._start()
    assert capsys.readouterr().err.startswith(f"broker    {url}  can't be reached now; `ftq doctor` says more\n")


def test_a_worker_without_a_broker_says_what_it_waits_for(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(app, "worker_main", lambda _: None)
    worker._start(["cpu"], None, None)
    start = "FTQ_BROKER_URL isn't set here: `ftq up` starts this machine's own.\n"
    assert capsys.readouterr().err == f"No broker is up for {home}: this worker waits for it. {start}"


def test_a_terminal_that_is_gone_takes_no_line_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", buffering=1) as closed:
        monkeypatch.setattr("sys.stderr", closed)
        up.say("stopped")
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), closed.fileno())  # what is buffered has to go somewhere


def test_what_is_said_has_no_escape_sequence(capsys: pytest.CaptureFixture[str]) -> None:
    up.say("no such model: \x1b]0;owned\x07")
    assert capsys.readouterr().err == "no such model: \ufffd]0;owned\ufffd\n"
