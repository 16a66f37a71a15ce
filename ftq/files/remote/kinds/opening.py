"""The library of each kind of bucket: whether it is here, opening it, and looking whether the bucket is there."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from ftq.errors import UserError
from ftq.files.remote.kinds.errors import is_no_bucket
from ftq.files.remote.kinds.kinds import LOCAL, kind_of
from ftq.files.remote.kinds.s3 import with_one_client

PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}
REQUIREMENTS = {"s3": "cluster.txt", "gs": "google.txt", "az": "azure.txt"}
STALLED_SECONDS = 30  # after which a connection of which the other side takes no byte is dead
UNSENT = 2**18  # bytes that the system takes from us ahead of what it can send: the answer is waited for behind them
QUIET = {  # what they tell of credentials and failures, and we tell ourselves
    "botocore": logging.WARNING,
    "aiobotocore": logging.WARNING,
    "azure": logging.ERROR,
    "gcsfs": logging.CRITICAL,
    "google.auth": logging.ERROR,
}


class NoSuchBucket(FileNotFoundError):
    """Google and Azure tell it as they tell that an object is missing."""


def check_installed(url: str) -> None:
    """UserError if the package for the URL's scheme is missing, with what to type."""
    kind = kind_of(url.partition("://")[0])
    if kind not in (*PACKAGES, LOCAL):
        known = ", ".join(f"{name}://" for name in (*PACKAGES, LOCAL))
        raise UserError(f"FTQ_ARTIFACTS_URL={url}: no such kind of bucket", f"Known: {known}")
    for package in ("fsspec", PACKAGES.get(kind, "fsspec")):
        if sys.modules.get(package, package) is None or find_spec(package) is None:
            kind = kind if kind in REQUIREMENTS else "s3"
            fix = f"pip install -r requirements/{REQUIREMENTS[kind]}   (or: pip install 'ftq[{kind}]')"
            raise UserError(f"{package} isn't installed here: {url} needs it", fix)


def opener(url: str, connect: float, read: float, attempts: int) -> Callable[[], Any]:
    """What opens the file system of the URL; it is imported already. UserError where its package is missing."""
    check_installed(url)
    import fsspec

    scheme = url.partition("://")[0]
    kind, opens = kind_of(scheme), fsspec.get_filesystem_class(scheme)
    opens = with_one_client(opens) if kind == "s3" else opens
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if kind == "s3":
        retries = {"mode": "standard", "total_max_attempts": attempts}
        timeouts = {"connect_timeout": connect, "read_timeout": read}
        options["config_kwargs"] = {**timeouts, "retries": retries, "connector_args": {"socket_factory": _socket}}
    elif kind == "gs":
        from aiohttp import ClientTimeout

        options["requests_timeout"] = ClientTimeout(sock_connect=connect, sock_read=read)
    elif kind == "az":
        options |= {"connection_timeout": connect, "read_timeout": read}
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)

    def open_it() -> Any:
        if kind == "s3":
            options["session"] = _s3_session()
        elif kind == "gs":
            options["session_kwargs"] = {"connector": _connector()}
        fs = opens(**options)
        if kind == "s3":
            fs.retries = attempts
        return fs

    return open_it


def connect(kind: str, fs: Any) -> None:
    """Have ready what the first request needs: on a busy machine that takes S3's library seconds."""
    if kind == "s3":
        fs.connect()


def look(kind: str, fs: Any, root: str) -> None:
    """An error that says so unless the bucket is there and may be listed."""
    bucket, _, prefix = root.partition("/")
    try:
        if kind == "s3":  # its `ls` would list all runs
            fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=f"{prefix}/" if prefix else "", MaxKeys=1)
        elif kind == "gs":
            fs.call("GET", "b/{}/o", bucket, maxResults=1)
        else:
            next(iter(fs.ls(bucket, detail=False)), None)
    except FileNotFoundError as error:
        if is_no_bucket(error):
            raise
        raise NoSuchBucket(f"there is no bucket {bucket}") from error


def _s3_session() -> Any:
    """botocore's own asks a server whether it may send a body, and waits for the answer without end."""
    from aiobotocore.session import AioSession
    from botocore.handlers import add_expect_header

    session = AioSession()
    session.unregister("before-call.s3", add_expect_header)
    return session


def _connector() -> Any:
    """What makes the connections of aiohttp; it belongs to fsspec's thread."""
    from aiohttp import TCPConnector
    from fsspec.asyn import get_loop, sync

    async def make() -> TCPConnector:
        return TCPConnector(socket_factory=_socket)

    return sync(get_loop(), make)


def _socket(address: Any) -> socket.socket:
    """A socket whose connection breaks where it is stuck; the libraries look at the time only once all is sent."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    for name, value in (("TCP_USER_TIMEOUT", 1000 * STALLED_SECONDS), ("TCP_NOTSENT_LOWAT", UNSENT)):
        if number := getattr(socket, name, None):  # Linux has both
            made.setsockopt(socket.IPPROTO_TCP, number, value)
    return made
