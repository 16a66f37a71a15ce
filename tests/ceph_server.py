"""Ceph for tests: the S3 server that data centres run (radosgw), over a monitor and a store in memory. Ten seconds."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import IO

import pytest

from tests.bucket_server import BucketServer
from tests.tools import free_port, freeze, until

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
INSTALL = "apt-get install --no-install-recommends ceph-mon ceph-osd radosgw"
CONFIGURATION = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{port}]
public network = 127.0.0.0/8
auth cluster required = none
auth service required = none
auth client required = none
ms mon cluster mode = crc
ms mon service mode = crc
ms mon client mode = crc
mon data = {folder}/mon
mon data avail crit = 1
mon allow pool size one = true
mon max pg per osd = 1000
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd crush chooseleaf type = 0
osd check max object name len on startup = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{rgw_port}
keyring = {folder}/keyring
run dir = {folder}
admin socket =
pid file =
log file =
log to stderr = false
err to stderr = true
"""


class CephServer(BucketServer):
    """As BucketServer. Stopped, it refuses connections: only the gateway ends, the store goes on."""

    def __init__(self, bucket: str) -> None:
        if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
            pytest.skip(f"no {', '.join(missing)}: {INSTALL}")
        self._folder = Path(tempfile.mkdtemp(prefix="ceph"))
        self._store = list[subprocess.Popen[bytes]]()
        self._gateway: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] = (self._folder / "output").open("wb")
        self._port = free_port()
        self._make_store()
        super().__init__(bucket)

    def start(self) -> None:
        self._configure()
        self._gateway = self._begin("radosgw", "-f", "-n", "client.admin")
        until(self._answers)

    def stop(self) -> None:
        if self._gateway:
            self._end(self._gateway)
            self._gateway = None

    def freeze(self) -> None:
        """Take connections, and answer nothing."""
        assert self._gateway
        freeze(self._gateway.pid)

    def thaw(self) -> None:
        assert self._gateway
        self._gateway.send_signal(signal.SIGCONT)

    def limit_user(self, size: int | None) -> None:
        """Give the user a quota of so many bytes, or none."""
        user = ("--quota-scope=user", "--uid=ftq")
        if size is not None:
            self._call("radosgw-admin", "quota", "set", *user, f"--max-size={size}")
        self._call("radosgw-admin", "quota", "disable" if size is None else "enable", *user)

    def fill_disks(self, full: bool) -> None:
        """Take a little of them for all: who writes is answered when there is room again."""
        if full:
            self.client.put_object(Bucket=self.bucket, Key="fills", Body=b"x" * 2**22)
        for name, share in (("full", 0.95), ("backfillfull", 0.9), ("nearfull", 0.85))[:: -1 if full else 1]:
            self._call("ceph", "osd", f"set-{name}-ratio", f"{share / 3_000 if full else share:.6f}")
        until(lambda: ("OSD_FULL" in self._call("ceph", "health", "detail")) == full)

    def close(self) -> None:
        for process in [self._gateway, *reversed(self._store)]:
            if process:
                self._end(process)
        self._output.close()
        shutil.rmtree(self._folder)

    def _make_store(self) -> None:
        """One monitor, one store, one user."""
        self._fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
        self.port = free_port()
        self._configure()
        for name in ("mon", "osd", "rgw"):
            (self._folder / name).mkdir()
        (self._folder / "keyring").touch()
        monmap = str(self._folder / "monmap")
        self._call(
            "monmaptool", "--create", "--fsid", self._fsid, "--addv", "a", f"[v2:127.0.0.1:{self._port}]", monmap
        )
        self._call("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        self._store.append(self._begin("ceph-mon", "-f", "-i", "a"))
        self._call("ceph", "osd", "new", osd)
        self._call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._store.append(self._begin("ceph-osd", "-f", "-i", "0"))
        self._call(
            "radosgw-admin",
            "user",
            "create",
            "--uid=ftq",
            "--display-name=ftq",
            "--access-key=key",
            "--secret-key=secret",
        )

    def _configure(self) -> None:
        values = {"fsid": self._fsid, "port": self._port, "rgw_port": self.port, "folder": self._folder}
        (self._folder / "ceph.conf").write_text(CONFIGURATION.format(**values))

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "CEPH_CONF": str(self._folder / "ceph.conf")}

    def _begin(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, env=self._environment(), stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output
        )

    def _call(self, *command: str) -> str:
        ended = subprocess.run(
            command, env=self._environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
        )
        assert ended.returncode == 0, (command, ended.stderr)
        return ended.stdout

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
            return True
        return False

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
