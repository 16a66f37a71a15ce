"""Real brokers for tests: the secured one of docs/security.md, made by the very commands that stand there."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import redis

from tests.tools import free_port

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

    def __init__(self, folder: Path, *, client_certificates: bool = False) -> None:
        self.folder, self.port = folder, free_port()
        folder.mkdir(parents=True)
        commands = "\n".join(re.findall(r"^```sh\n(.*?)^```", MANUAL.read_text(encoding="utf-8"), re.S | re.M))
        commands = commands.replace("queue.example.org", HOST).replace("tls-port 6379", f"tls-port {self.port}")
        if client_certificates:
            commands = commands.replace("tls-auth-clients optional", "tls-auth-clients yes")
        subprocess.run(["bash", "-euc", commands], cwd=folder, check=True, capture_output=True, timeout=60)
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen([need_tls(), "redis.conf"], cwd=folder, stdout=log, stderr=log)
        self._wait()

    def environment(self, user: str) -> dict[str, str]:
        return {
            "FTQ_BROKER_URL": f"rediss://{user}@{HOST}:{self.port}/0",
            "FTQ_BROKER_CA_FILE": str(self.folder / "ca.crt"),
            "FTQ_BROKER_PASSWORD_FILE": str(self.folder / f"{user}.password"),
            "FTQ_SIGNING_KEY_FILE": str(self.folder / "signing.key"),
        }

    def password(self, user: str) -> str:
        return (self.folder / f"{user}.password").read_text().strip()

    def connect(self, user: str) -> redis.Redis:
        certificate = self.folder / "server.crt", self.folder / "server.key"  # the authority's: good enough for us
        return redis.Redis(host=HOST, port=self.port, username=user, password=self.password(user), ssl=True,
                           ssl_ca_certs=str(self.folder / "ca.crt"), ssl_certfile=str(certificate[0]),
                           ssl_keyfile=str(certificate[1]))  # fmt: skip

    def refused(self) -> set[tuple[str, str]]:
        """(user, command, key or channel) that the broker has refused so far, redis-py's greeting aside."""
        with self.connect("admin") as admin:
            found = {(entry["username"], entry["object"]) for entry in admin.acl_log(1000)}
        return {(user, what) for user, what in found if what != "client|setinfo"}

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)

    def _wait(self) -> None:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            try:
                with self.connect("admin") as admin:
                    admin.ping()
                return
            except redis.ConnectionError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())
