"""A real PostgreSQL server for tests: on a Unix socket in a folder that goes away, and on an address."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def start(address: str = "", port: int = 5432) -> Iterator[str]:
    """The URL on the socket, of the database `postgres`. At the address each user has to show a password."""
    control = _pg_ctl()
    user: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="ftq-pg-"))
    if os.getuid() == 0:
        if not shutil.which("runuser") or "postgres" not in {entry.pw_name for entry in pwd.getpwall()}:
            pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres to run it as")
        user = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")

    def run(*command: str) -> None:
        subprocess.run([*user, *command], check=True, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.PIPE, timeout=300)  # fmt: skip

    data, log = str(folder / "data"), str(folder / "log")
    try:
        run(str(control.with_name("initdb")), "-D", data, "-U", "ftq", "-A", "trust", "--no-sync")
        if address:
            with Path(data, "pg_hba.conf").open("a") as rules:
                rules.write("host all all all scram-sha-256\n")
        listen = f"-c listen_addresses='{address}' -p {port} -k {folder} -F"
        run(str(control), "-D", data, "-l", log, "-w", "-t", "240", "-o", listen, "start")
        try:
            yield f"postgresql+psycopg://ftq@/postgres?host={folder}" + (f"&port={port}" if port != 5432 else "")
        finally:
            run(str(control), "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def control(data: Path, *words: str) -> None:
    """pg_ctl for the server whose data are in the folder, as the user to whom that belongs."""
    user = ["runuser", "-u", data.owner(), "--"] if os.getuid() == 0 else []
    log = data.parent / "log"
    subprocess.run([*user, str(_pg_ctl()), "-D", str(data), "-l", str(log), *words], check=True, cwd=data.parent,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=300)  # fmt: skip


def _pg_ctl() -> Path:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    on_path = shutil.which("pg_ctl")
    control = Path(on_path) if on_path else installed[-1] if installed else None
    if control is None or not control.with_name("initdb").exists():
        pytest.skip("no PostgreSQL server to start: apt-get install postgresql")
    return control
