"""The doctor at a real broker, set up well and badly."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from benchmarks.drill_machine import Machine
from ftq.doctor import broker as doctor
from ftq.doctor.broker import broker
from ftq.doctor.findings import Check, Finding, examine
from ftq.doctor.workers import workers
from ftq.settings import Settings
from tests.tools import PATIENCE, free_port, freeze, listens, until
from worker.host import broker as embedded

pytestmark = pytest.mark.slow
PASSWORD = "requirepass pw"
GOOD = ("appendonly yes", "maxmemory-policy noeviction")
Serve = Callable[..., str]


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine may have others' work to do: how soon a server answers is no finding."""
    monkeypatch.setattr(doctor, "SLOW_MS", 1000 * PATIENCE)


def test_a_broker_that_is_far_away(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SLOW_MS", 0.0)
    process = embedded.start(Settings.from_env({"FTQ_HOME": str(home)}))
    try:
        assert [finding.level for finding in look("", home) if " answers in " in finding.message] == ["warning"]
    finally:
        process.terminate()
        process.wait(timeout=300)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """serve(line, ...) -> the address (host:port) of a server with these lines in its configuration."""
    servers: list[subprocess.Popen[bytes]] = []

    def start(*lines: str) -> str:
        port = free_port()
        config = tmp_path / "valkey.conf"
        config.write_text("\n".join((f"port {port}", "bind 127.0.0.1", f"dir {tmp_path}", 'save ""', *lines)))
        command = [embedded._binary(), str(config)]
        servers.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
        until(lambda: listens(port))
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.terminate()
        server.wait(timeout=300)


def look(url: str, home: Path) -> list[Finding]:
    return list(broker(Settings.from_env({"FTQ_HOME": str(home), "FTQ_BROKER_URL": url})))


def bad(url: str, home: Path) -> list[tuple[str, str]]:
    return [(finding.level, finding.message) for finding in look(url, home) if finding.level != "ok"]


def test_a_good_broker(serve: Serve, home: Path) -> None:
    found = look(f"redis://:pw@{serve(PASSWORD, *GOOD)}/0", home)
    assert {finding.level for finding in found} == {"ok"}
    messages = [finding.message for finding in found]
    assert [message.split()[0] for message in messages] == ["redis://:***@" + messages[0].split("@")[1].split()[0],
        "Valkey", "append-only", "maxmemory-policy", "asks", "the"]  # fmt: skip


@pytest.mark.parametrize("name", ["artifacts", "C#;50%20 ä?b=c"])
def test_the_embedded_broker_and_none(home: Path, name: str) -> None:
    settings = Settings.from_env({"FTQ_HOME": str(home / name)})
    (missing,) = broker(settings)
    assert (missing.level, missing.fix.split("   ")[0]) == ("warning", "ftq up")
    process = embedded.start(settings)
    assert process
    try:
        assert {finding.level for finding in broker(settings)} == {"ok"}
        settings.broker_socket.chmod(0o777)
        open_to_all = [finding for finding in broker(settings) if finding.level == "problem"]
        assert [finding.fix for finding in open_to_all] == [f"chmod 700 {settings.broker_socket}"]
    finally:
        process.terminate()
        process.wait(timeout=300)


def test_a_broker_that_forgets(serve: Serve, home: Path) -> None:
    address = serve(PASSWORD, "maxmemory 100mb", "maxmemory-policy allkeys-lru")
    assert bad(f"redis://:pw@{address}/0", home) == [
        ("warning", "no append-only file: a restart forgets the messages, and runs wait until they are sent again"),
        ("problem", "maxmemory-policy allkeys-lru: a full memory throws messages away"),
    ]


def test_a_broker_whose_memory_is_nearly_full(serve: Serve, home: Path) -> None:
    address = serve(PASSWORD, *GOOD)
    client = redis.Redis.from_url(f"redis://:pw@{address}/0")
    client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.05))
    client.close()
    (level, message), *_ = bad(f"redis://:pw@{address}/0", home)  # with the doctor's connections it may be full
    assert (level, message.split(":")[0]) == ("warning", "its memory is nearly full")


