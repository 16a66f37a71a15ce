"""The process's settings, read from the environment at the edges (cli/main.py, worker/app.py) and passed inward."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ftq.errors import UserError

# A Unix socket's path holds 107 bytes at most (sun_path in unix(7)).
_SOCKET_PATH_MAX = 107


@dataclass(frozen=True)
class Settings:
    """`home` is the artifacts folder; an empty `broker_url` means the embedded server on a socket below it.

    `memory_gb` is the most GiB of device memory that a training may use; None is all that is free.
    """

    home: Path
    broker_url: str
    database_url: str
    lease_seconds: float = 60.0
    grace_seconds: float = 60.0
    max_attempts: int = 3
    memory_gb: float | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        home = Path(environ.get("FTQ_HOME") or "artifacts").expanduser().resolve()
        return cls(
            home=home,
            broker_url=environ.get("FTQ_BROKER_URL", ""),
            database_url=environ.get("FTQ_DATABASE_URL") or f"sqlite:///{home / 'ftq.db'}",
            lease_seconds=_number(environ, "FTQ_LEASE_SECONDS", 60, least=2),
            grace_seconds=_number(environ, "FTQ_GRACE_SECONDS", 60, least=1),
            max_attempts=int(_number(environ, "FTQ_MAX_ATTEMPTS", 3, least=1)),
            memory_gb=_number(environ, "FTQ_MEMORY_GB", 8, least=0.1) if environ.get("FTQ_MEMORY_GB") else None,
        )

    @property
    def embedded(self) -> bool:
        """Whether the broker is the embedded server of `ftq up`."""
        return not self.broker_url

    @property
    def broker(self) -> str:
        """The broker's URL, the embedded server's if no other was named."""
        return self.broker_url or f"redis+socket://{self.broker_socket}?virtual_host=0"

    @property
    def broker_socket(self) -> Path:
        """The embedded server's socket: beside its data, or in a private folder where that path is too long."""
        near = self.home / "broker" / "valkey.sock"
        if len(os.fsencode(near)) <= _SOCKET_PATH_MAX:
            return near
        digest = hashlib.sha256(os.fsencode(near)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"ftq-{os.getuid()}-{digest}" / "valkey.sock"


def _number(environ: Mapping[str, str], name: str, default: float, least: float) -> float:
    text = environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"{name}={text}: not a number", f"For example: {name}={default}") from None
    if not value >= least:  # also of nan
        raise UserError(f"{name}={text}: must be {least} or more")
    return value


def without_password(url: str) -> str:
    """A URL as it may be shown: the password replaced."""
    head, at, tail = url.rpartition("@")
    if not at or "://" not in head:
        return url
    scheme, _, login = head.partition("://")
    user, colon, _ = login.partition(":")
    return f"{scheme}://{user}{':***' if colon else ''}@{tail}"
