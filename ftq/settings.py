"""The process's settings, read from the environment at the edges (cli/main.py, worker/app.py) and passed inward."""

from __future__ import annotations

import hashlib
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ftq.errors import UserError
from ftq.servers import (
    Tls,
    check_broker,
    expanded,
    in_url,
    key_of,
    server_of,
    signing_key_of,
    tls_of,
    with_password,
)

_umask_at_start: list[int] = []  # that of the user's shell, once the process has taken ftq's own
SOCKET_PATH_MAX = 107  # bytes of a Unix socket's path (sun_path in unix(7))


@dataclass(frozen=True)
class Settings:
    """`home` is the artifacts folder; an empty `broker_url` means the embedded server on a socket below it.

    `memory_gb` is the most GiB of device memory that a training run may use; None is all that is free.
    The URLs hold their passwords and stay out of `repr`; `without_password` makes them fit to be shown.
    """

    home: Path
    broker_url: str = field(repr=False)
    database_url: str = field(repr=False)
    lease_seconds: float = 60.0
    grace_seconds: float = 60.0
    max_attempts: int = 3
    owner_limit: int = 0  # runs of one owner that may be at work at once; 0 is no limit
    standby: bool = True  # whether a worker that trains keeps a process ready with everything imported
    tls: Tls | None = None
    signing_key: bytes = field(default=b"", repr=False)
    umask: int = 0o077
    memory_gb: float | None = None
    llama_server: Path | None = None  # answers instead of the packaged llama.cpp
    server: str = ""  # the URL of `ftq serve` through which a client goes, instead of to the database and the broker
    server_key: str = field(default="", repr=False)
    artifacts_url: str = ""  # the bucket that machines without a shared folder share; `home` is a copy of it then
    cache_gb: float = 0.0  # the most GB that this copy may take; 0 is no limit

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        home = expanded(Path(environ.get("FTQ_HOME") or "artifacts"), "FTQ_HOME").resolve()
        broker_url = with_password(environ, "FTQ_BROKER")
        check_broker(broker_url)
        return cls(
            home=home,
            broker_url=broker_url,
            database_url=_database(environ) or _own_database(home),
            lease_seconds=number_of(environ, "FTQ_LEASE_SECONDS", 60, least=2),
            grace_seconds=number_of(environ, "FTQ_GRACE_SECONDS", 60, least=1),
            max_attempts=int(number_of(environ, "FTQ_MAX_ATTEMPTS", 3, least=1)),
            owner_limit=int(number_of(environ, "FTQ_OWNER_LIMIT", 4, least=1)) if environ.get("FTQ_OWNER_LIMIT") else 0,
            standby=bool(number_of(environ, "FTQ_STANDBY", 1, least=0)),
            tls=tls_of(environ, broker_url),
            signing_key=signing_key_of(environ),
            umask=_umask(environ),
            memory_gb=memory_gb(environ),
            llama_server=llama_server(environ),
            server=server_of(environ),
            server_key=key_of(environ),
            artifacts_url=_artifacts_url(environ),
            cache_gb=number_of(environ, "FTQ_CACHE_GB", 0, least=0),
        )

    @property
    def own_database(self) -> bool:
        """Whether the database is the artifacts folder's own, as where FTQ_DATABASE_URL isn't set."""
        return self.database_url == _own_database(self.home)

    @property
    def embedded(self) -> bool:
        """Whether the broker is the embedded server of `ftq up`."""
        return not self.broker_url

    @property
    def broker(self) -> str:
        """The broker's URL, the embedded server's if no other was named."""
        return self.broker_url or f"redis+socket://{in_url(self.broker_socket)}?virtual_host=0"

    @property
    def broker_socket(self) -> Path:
        """The embedded server's socket: where `ftq up` has put it, or would first try to."""
        try:
            return Path(os.fsdecode(self.socket_place.read_bytes()))
        except OSError:
            return self.broker_sockets[0]

    @property
    def broker_sockets(self) -> list[Path]:
        """Where the embedded server's socket may be: beside its data, or in a private folder for temporary files.

        The path beside the data may be too long, or its disk may have no sockets.
        """
        near = self.home / "broker" / "valkey.sock"
        name = f"ftq-{os.getuid()}-{hashlib.sha256(os.fsencode(near)).hexdigest()[:12]}"
        folders = dict.fromkeys((tempfile.gettempdir(), "/tmp", f"/run/user/{os.getuid()}"))
        paths = [near, *(Path(folder, name, near.name) for folder in folders)]
        return [path for path in paths if len(os.fsencode(path)) <= SOCKET_PATH_MAX]

    @property
    def socket_place(self) -> Path:
        """The file in which `ftq up` says where its socket is, if that isn't the first of `broker_sockets`."""
        return self.home / "broker" / "socket"


def _database(environ: Mapping[str, str]) -> str:
    """FTQ_DATABASE_URL with its password; PostgreSQL's other schemes mean the driver that ftq has."""
    url = with_password(environ, "FTQ_DATABASE")
    scheme, _, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if scheme in ("postgres", "postgresql") else url


