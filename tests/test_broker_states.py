"""A broker that is there and takes nothing: the worker outlasts it, and doctor and submit say what it is."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from kombu.exceptions import OperationalError

from ftq import queue
from ftq.broker.refusals import REFUSALS, Refusal, refusal
from ftq.doctor.broker import broker as doctor
from ftq.doctor.workers import workers as look_at_workers
from ftq.errors import FtqError, Unavailable, UserError, exit_code
from ftq.settings import Settings
from ftq.store.records import Worker
from tests import cli_tools, tools
from tests.brokers import STATES, Broken
from tests.tools import PATIENCE, free_port, listens, until
from worker.host import broker, worker
from worker.reconciler import Reconciler

RECORDED = "The run is recorded and starts as soon as it takes messages."


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tools.Bench]:
    """A broker and one idle worker, for all states one after another."""
    with tools.Bench(tmp_path_factory.mktemp("states") / "artifacts") as bench:
        bench.start_worker()
        until(bench.client.store.live_queues)
        yield bench


@pytest.mark.slow
@pytest.mark.parametrize("name", STATES)
def test_a_worker_outlasts_each_state_that_passes(bench: tools.Bench, name: str, tmp_path: Path) -> None:
    state, (worker,), log = STATES[name], bench.workers, bench.logs / "w1.log"
    assert bench.broker
    broken, before = Broken(bench.settings.broker_socket, bench.broker.pid), log.read_text()
    state.put(broken)
    began = time.monotonic()
    try:
        (tmp_path / "a.md").write_text("# A\n\nThis is the text of a run.\n" * 12)
        options = {"model": "smollm2-135m", "documents": str(tmp_path), "max_steps": 1}
        submitted = bench.client.submit(options)
        hints = {fix for _, what, fix, _ in REFUSALS if re.fullmatch(state.says, what)}
        note = submitted.notes[-1]  # the others are on the documents
        assert re.match(f"The broker {state.says}. {RECORDED} ", note) and note.partition(f"{RECORDED} ")[2] in hints
        problem = [finding for finding in doctor(bench.settings) if finding.level == "problem"]
        assert re.search(state.says, problem[0].message) and problem[0].fix in hints
        with pytest.raises(FtqError, match=rf"^the broker {state.says}, so nobody can answer"):
            next(bench.client._asking.stream(submitted.run.id, "Why?", {}, 1.0))
        until(
            lambda: re.search(rf"the broker {state.says} \(", log.read_text()[len(before) :])
        )  # the worker has met it
    finally:
        state.end(broken)
    until(lambda: bench.client.find(submitted.run.id).status == "succeeded")
    assert worker.alive
    tries = log.read_text()[len(before) :].count("tried again")
    assert tries <= 5 + time.monotonic() - began  # it asks every few seconds


@pytest.mark.slow
@pytest.mark.parametrize("name", STATES)
def test_a_worker_does_not_start_where_waiting_mends_nothing(bench: tools.Bench, name: str) -> None:
    """A password that is refused is corrected by a person; a replica becomes the primary by itself."""
    state = STATES[name]
    assert bench.broker
    broken, place = Broken(bench.settings.broker_socket, bench.broker.pid), f"FTQ_BROKER_URL={bench.settings.broker}"
    is_lasting = any(lasts and re.fullmatch(state.says, what) for _, what, _, lasts in REFUSALS)
    settings = dataclasses.replace(bench.settings, broker_url=bench.settings.broker)
    state.put(broken)
    try:
        if not is_lasting:
            assert worker._own(settings, "w9@host") is None
            return
        with pytest.raises(UserError) as refused:
            worker._own(settings, "w9@host")
        assert re.match(rf"{re.escape(place)}: the broker {state.says} \(", refused.value.message)
        assert refused.value.hint in {fix for _, what, fix, _ in REFUSALS if re.fullmatch(state.says, what)}
    finally:
        state.end(broken)


@pytest.mark.parametrize("change", ["requirepass", "a user's password"])
def test_a_password_that_is_changed_while_a_worker_runs_is_told_everywhere(
    tmp_path: Path, home: Path, change: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, says = free_port(), "wants a password"
    command = [broker._binary(), "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    place = f"redis://127.0.0.1:{port}/0"
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        until(lambda: listens(port))
        admin = redis.Redis(port=port)
        if change != "requirepass":
            admin.execute_command("ACL", "SETUSER", "worker", "on", ">old", "~*", "&*", "+@all")
            place, says = place.replace("//", "//worker:old@"), "refuses the user or password"
        monkeypatch.setenv("FTQ_BROKER_URL", place)
        settings = Settings.from_env()
        home.mkdir(exist_ok=True)
        reconciler = Reconciler(settings, "w1", ["cpu", "gpu", "ask"])

        def turn() -> Worker:
            reconciler._ownership._due_at = 0.0
            reconciler._ownership.renew()
            reconciler._beat()
            return reconciler.store.workers()[0]

        assert turn().refused == ""
        if change == "requirepass":
            admin.config_set("requirepass", "new")
        else:
            admin.execute_command("ACL", "SETUSER", "worker", "resetpass", ">new")
        refused = turn().refused
        turn()
        shown = place.replace(":old@", ":***@")
        assert refused.startswith(f"FTQ_BROKER_URL={shown}: the broker {says} (")
        assert caplog.text.count(f"{refused}: nothing is taken from it until somebody corrects that") == 1
        listed = cli_tools.run("workers")
        assert (
            f"w1 is refused: {refused}. On {socket.gethostname()}: The file FTQ_BROKER_PASSWORD_FILE" in listed.stderr
        )
        (problem,) = [one for one in look_at_workers(settings, ask=lambda *_: set()) if one.level == "problem"]
        assert problem.message.endswith(f"takes nothing from its broker until somebody corrects that: {refused}")
        assert "Then restart this worker" in problem.fix
        if change == "requirepass":
            admin.config_set("requirepass", "")
        else:
            admin.execute_command("ACL", "SETUSER", "worker", ">old")
        assert turn().refused == "" and "the broker lets this worker in again" in caplog.text
        reconciler.store.close()
        admin.close()
        process.kill()


@pytest.mark.parametrize(("password", "user"), [("wrong", ""), ("wrong", "nobody"), ("", "")])
def test_a_worker_with_a_wrong_password_ends_and_names_the_variable(
    tmp_path: Path, home: Path, password: str, user: str
) -> None:
    port, secret = free_port(), tmp_path / "password"
    secret.write_text(password)
    command = [broker._binary(), "--port", str(port), "--requirepass", "right", "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        until(lambda: listens(port))
        url = f"redis://{user}{'@' if user else ''}127.0.0.1:{port}/0"
        given = {"FTQ_HOME": str(home), "FTQ_BROKER_URL": url}
        given |= {"FTQ_BROKER_PASSWORD_FILE": str(secret)} if password else {}
        start = [sys.executable, "-m", "tests.fake_worker"]
        ended = subprocess.run(start, env=os.environ | given, capture_output=True, text=True, timeout=2 * PATIENCE)
        process.kill()
    assert ended.returncode == exit_code(UserError(""))
    what = "refuses the user or password" if password else "wants a password"
    message, hint = ended.stderr.strip().splitlines()[-2:]
    assert re.fullmatch(rf"Error: FTQ_BROKER_URL=redis://\S*127.0.0.1:{port}/0: the broker {what} \(.*\)", message)
    assert hint.startswith("The file FTQ_BROKER_PASSWORD_FILE holds the password; FTQ_BROKER_URL=")
    assert "wrong" not in ended.stderr


@pytest.mark.slow
def test_a_busy_worker_outlasts_a_failover(bench: tools.Bench) -> None:
    bench.submit("busy", {"train": {"1": "wait"}})
    until(lambda: bench.has("busy", "started", "train"))
    assert bench.broker
    broken, log = Broken(bench.settings.broker_socket, bench.broker.pid), bench.logs / "w1.log"
    before = log.read_text()
    STATES["READONLY"].put(broken)
    bench.let_go("busy")
    until(lambda: "is a read-only replica (" in log.read_text()[len(before) :])
    STATES["READONLY"].end(broken)
    until(lambda: bench.client.find("busy").is_finished)
    assert [stage.attempt for stage in bench.client.find("busy").stages] == [1] * 5


def check(url: str, home: Path, seconds: float = PATIENCE) -> str:
    """What `ftq submit` says of a broker at the URL that may take so many seconds to answer."""
    app = queue.make_impatient_app(Settings.from_env({"FTQ_HOME": str(home), "FTQ_BROKER_URL": url}))
    app.conf.broker_transport_options |= {"socket_timeout": seconds, "socket_connect_timeout": seconds}
    with pytest.raises(Unavailable) as caught:
        queue.check(app)
    return caught.value.message


@pytest.mark.parametrize(
    ("greeting", "scheme", "says"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "redis", "is no Redis server"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "redis", "is no Redis server"),
        (b"-DENIED in protected mode\r\n", "redis", "is in protected mode: it takes no other machine"),
        (b"-LOADING Valkey is loading the dataset in memory\r\n", "redis", "is still reading its data from the disk"),
        (b"-CLUSTERDOWN Hash slot not served\r\n", "redis", "is a Redis Cluster, which Celery can't use"),
        (b"-MOVED 1 127.0.0.1:2\r\n", "redis", "is a Redis Cluster, which Celery can't use"),
        (b"-BUSY Valkey is busy running a script\r\n", "redis", "is busy with a script"),
        (b"", "redis", "hangs up"),
        (b"-ERR unknown command\r\n", "rediss", "doesn't speak TLS"),
        (b"", "rediss", "hangs up"),
        (None, "redis", "doesn't answer"),
        (None, "rediss", "doesn't answer"),
    ],
)  # fmt: skip
def test_what_answers_on_a_port(home: Path, greeting: bytes | None, scheme: str, says: str) -> None:
    """A server that says `greeting` to everybody and hangs up; None: it says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as connections:
        thread = threading.Thread(target=_greet, args=(server, greeting, connections))
        thread.start()
        try:
            url, seconds = f"{scheme}://127.0.0.1:{server.getsockname()[1]}/0", 1 if greeting is None else PATIENCE
            assert check(url, home, seconds) == f"the broker {says}"
        finally:
            server.shutdown(socket.SHUT_RDWR)  # which ends accept()
            thread.join()


