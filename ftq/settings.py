"""The process's settings, read from the environment at the edges (cli/main.py, worker/app.py) and passed inward.

A secret comes from the environment or, better, from a file that the environment names: a file doesn't show in
`docker inspect` and isn't inherited. docs/security.md lists them.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from ftq.errors import UserError

_SOCKET_PATH_MAX = 107  # bytes of a Unix socket's path (sun_path in unix(7))

# Whoever knows these can act as the worker. A stage's process loads models from anywhere and doesn't need them.
NOT_FOR_STAGES = (
    "FTQ_BROKER_URL",
    "FTQ_BROKER_PASSWORD_FILE",
    "FTQ_BROKER_CA_FILE",
    "FTQ_BROKER_CERT_FILE",
    "FTQ_BROKER_KEY_FILE",
    "FTQ_DATABASE_URL",
    "FTQ_DATABASE_PASSWORD_FILE",
    "FTQ_SIGNING_KEY_FILE",
    "FTQ_FLOWER_AUTH",
    "FTQ_FLOWER_AUTH_FILE",
)
LLM_SECRETS = ("FTQ_LLM_KEY", "FTQ_LLM_KEY_FILE")  # only prepare asks a language model elsewhere
SIGNING_KEY_BYTES = 32
_BROKERS = ("redis", "rediss", "redis+socket")  # the schemes of a broker's URL


@dataclass(frozen=True)
class Tls:
    """The authority that signs the broker's certificate, and the client's own certificate if the broker asks for one.

    Without `ca_file` the system's authorities count. The certificate is always checked, the host's name too.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def options(self) -> dict[str, Any]:
        """Options for Celery's broker_use_ssl, in redis-py's words."""
        import ssl

        files = {"ssl_ca_certs": self.ca_file, "ssl_certfile": self.cert_file, "ssl_keyfile": self.key_file}
        named = {name: str(path) for name, path in files.items() if path}
        return {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True, **named}


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
    standby: bool = True  # whether a worker that trains keeps a process ready with everything imported
    tls: Tls | None = None
    signing_key: bytes = field(default=b"", repr=False)
    umask: int = 0o077
    memory_gb: float | None = None
    llama_server: Path | None = None  # answers instead of the packaged llama.cpp

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        home = Path(environ.get("FTQ_HOME") or "artifacts").expanduser().resolve()
        broker_url = _with_password(environ, "FTQ_BROKER")
        _check_broker(broker_url)
        return cls(
            home=home,
            broker_url=broker_url,
            database_url=_with_password(environ, "FTQ_DATABASE") or f"sqlite:///{_in_url(home / 'ftq.db')}",
            lease_seconds=_number(environ, "FTQ_LEASE_SECONDS", 60, least=2),
            grace_seconds=_number(environ, "FTQ_GRACE_SECONDS", 60, least=1),
            max_attempts=int(_number(environ, "FTQ_MAX_ATTEMPTS", 3, least=1)),
            standby=bool(_number(environ, "FTQ_STANDBY", 1, least=0)),
            tls=_tls(environ, broker_url),
            signing_key=_signing_key(environ),
            umask=_umask(environ),
            memory_gb=memory_gb(environ),
            llama_server=llama_server(environ),
        )

    @property
    def embedded(self) -> bool:
        """Whether the broker is the embedded server of `ftq up`."""
        return not self.broker_url

    @property
    def broker(self) -> str:
        """The broker's URL, the embedded server's if no other was named."""
        return self.broker_url or f"redis+socket://{_in_url(self.broker_socket)}?virtual_host=0"

    @property
    def broker_socket(self) -> Path:
        """The embedded server's socket: beside its data, or in a private folder where that path is too long."""
        near = self.home / "broker" / "valkey.sock"
        if len(os.fsencode(near)) <= _SOCKET_PATH_MAX:
            return near
        digest = hashlib.sha256(os.fsencode(near)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"ftq-{os.getuid()}-{digest}" / "valkey.sock"


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite database; None if the URL names a server."""
    scheme, _, path = url.partition(":///")
    return Path(unquote(path.partition("?")[0])).absolute() if path and scheme.startswith("sqlite") else None


def _in_url(path: Path) -> str:
    """Quote what has a meaning in a URL (`;` separates kombu's URLs)."""
    return re.sub("[%?#;]", lambda found: quote(found[0]), str(path))


def _number(environ: Mapping[str, str], name: str, default: float, least: float) -> float:
    text = environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"{name}={text}: not a number", f"For example: {name}={default}") from None
    if value == math.inf:
        raise UserError(f"{name}={text}: must be finite", f"For example: {name}={default}")
    if not value >= least:  # also of nan
        raise UserError(f"{name}={text}: must be {least} or more")
    return value


def protect_files(environ: Mapping[str, str] = os.environ) -> None:
    """Make what this process and its children write private to their user; FTQ_UMASK=007 lets the group in."""
    os.umask(_umask(environ))


def _umask(environ: Mapping[str, str]) -> int:
    text = environ.get("FTQ_UMASK") or "077"
    if not re.fullmatch("0?0[0-7]{2}", text):
        raise UserError(
            f"FTQ_UMASK={text}: not a umask that leaves the files' owner alone",
            "077 keeps files to yourself, 007 shares them with the group.",
        )
    return int(text, 8)


def _with_password(environ: Mapping[str, str], name: str) -> str:
    """The URL in <name>_URL with the password of <name>_PASSWORD_FILE."""
    url, file = environ.get(f"{name}_URL", ""), f"{name}_PASSWORD_FILE"
    if url:
        _check_url(url, name)
    if not environ.get(file):
        return url
    password = read_secret(environ, file)
    scheme, _, rest = url.partition("://")
    login, at, place = rest.rpartition("@")
    if not url or scheme.startswith("sqlite"):
        raise UserError(f"{file} is set, but {name}_URL names no server", f"Set {name}_URL too, or unset {file}.")
    if ":" in login:
        raise UserError(f"{name}_URL has a password and {file} names another", "Take it out of the URL.")
    return f"{scheme}://{login}:{quote(password, safe='')}@{place if at else rest}"


def _check_url(url: str, name: str) -> None:
    """Refuse what isn't a URL. Often its password has a `/` or `#`, and a library's error would show a part of it."""
    try:
        parts = urlsplit(url)
        is_url = parts.port != 0 and not (parts.netloc and "@" in parts.path + parts.fragment)
    except ValueError:
        is_url = False
    if not is_url:
        raise UserError(
            f"{name}_URL is not a URL, or its password holds characters that a URL can't",
            f"Put the password alone into a file and name that in {name}_PASSWORD_FILE.",
        )


def _check_broker(url: str) -> None:
    """Refuse what kombu would refuse after the run was recorded. kombu takes several URLs with `;` between them."""
    for server in url.split(";") if url else []:
        parts = urlsplit(server)
        on_socket = parts.scheme == "redis+socket"
        database = parse_qs(parts.query).get("virtual_host", [""])[0] if on_socket else parts.path.strip("/")
        if parts.scheme not in _BROKERS or (database and not database.isdecimal()):
            raise UserError(
                f"FTQ_BROKER_URL={without_password(url)}: not a Redis or Valkey server, or its database is no number",
                "For example: FTQ_BROKER_URL=redis://USER@HOST:6379/0",
            )


def read_secret(environ: Mapping[str, str], name: str) -> str:
    """The one line of the file that the variable names."""
    path = _file(environ, name)
    assert path is not None
    try:
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise UserError(f"{name}={path}: not a text file", "It has to hold the secret and nothing else.") from None
    if not text.strip():
        raise UserError(f"{name}={path}: the file is empty", f"For example: openssl rand -hex 32 > {path}")
    if "\n" in text:
        raise UserError(
            f"{name}={path}: the file has more than one line", "It has to hold the secret and nothing else."
        )
    return text


def _file(environ: Mapping[str, str], name: str) -> Path | None:
    """The readable file that the variable names; None if it is unset."""
    if not environ.get(name):
        return None
    path = Path(environ[name]).expanduser().absolute()
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(
            f"{name}={path}: can't be read ({error.strerror})", "Correct the path, or the file's owner and mode."
        ) from None
    return path


def _tls(environ: Mapping[str, str], broker_url: str) -> Tls | None:
    files = {name: _file(environ, f"FTQ_BROKER_{name}_FILE") for name in ("CA", "CERT", "KEY")}
    if not broker_url.startswith("rediss://"):
        given = [f"FTQ_BROKER_{name}_FILE" for name, path in files.items() if path]
        if given:
            raise UserError(
                f"{given[0]} is set, but FTQ_BROKER_URL doesn't ask for TLS", "It has to begin with rediss:// (two s)."
            )
        return None
    if (files["CERT"] is None) != (files["KEY"] is None):
        raise UserError("a client certificate needs both FTQ_BROKER_CERT_FILE and FTQ_BROKER_KEY_FILE")
    return Tls(files["CA"], files["CERT"], files["KEY"])


def _signing_key(environ: Mapping[str, str]) -> bytes:
    name = "FTQ_SIGNING_KEY_FILE"
    if not environ.get(name):
        return b""
    key = read_secret(environ, name).encode()
    if len(key) < SIGNING_KEY_BYTES:
        raise UserError(
            f"{name}={environ[name]}: the key is shorter than {SIGNING_KEY_BYTES} characters",
            f"Make a new one: openssl rand -hex 32 > {environ[name]}",
        )
    return key


def memory_gb(environ: Mapping[str, str] = os.environ) -> float | None:
    """FTQ_MEMORY_GB: the most GiB of device memory that a training run may use."""
    return _number(environ, "FTQ_MEMORY_GB", 8, least=0.1) if environ.get("FTQ_MEMORY_GB") else None


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where ftq keeps what it can make again: $FTQ_CACHE, else ~/.cache/ftq."""
    return Path(environ.get("FTQ_CACHE") or Path.home() / ".cache" / "ftq").expanduser()


def hub_cache(environ: Mapping[str, str] = os.environ) -> Path:
    """Where huggingface_hub keeps models. Importing it to ask would take longer than most of what asks."""
    folder = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE")
    home = environ.get("HF_HOME") or Path(environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    return Path(folder or Path(home, "hub")).expanduser()


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


def without_password(text: str) -> str:
    """Replace the passwords in a URL, or in a message with URLs."""
    text = re.sub(r"(://[^\s:/@]*:)\S*@", r"\1***@", text)
    return re.sub(r"(?i)([?&][a-z_]*password=)[^\s&]*", r"\1***", text)