def _own_database(home: Path) -> str:
    return f"sqlite:///{in_url(home / 'ftq.db')}"


def number_of(environ: Mapping[str, str], name: str, default: float, least: float) -> float:
    """The finite number in the variable, from `least` on. UserError for anything else."""
    text, example = environ.get(name) or str(default), f"For example: {name}={default or 8}"
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"{name}={text}: not a number", example) from None
    if value == math.inf:
        raise UserError(f"{name}={text}: must be finite", example)
    if not value >= least:  # also of nan
        raise UserError(f"{name}={text}: must be {least} or more", example)
    return value


def names_of(environ: Mapping[str, str], name: str, example: str) -> dict[str, str]:
    """What the variable calls what: `NAME=VALUE,NAME=VALUE`. UserError for anything else."""
    pairs = [pair.partition("=") for pair in environ.get(name, "").split(",") if pair.strip()]
    named = {one.strip(): value.strip() for one, _, value in pairs}
    if not all(one and value for one, value in named.items()):
        raise UserError(f"{name}: expected NAME=VALUE, separated by commas", f"For example: {name}={example}")
    return named


def protect_files(environ: Mapping[str, str] = os.environ) -> None:
    """Make what this process and its children write private to their user; FTQ_UMASK=007 lets the group in."""
    umask = _umask(environ)
    before = os.umask(umask)
    if not _umask_at_start:
        _umask_at_start.append(before)


@contextmanager
def as_the_user() -> Iterator[None]:
    """Write by the umask that this process was started with: what a user asks to have elsewhere is the user's."""
    protected = os.umask(_umask_at_start[0]) if _umask_at_start else None
    try:
        yield
    finally:
        if protected is not None:
            os.umask(protected)


def _umask(environ: Mapping[str, str]) -> int:
    text = environ.get("FTQ_UMASK") or "077"
    if not re.fullmatch("0?0[0-7]{2}", text):
        raise UserError(
            f"FTQ_UMASK={text}: not a umask that leaves the files' owner alone",
            "077 keeps files to yourself, 007 shares them with the group.",
        )
    return int(text, 8)


def _artifacts_url(environ: Mapping[str, str]) -> str:
    """FTQ_ARTIFACTS_URL without a slash at its end. UserError for one that can't be meant."""
    url = environ.get("FTQ_ARTIFACTS_URL", "").strip()
    forms = "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///FOLDER"
    if "@" in url:
        message = "FTQ_ARTIFACTS_URL has a user or password in it"
        raise UserError(message, "Take it out: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY name the user.")
    scheme, _, place = url.partition("://")
    is_folder = scheme == "file" and place.startswith("/") and place.strip("/")
    is_bucket = scheme != "file" and re.fullmatch(r"[a-z][a-z0-9+]*", scheme) and re.match(r"[^/\s]", place)
    if url and (not (is_folder or is_bucket) or ".." in place.split("/") or re.search(r"[?#\s]", url)):
        raise UserError(f"FTQ_ARTIFACTS_URL={url}: names no bucket", f"It has the form {forms}.")
    return url.rstrip("/")


def memory_gb(environ: Mapping[str, str] = os.environ) -> float | None:
    """FTQ_MEMORY_GB: the most GiB of device memory that a training run may use."""
    return number_of(environ, "FTQ_MEMORY_GB", 8, least=0.1) if environ.get("FTQ_MEMORY_GB") else None


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where ftq keeps what it can make again: $FTQ_CACHE, else ~/.cache/ftq."""
    return expanded(Path(environ.get("FTQ_CACHE") or "~/.cache/ftq"), "FTQ_CACHE")


def hub_cache(environ: Mapping[str, str] = os.environ) -> Path:
    """Where huggingface_hub keeps models. Importing it to ask would take longer than most of what asks."""
    folder = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE")
    home = environ.get("HF_HOME") or Path(environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    return expanded(Path(folder or Path(home, "hub")), "HF_HOME")


def hub_folder(hub_id: str) -> Path:
    """Where huggingface_hub keeps a model of that id: `refs/main` names a commit, `snapshots/` has the files."""
    return hub_cache() / f"models--{hub_id.replace('/', '--')}"


def llama_server(environ: Mapping[str, str] = os.environ) -> Path | None:
    """FTQ_LLAMA_SERVER: the path of a llama-server that answers instead of the packaged one.

    Stages inherit the variable. UserError if it names no executable file.
    """
    if not environ.get("FTQ_LLAMA_SERVER"):
        return None
    path = Path(environ["FTQ_LLAMA_SERVER"]).absolute()
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise UserError(
            f"FTQ_LLAMA_SERVER={environ['FTQ_LLAMA_SERVER']}: not an executable file",
            "Give the path of llama.cpp's llama-server, or unset it for the packaged one.",
        )
    return path
