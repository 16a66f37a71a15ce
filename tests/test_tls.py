"""The broker on the network, as docs/security.md sets it up: TLS, and users with the least rights that work."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from brokers import HOST, SecuredBroker, need_tls

from ftq import queue
from ftq.client.client import Client
from ftq.errors import UserError
from ftq.files.run_dir import STAGES
from ftq.servers import Tls
from ftq.settings import Settings
from tests.tools import PATIENCE, Bench, free_port, until

# What nobody but an administrator may do.
DANGEROUS: list[tuple[str, ...]] = [
    ("CONFIG", "GET", "*"), ("CONFIG", "SET", "dir", "/etc"), ("MODULE", "LIST"), ("EVAL", "return 1", "0"),
    ("FUNCTION", "LIST"), ("DEBUG", "SLEEP", "0"), ("FLUSHALL",), ("FLUSHDB",), ("KEYS", "*"), ("SCAN", "0"),
    ("SHUTDOWN",), ("REPLICAOF", "127.0.0.1", "1"), ("ACL", "LIST"), ("ACL", "WHOAMI"), ("MONITOR",), ("SAVE",),
    ("BGREWRITEAOF",), ("CLIENT", "LIST"), ("CLIENT", "KILL", "ID", "1"), ("SWAPDB", "0", "1"), ("SELECT", "1"),
    ("MIGRATE", "127.0.0.1", "1", "cpu", "0", "1"), ("DUMP", "cpu"), ("RESTORE", "cpu", "0", "x"),
    ("GET", "secret"), ("SET", "secret", "1"), ("LPUSH", "another", "1"), ("PUBLISH", "another", "1"),
]  # fmt: skip
NOT_FOR_CLIENT: list[tuple[str, ...]] = [
    ("LRANGE", "cpu", "0", "-1"), ("BRPOP", "cpu", "1"), ("RPOP", "cpu"), ("DEL", "cpu"), ("LTRIM", "cpu", "1", "0"),
    ("HGETALL", "unacked"), ("PUBLISH", "/0.celery.pidbox", "{}"), ("SUBSCRIBE", "/0.celeryev/*"),
    ("SADD", "_kombu.binding.celery.pidbox", "x"), ("EVALSHA", "0" * 40, "0"),
]  # fmt: skip
NOT_FOR_FLOWER: list[tuple[str, ...]] = [
    ("LPUSH", "cpu", "{}"), ("LRANGE", "cpu", "0", "-1"), ("BRPOP", "gpu", "1"), ("DEL", "cpu"), ("HGETALL", "unacked"),
    ("SADD", "_kombu.binding.cpu", "x"), ("ZADD", "unacked_index", "1", "x"),
]  # fmt: skip

LOGIN = "me:a long password"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    need_tls()
    broker = SecuredBroker(tmp_path_factory.mktemp("secured") / "broker")
    yield broker
    broker.close()


@pytest.mark.long
@pytest.mark.parametrize("user", ["client", "worker", "flower"])
def test_a_user_is_denied_what_is_dangerous(broker: SecuredBroker, user: str) -> None:
    denied = {"client": NOT_FOR_CLIENT, "flower": NOT_FOR_FLOWER}.get(user, [])
    with broker.connect(user) as connection:
        for command in [*DANGEROUS, *denied]:
            with pytest.raises(redis.ResponseError, match=r"no permissions|not allowed"):  # DEBUG: by the server itself
                connection.execute_command(*command)
        assert connection.llen("cpu") == 0


@pytest.mark.long
def test_nobody_gets_in_without_a_name_or_without_tls(broker: SecuredBroker) -> None:
    ca = str(broker.folder / "ca.crt")
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(host=HOST, port=broker.port, ssl=True, ssl_ca_certs=ca).ping()
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(host=HOST, port=broker.port, ssl=True, ssl_ca_certs=ca, username="client", password="wrong").ping()
    with pytest.raises(redis.ConnectionError):
        redis.Redis(host=HOST, port=broker.port, username="client", password=broker.password("client")).ping()


@pytest.mark.long
def test_client_worker_and_flower_do_their_work_and_ask_for_nothing_more(broker: SecuredBroker, tmp_path: Path) -> None:
    """A run, a question's message, Flower's pages and its Terminate; then the broker's own list of refusals."""
    with broker.connect("admin") as admin:
        admin.acl_log_reset()
    machine = Bench(tmp_path / "artifacts", **broker.environment("worker"))
    client = Client(Settings.from_env(machine.environment | broker.environment("client")))
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "a.md").write_text("# A\n\nText.\n")
    options = {"model": "smollm2-135m", "documents": str(documents)}
    port, flower = free_port(), None
    try:
        first = client.submit({**options, "max_steps": 4}, "first").run
        machine.start_worker()
        flower = start_flower(machine.environment | broker.environment("flower"), port, machine.logs / "flower.log")
        until(lambda: client.find("first").is_finished)
        assert client.find("first").status == "succeeded"
        until(lambda: machine.workers[0].name in ask(port, "/api/workers?refresh=1"))
        assert '"cpu"' in ask(port, "/api/queues/length")
        queue.send_question(client._doorbell.app, client.store.ask(first.id, "why?", {}))
        client.submit({**options, "gpus": 2}, "wide")
        until(lambda: client.find("wide").current.name == "train")  # type: ignore[union-attr]
        client.pause("wide")
        assert "The broker" not in "".join(client.resume("wide")[1])
        long = client.submit({**options, "max_steps": 10_000}, "long").run
        until(lambda: client.find("long").current.name == "train" and client.find("long").status == "running")  # type: ignore[union-attr]
        until(lambda: f"{long.id}.train.1" in ask(port, "/api/tasks"))  # Flower hears the worker by now
        ask(port, f"/api/task/revoke/{long.id}.train.1?terminate=true", data=b"")
        until(lambda: client.find("long").status == "cancelled")
        last = client.submit({**options, "max_steps": 5}, "last").run
        until(lambda: f"{last.id}.{STAGES[-1]}.1" in ask(port, "/api/tasks"))
        assert broker.refused() == set()
    finally:
        if flower:
            flower.terminate()
            flower.wait(timeout=PATIENCE)
        machine.close()
        client.close()


