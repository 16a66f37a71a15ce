"""The servers that a process talks to: the URLs of broker and database, their passwords, TLS and the signing key.

A secret comes from the environment or, better, from a file that the environment names: a file doesn't show in
`docker inspect` and isn't inherited. docs/security.md lists them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from ftq.errors import UserError

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
    "FTQ_WEBHOOK_URL",
    "FTQ_WEBHOOK_SECRET",
    "FTQ_NOTIFY_URL",
    "FTQ_NOTIFY_URL_FILE",
    "FTQ_METRICS_TOKEN",
    "FTQ_METRICS_TOKEN_FILE",
    "FTQ_CHAT_URL",
    "FTQ_CHAT_KEY_FILE",
    "FTQ_SERVER",
    "FTQ_KEY",
    "FTQ_KEY_FILE",
    "FTQ_ARTIFACTS_URL",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
)
BUCKET_SECRETS = (  # withheld from stages where a bucket is named: it holds all runs
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_CLIENT_SECRET",
    "AZURE_CLIENT_SECRET",
)
LLM_SECRETS = ("FTQ_LLM_KEY", "FTQ_LLM_KEY_FILE")  # only prepare asks a language model elsewhere
SIGNING_KEY_BYTES = 32


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


def with_password(environ: Mapping[str, str], name: str) -> str:
    """The URL in <name>_URL with the password of <name>_PASSWORD_FILE."""
    url, file = environ.get(f"{name}_URL", ""), f"{name}_PASSWORD_FILE"
    _check_url(url, name)
    if not environ.get(file):
        return url
    password = read_secret(environ, file)
    scheme, _, rest = url.partition("://")
    login, at, place = rest.rpartition("@")
    if url and not rest:
        return url  # no URL: who opens it says so, and shows it as it is
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


def check_broker(url: str) -> None:
    """Refuse what kombu would refuse after the run was recorded. kombu takes several URLs with `;` between them."""
    for server in url.split(";") if url else []:
        parts = urlsplit(server)
        on_socket = parts.scheme == "redis+socket"
        database = parse_qs(parts.query).get("virtual_host", [""])[0] if on_socket else parts.path.strip("/")
        if parts.scheme not in ("redis", "rediss", "redis+socket") or (database and not database.isdecimal()):
            raise UserError(
                f"FTQ_BROKER_URL={without_password(url)}: not a Redis or Valkey server, or its database is no number",
                "For example: FTQ_BROKER_URL=redis://USER@HOST:6379/0",
            )


def server_of(environ: Mapping[str, str]) -> str:
    """FTQ_SERVER without what is typed too much: a slash at the end, or the /v1 of OpenAI's clients."""
    url = environ.get("FTQ_SERVER", "").strip()
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        is_plain = not parts.username and not parts.password and not parts.query and not parts.fragment
    except ValueError:
        is_url = is_plain = False
    example = "For example: FTQ_SERVER=https://ftq.example.org"
    if not is_url:
        raise UserError("FTQ_SERVER is not a URL of http or https", example)
    if not is_plain:
        raise UserError("FTQ_SERVER holds more than a place", f"The key goes into FTQ_KEY or FTQ_KEY_FILE. {example}")
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def key_of(environ: Mapping[str, str]) -> str:
    """The key for FTQ_SERVER: FTQ_KEY, or the line in the file of FTQ_KEY_FILE."""
    if not environ.get("FTQ_SERVER", "").strip():
        return ""
    key = environ.get("FTQ_KEY", "").strip()
    if key and environ.get("FTQ_KEY_FILE"):
        raise UserError("FTQ_KEY and FTQ_KEY_FILE both name a key", "Unset one of them.")
    key = key or (read_secret(environ, "FTQ_KEY_FILE").strip() if environ.get("FTQ_KEY_FILE") else "")
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise UserError("the key for FTQ_SERVER holds characters that no key has", "`ftq keys create NAME` makes one.")
    return key


def secret_of(environ: Mapping[str, str], name: str) -> str:
    """What the variable says, or the file that <name>_FILE names; empty without both. UserError for both at once."""
    file = f"{name}_FILE"
    if environ.get(name) and environ.get(file):
        raise UserError(f"{name} and {file} are both set", "Keep one of them.")
    return read_secret(environ, file) if environ.get(file) else environ.get(name, "")


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
    path = expanded(Path(environ[name]), name).absolute()
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(
            f"{name}={path}: can't be read ({error.strerror})", "Correct the path, or the file's owner and mode."
        ) from None
    return path


def expanded(path: Path, name: str) -> Path:
    """The path with `~` replaced. UserError where nobody has that home folder, as in a container without a user."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise UserError(f"{path}: there is no such home folder", f"Set {name} to a path without `~`.") from None


def tls_of(environ: Mapping[str, str], broker_url: str) -> Tls | None:
    files = {name: _file(environ, f"FTQ_BROKER_{name}_FILE") for name in ("CA", "CERT", "KEY")}
    if not broker_url.startswith("rediss://"):
        names = [f"FTQ_BROKER_{name}_FILE" for name, path in files.items() if path]
        if names:
            raise UserError(
                f"{names[0]} is set, but FTQ_BROKER_URL doesn't ask for TLS", "It has to begin with rediss:// (two s)."
            )
        return None
    if (files["CERT"] is None) != (files["KEY"] is None):
        raise UserError("a client certificate needs both FTQ_BROKER_CERT_FILE and FTQ_BROKER_KEY_FILE")
    return Tls(files["CA"], files["CERT"], files["KEY"])


def signing_key_of(environ: Mapping[str, str]) -> bytes:
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


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite database; None if the URL names a server."""
    scheme, _, path = url.partition(":///")
    return Path(unquote(path.partition("?")[0])).absolute() if path and scheme.startswith("sqlite") else None


def in_url(path: Path) -> str:
    """Quote what has a meaning in a URL (`;` separates kombu's URLs), and what a URL's parser takes out."""
    return re.sub("[%?#;\t\r\n]", lambda found: quote(found[0]), str(path))


def without_password(text: str) -> str:
    """Replace the passwords in a URL, or in a message with URLs."""
    text = re.sub(r"(://[^\s:/@]*:)\S*@", r"\1***@", text)
    return re.sub(r"(?i)([?&][a-z_]*password=)[^\s&]*", r"\1***", text)


def place_of(url: str) -> str:
    """The URL without its password, to be typed again."""
    return without_password(url).replace(":***@", "@").replace("://@", "://")
