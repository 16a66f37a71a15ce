"""What a folder's file system can do. It is tried, not looked up: mounts, rights and quotas all matter."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ftq.settings import SOCKET_PATH_MAX

TOO_LONG = "its path is too long"


def refusal(folder: Path) -> str:
    """Why a file can't be written into the folder; empty if it can."""
    with _said() as why, tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        file.write(b"ftq")
    return why[0] if why else ""


def no_lock(folder: Path) -> str:
    """Why a file in the folder can't be locked. SQLite, `ftq up` and each stage lock one."""
    with _said() as why, tempfile.TemporaryFile(dir=folder) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return why[0] if why else ""


def no_socket(folder: Path) -> str:
    """Why no Unix socket can be made in the folder: a USB disk, a mounted Windows drive and some networks have none."""
    path = folder / f".{secrets.token_hex(4)}.sock"
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        return TOO_LONG
    with _said() as why, socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.bind(os.fsencode(path))
        finally:
            path.unlink(missing_ok=True)  # a refusal may leave an empty file
    return why[0] if why else ""


def keeps_modes(folder: Path) -> bool:
    """Whether a file there can be closed to others."""
    with contextlib.suppress(OSError), tempfile.NamedTemporaryFile(dir=folder) as file:
        os.fchmod(file.fileno(), 0o600)
        return not stat.S_IMODE(os.stat(file.name).st_mode) & 0o077
    return False


@contextlib.contextmanager
def _said() -> Iterator[list[str]]:
    """Take an OSError of the block as a line in the list."""
    why: list[str] = []
    try:
        yield why
    except OSError as error:
        why.append(error.strerror or str(error))