def test_a_broker_that_asks_nobody(serve: Serve, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"redis://{serve(*GOOD)}/0"
    assert [level for level, message in bad(url, home) if "asks for no password" in message] == ["warning"]
    monkeypatch.setattr(doctor, "_is_loopback", lambda _: False)
    assert [level for level, _ in bad(url, home)] == ["problem", "note"]


def test_a_broker_whose_default_user_needs_no_password(serve: Serve, home: Path) -> None:
    """Who has a password may think that everybody needs one."""
    address = serve("user ftq on >pw ~* &* +@all", *GOOD)
    assert [level for level, message in bad(f"redis://ftq:pw@{address}/0", home) if "no password" in message] == [
        "warning"
    ]


def test_a_wrong_password_and_none(serve: Serve, home: Path) -> None:
    address = serve(PASSWORD, *GOOD)
    refuses = "refuses the user or password"
    for login, why in ((":wrong@", refuses), ("nobody:pw@", refuses), ("", "wants a password")):
        (refused,) = look(f"redis://{login}{address}/0", home)
        assert refused.level == "problem" and why in refused.message
        assert ":wrong" not in refused.message
        assert refused.fix == (
            "The file FTQ_BROKER_PASSWORD_FILE holds the password; FTQ_BROKER_URL=redis://HOST:6379/0 names no user "
            "where the server has none (requirepass), redis://USER@HOST:6379/0 one of its users."
        )


@pytest.mark.parametrize("login", ["", "default@", "@"])
def test_a_password_for_all_needs_no_user(serve: Serve, home: Path, tmp_path: Path, login: str) -> None:
    """As the hint says: the password's file, and a URL without a user."""
    (tmp_path / "password").write_text("pw\n")
    environment = {"FTQ_HOME": str(home), "FTQ_BROKER_URL": f"redis://{login}{serve(PASSWORD, *GOOD)}/0",
                   "FTQ_BROKER_PASSWORD_FILE": str(tmp_path / "password")}  # fmt: skip
    assert {finding.level for finding in broker(Settings.from_env(environment))} == {"ok"}


def test_a_broker_with_tls(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, openssl = shutil.which("redis-server"), shutil.which("openssl")
    if not server or not openssl:
        pytest.skip("no redis-server or no openssl: apt-get install redis-server openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    subprocess.run([openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names,
                    "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)  # fmt: skip
    port = free_port()
    files = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate)]
    process = subprocess.Popen([server, "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", *files, "--dir",
                                str(tmp_path), "--tls-auth-clients", "no", "--requirepass", "pw", "--appendonly",
                                "yes"], stdout=subprocess.DEVNULL)  # fmt: skip
    try:
        until(lambda: listens(port))
        trust = f"?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={certificate}"
        url = f"rediss://:pw@127.0.0.1:{port}/0{trust}"
        monkeypatch.setattr(doctor, "_is_loopback", lambda _: False)
        assert bad(url, home) == []
        assert [finding.message for finding in look(url, home)][-2] == "asks for a password"
        (untrusted,) = look(url.partition("?")[0] + "?ssl_cert_reqs=CERT_REQUIRED", home)
        assert untrusted.level == "problem" and "certificate" in untrusted.message.lower()
    finally:
        process.terminate()
        process.wait(timeout=300)


def test_a_user_who_may_not_look(serve: Serve, home: Path) -> None:
    address = serve("user default off", "user ftq on >pw ~* &* +@all -@dangerous -@admin -info -time", *GOOD)
    assert bad(f"redis://ftq:pw@{address}/0", home) == [
        ("note", "not allowed to look at version, persistence and eviction (INFO)"),
        ("note", "not allowed to look at the broker's clock (TIME)"),
    ]


def test_a_clock_that_differs(serve: Serve, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"redis://:pw@{serve(PASSWORD, *GOOD)}/0"
    now = time.time
    monkeypatch.setattr(doctor.time, "time", lambda: now() + 100)
    ((level, message),) = bad(url, home)
    assert (level, message) == ("warning", "the clock of the broker is 100 s behind this machine's")


def test_an_address_where_nobody_answers(home: Path) -> None:
    (away,) = look("redis://127.0.0.1:1/0", home)
    assert away.level == "problem" and "can't be reached" in away.message


def test_a_broker_that_accepts_and_says_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftq.queue.QUICK_SECONDS", 1.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        settings = Settings.from_env({"FTQ_HOME": str(home), "FTQ_BROKER_URL": url})
        (mute,) = examine([Check("broker", lambda: broker(settings))], seconds=3)
    assert mute.level == "problem"


def test_a_living_worker_answers_and_its_clock_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path / "home", "worker.host.worker")
    try:
        machine.start_broker()
        name = machine.start_worker().name
        until(machine.client.store.live_queues)
        monkeypatch.setattr("ftq.doctor.workers.ANSWER_SECONDS", PATIENCE)
        (alive,) = workers(machine.settings)
        assert (alive.level, alive.message) == ("ok", f"{name} (cpu,gpu,ask) is alive")
        monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
        late = [finding.level for finding in workers(machine.settings, lambda: time.time() + 500)]
        assert late == ["ok", "problem"]
        monkeypatch.setattr("ftq.doctor.workers.ANSWER_SECONDS", 1.0)
        freeze(machine.workers[0].process.pid)  # alive by the database for a while, but mute
        (mute,) = workers(machine.settings)
        assert "doesn't answer through this broker" in mute.message
        machine.workers[0].signal(18)
    finally:
        machine.close()