def start_flower(environment: dict[str, str], port: int, log: Path) -> subprocess.Popen[bytes]:
    config = Path(__file__).parent.parent / "worker" / "flower" / "config.py"
    command = [sys.executable, "-m", "celery", "-A", "worker.app", "flower", f"--conf={config}", f"--port={port}"]
    extra = {"FTQ_FLOWER_AUTH": LOGIN, "FTQ_FLOWER_CONTROL": "1"}
    with log.open("wb") as output:
        flower = subprocess.Popen(command, env=environment | extra, stdout=output, stderr=output)
    until(lambda: ask(port, "/api/tasks"))
    return flower


def ask(port: int, path: str, data: bytes | None = None) -> str:
    login = {"Authorization": f"Basic {b64encode(LOGIN.encode()).decode()}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, login)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            text: str = answer.read().decode()
            return text
    except ConnectionError:
        return ""
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionError):
            return ""
        raise


def reach(broker: SecuredBroker, **changes: str) -> bool:
    """Whether a client with these settings can send: Celery's own connection, made as ftq makes it."""
    app = queue.make_app(Settings.from_env(broker.environment("client") | changes))
    app.conf.broker_transport_options |= {"max_retries": 0, "socket_connect_timeout": PATIENCE}
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=0, timeout=PATIENCE)
            return bool(connection.default_channel.client.llen("cpu") >= 0)
    except (OSError, queue.OperationalError, redis.RedisError):
        return False


@pytest.mark.long
def test_the_broker_s_certificate_is_checked(broker: SecuredBroker, tmp_path: Path) -> None:
    assert reach(broker)
    other = tmp_path / "other.crt"
    make = f"openssl req -x509 -newkey rsa:2048 -noenc -days 1 -subj /CN=other -keyout other.key -out {other}"
    subprocess.run(["bash", "-c", make], cwd=tmp_path, check=True, capture_output=True)
    assert not reach(broker, FTQ_BROKER_CA_FILE=str(other))  # an authority that didn't sign it
    assert not reach(broker, FTQ_BROKER_CA_FILE="")  # the system's authorities didn't either
    assert not reach(broker, FTQ_BROKER_URL=f"rediss://client@127.0.0.1:{broker.port}/0")  # another host's name


@pytest.mark.long
def test_a_broker_that_asks_for_client_certificates(tmp_path: Path) -> None:
    need_tls()
    broker = SecuredBroker(tmp_path / "broker", client_certificates=True)
    try:
        assert not reach(broker)
        own = {"FTQ_BROKER_CERT_FILE": str(broker.folder / "server.crt"),
               "FTQ_BROKER_KEY_FILE": str(broker.folder / "server.key")}  # fmt: skip
        assert reach(broker, **own)
    finally:
        broker.close()


@pytest.mark.long
def test_secrets_and_keys_are_made_closed(broker: SecuredBroker) -> None:
    secret = [*broker.folder.glob("*.password"), *broker.folder.glob("*.key"), broker.folder / "users.acl"]
    assert len(secret) == 8
    assert {path.stat().st_mode & 0o777 for path in secret} == {0o600}
    for user in ("admin", "client", "worker", "flower"):
        assert broker.password(user) not in (broker.folder / "users.acl").read_text()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"FTQ_BROKER_URL": "redis://h"}, "FTQ_BROKER_CA_FILE is set, but FTQ_BROKER_URL doesn't ask for TLS"),
        ({}, "FTQ_BROKER_CA_FILE is set, but FTQ_BROKER_URL doesn't ask for TLS"),
        ({"FTQ_BROKER_URL": "rediss://h", "FTQ_BROKER_KEY_FILE": os.devnull},
         "a client certificate needs both FTQ_BROKER_CERT_FILE and FTQ_BROKER_KEY_FILE"),
        ({"FTQ_BROKER_URL": "rediss://h", "FTQ_BROKER_CA_FILE": "/nowhere/ca.crt"},
         "FTQ_BROKER_CA_FILE=/nowhere/ca.crt: can't be read (No such file or directory)"),
    ],
)  # fmt: skip
def test_tls_settings_that_do_not_fit(given: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        Settings.from_env({"FTQ_BROKER_CA_FILE": os.devnull, **given})
    assert caught.value.message == message


def test_tls_without_a_word_more_asks_the_system_s_authorities() -> None:
    settings = Settings.from_env({"FTQ_BROKER_URL": "rediss://h"})
    assert settings.tls == Tls()
    assert queue.make_app(settings).conf.broker_use_ssl == {
        "ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True
    }  # fmt: skip
    assert queue.make_app(Settings.from_env({"FTQ_BROKER_URL": "redis://h"})).conf.broker_use_ssl is False
