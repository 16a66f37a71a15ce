"""Flower's logins: from a file or the environment, never from a command line, which `ps` shows to everybody."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from ftq.errors import UserError
from ftq.files.disk import replacing

_HOW = "Put user:password into a file (mode 0600) and its path into FTQ_FLOWER_AUTH_FILE."


def read(environ: Mapping[str, str]) -> list[str]:
    """["user:password", ...] from FTQ_FLOWER_AUTH_FILE (one a line) or FTQ_FLOWER_AUTH. UserError if there is none."""
    file = environ.get("FTQ_FLOWER_AUTH_FILE")
    text = _text(Path(file)) if file else environ.get("FTQ_FLOWER_AUTH", "")
    where = file or "FTQ_FLOWER_AUTH"
    logins = [line.strip() for line in text.splitlines() if line.strip()]
    if not logins:
        raise UserError("Flower has no login, and without one it isn't started", _HOW)
    for number, login in enumerate(logins, 1):
        user, _, password = login.partition(":")
        if not (user and password and login.isascii()):
            raise UserError(f"{where}, line {number}: not user:password in ASCII", _HOW)  # never shows the line itself
    return logins


def make(file: Path) -> None:
    """Write a login with a random password into a file that only its owner can read, unless the file has one.

    UserError if the file can't be written. An empty file, which a full disk may leave, is replaced.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if file.exists() and file.stat().st_size:
            return
        with replacing(file) as new, os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT, 0o600), "w") as output:
            output.write(f"ftq:{secrets.token_urlsafe(16)}\n")
            output.flush()
            os.fsync(output.fileno())  # a power cut leaves the whole file or none
    except OSError as error:
        message = f"Flower's login can't be written: {file}: {error.strerror}"
        raise UserError(message, "Make room or correct the folder's owner and mode; or `ftq up --no-flower`.") from None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"FTQ_FLOWER_AUTH_FILE={file}: {error}", _HOW) from None
