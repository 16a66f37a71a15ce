"""Real brokers for tests: the secured one of docs/security.md, made by the very commands that stand there."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from tests.tools import PATIENCE, free_port, until

MANUAL = Path(__file__).parent.parent / "docs" / "security.md"
HOST = "localhost"


def need_tls() -> str:
    """A redis-server or valkey-server with TLS; the test is skipped where there is none."""
    for name in ("redis-server", "valkey-server"):
        if (found := shutil.which(name)) and shutil.which("openssl"):
            return found
    pytest.skip("no redis-server with TLS, or no openssl: apt-get install redis-server openssl")


class SecuredBroker:
    """Users and TLS as docs/security.md sets them up, in `folder`."""

    def __init__(self, folder: Path, *, client_certificates: bool = False, address: str = "") -> None:
        """`address` is that of a machine without a name."""
        self.folder, self.port, self.host = folder, free_port(), address or HOST
        folder.mkdir(parents=True)
        commands = "\n".join(re.findall(r"^```sh\n(.*?)^```", MANUAL.read_text(encoding="utf-8"), re.S | re.M))
        if address:
            commands = commands.replace("DNS:queue.example.org", f"IP:{address}")
        commands = commands.replace("queue.example.org", self.host).replace("tls-port 6379", f"tls-port {self.port}")
        if client_certificates:
            commands = commands.replace("tls-auth-clients optional", "tls-auth-clients yes")
        subprocess.run(["bash", "-euc", commands], cwd=folder, check=True, capture_output=True, timeout=300)
        self.start()

    def start(self) -> None:
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen([need_tls(), "redis.conf"], cwd=self.folder, stdout=log, stderr=log)
        self._wait()

    def environment(self, user: str) -> dict[str, str]:
        return {
            "FTQ_BROKER_URL": f"rediss://{user}@{self.host}:{self.port}/0",
            "FTQ_BROKER_CA_FILE": str(self.folder / "ca.crt"),
            "FTQ_BROKER_PASSWORD_FILE": str(self.folder / f"{user}.password"),
            "FTQ_SIGNING_KEY_FILE": str(self.folder / "signing.key"),
        }

    def password(self, user: str) -> str:
        return (self.folder / f"{user}.password").read_text().strip()

    def connect(self, user: str) -> redis.Redis:
        certificate = self.folder / "server.crt", self.folder / "server.key"  # the authority's: good enough for us
        return redis.Redis(host=self.host, port=self.port, username=user, password=self.password(user), ssl=True,
                           ssl_ca_certs=str(self.folder / "ca.crt"), ssl_certfile=str(certificate[0]),
                           ssl_keyfile=str(certificate[1]))  # fmt: skip

    def refused(self) -> set[tuple[str, str]]:
        """(user, command, key or channel) that the broker has refused so far, redis-py's greeting aside."""
        with self.connect("admin") as admin:
            found = {(entry["username"], entry["object"]) for entry in admin.acl_log(1000)}
        return {(user, what) for user, what in found if what != "client|setinfo"}

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=PATIENCE)

    def _wait(self) -> None:
        try:
            until(self._answers)
        except AssertionError:
            raise AssertionError((self.folder / "log").read_text()) from None

    def _answers(self) -> bool:
        assert self.process.poll() is None
        try:
            with self.connect("admin") as admin:
                return bool(admin.ping())
        except redis.ConnectionError:
            return False


# ---- the states of a broker that takes nothing ----------------------------------------------------------

Put = Callable[["Broken"], object]


@dataclass(frozen=True)
class State:
    """`says` is what ftq calls the state (a pattern); `put` brings the server into it and `end` out of it."""

    says: str
    put: Put
    end: Put


class Broken:
    """A broker's server, its process and a connection that stays whatever state it is in."""

    def __init__(self, socket: Path, pid: int) -> None:
        self.server, self.pid = redis.Redis(unix_socket_path=str(socket), socket_timeout=PATIENCE), pid
        self.server.ping()

    def ask(self, *words: str) -> object:
        return self.server.execute_command(*words)

    def set(self, **settings: str) -> None:
        for name, value in settings.items():
            self.ask("CONFIG", "SET", name.replace("_", "-"), value)

    def hang_up(self) -> None:
        """On everybody else."""
        for kind in ("normal", "pubsub"):
            self.ask("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    def file_limit(self, most: int) -> None:
        """Let no file of the server grow beyond so many bytes, as a full disk doesn't."""
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    def fail_to_save(self) -> None:
        self.set(save="3600 1")
        self.ask("SET", "ftq.x", "x" * 10_000)
        self.file_limit(100)
        self.ask("BGSAVE")
        until(lambda: self.server.info("persistence")["rdb_last_bgsave_status"] == "err")
        self.file_limit(resource.RLIM_INFINITY)

    def forbid(self, *rights: str) -> None:
        self.ask("ACL", "SETUSER", "default", *rights)


_REPLICA, _PRIMARY = ("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")
UNSAVED = "can't write its data to its disk"
STATES = {
    "READONLY": State("is a read-only replica", lambda it: it.ask(*_REPLICA), lambda it: it.ask(*_PRIMARY)),
    "MASTERDOWN": State(
        "is a replica that has lost its primary",
        lambda it: (it.set(replica_serve_stale_data="no"), it.ask(*_REPLICA), it.hang_up()),
        lambda it: (it.ask(*_PRIMARY), it.set(replica_serve_stale_data="yes")),
    ),
    "OOM": State(
        "is full: its maxmemory is used up",
        lambda it: (it.set(maxmemory="1"), it.hang_up()),
        lambda it: it.set(maxmemory="0"),
    ),
    "MISCONF, no snapshot": State(
        UNSAVED,
        lambda it: it.fail_to_save(),
        lambda it: (it.set(stop_writes_on_bgsave_error="no"), it.set(save="")),
    ),
    "MISCONF, no append-only file": State(
        UNSAVED,
        lambda it: (it.file_limit(1), it.ask("SET", "ftq.x", "x")),
        lambda it: it.file_limit(resource.RLIM_INFINITY),
    ),
    "NOREPLICAS": State(
        "has too few replicas to write",
        lambda it: it.set(min_replicas_to_write="1"),
        lambda it: it.set(min_replicas_to_write="0"),
    ),
    "NOAUTH": State(
        "wants a password",
        lambda it: (it.set(requirepass="pw"), it.hang_up()),
        lambda it: it.set(requirepass=""),
    ),
    "NOPERM": State(
        "forbids its user what ftq needs",
        lambda it: it.forbid("-@write"),
        lambda it: it.forbid("+@all"),
    ),
    "max clients": State(
        "(has no connection left|hangs up)",  # it says so, and hangs up before a slow client has read it
        lambda it: (it.set(maxclients="1"), it.hang_up()),
        lambda it: it.set(maxclients="1000"),
    ),
}