def _greet(server: socket.socket, greeting: bytes | None, connections: contextlib.ExitStack) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        connections.enter_context(connection)
        if greeting is None:
            continue
        with contextlib.suppress(OSError):  # who is greeted may have gone
            connection.recv(65_536)  # all of it: closed with something unread, it would be a reset
            connection.sendall(greeting * 4)
            connection.shutdown(socket.SHUT_WR)
        if not greeting:
            connection.close()


@pytest.mark.parametrize(
    ("arguments", "database", "says"),
    [
        ([], 99, "has no database of that number"),
        (["--cluster-enabled", "yes"], 0, "is a Redis Cluster, which Celery can't use"),
        (["--sentinel"], 0, "knows no queues: it is a Sentinel or a proxy"),
    ],
)
def test_servers_of_other_kinds(home: Path, tmp_path: Path, arguments: list[str], database: int, says: str) -> None:
    port = free_port()
    settings = f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\ncluster-port {free_port()}\n"
    (tmp_path / "valkey.conf").write_text(settings)
    command = [broker._binary(), str(tmp_path / "valkey.conf"), *arguments]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        try:
            until(lambda: listens(port))
            assert check(f"redis://127.0.0.1:{port}/{database}", home) == f"the broker {says}"
        finally:
            server.kill()


def test_a_cause_is_found_under_what_wraps_it() -> None:
    """kombu raises its own error, and redis-py's one that stands under another."""
    wrapped = OperationalError("lost")
    wrapped.__cause__ = redis.ConnectionError("Error 1")
    wrapped.__cause__.__cause__ = redis.OutOfMemoryError("command not allowed", status_code="OOM")
    assert refusal(wrapped).what == "is full: its maxmemory is used up"
    assert refusal(OSError(111, "refused")) == Refusal("can't be reached", "", "[Errno 111] refused")
    # what Python before 3.11.4 says of a server that hangs up in the handshake; later ones: "EOF occurred"
    closed = redis.ConnectionError("Error 6 connecting to h:1. TLS/SSL connection has been closed (EOF) (_ssl.c:992).")
    assert refusal(closed).what == "hangs up"
    secret = redis.ConnectionError("Error 1 connecting to redis://me:s3cr3t@host/0")
    assert "s3cr3t" not in str(refusal(secret))
