"""Servers that answer HTTP: that of FTQ_SERVER, the bucket, Flower, and the hub that the base models come from.

Imports little: the worker's doctor uses it too.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ftq.doctor.findings import Finding
from ftq.errors import FtqError
from ftq.programs import UpOptions, flower_address, lacking
from ftq.servers import sqlite_file
from ftq.settings import Settings
from ftq.version import VERSION

if TYPE_CHECKING:
    from ftq.files.remote.bucket import OutOfReach

SERVER_SECONDS, FLOWER_SECONDS, HUB_SECONDS = 4.0, 1.5, 3.0
ADVICE_SECONDS = 0.5  # for a database that hasn't hung so far
BUCKET_SECONDS = 10.0  # it is told in less, but a busy machine imports its library for seconds


def server(settings: Settings) -> Iterator[Finding]:
    """Whether the server answers, whose key it was asked with, and whether workers are up there."""
    from ftq.client.remote.connection import Connection
    from ftq.client.workers import resting, undraining
    from ftq.store.records import Worker, served_by
    from ftq.store.wire.records import decode

    connection, began = Connection(settings.server, settings.server_key), time.monotonic()
    try:
        about = connection.get("/about")
        took = time.monotonic() - began
        whose = f"the key is {about['key']}'s{', an admin' if about['admin'] else ''}"
        yield Finding("server", "ok", f"{settings.server} answers: {whose}", seconds=took)
        if about["ftq"] != VERSION:
            yield Finding(
                "server",
                "warning",
                f"it is ftq {about['ftq']}, this client is ftq {VERSION}",
                "Install the same version here: what one of them lacks fails with words.",
            )
        if settings.server.startswith("http://") and not _is_local(settings.server):
            message = "the key travels unencrypted"
            yield Finding("server", "warning", message, "Put a proxy with TLS before it: docs/serve.md.")
        known = (decode(Worker, one["worker"]) for one in connection.get("/workers")["data"])
        live = [worker for worker in known if worker.is_live]
        if taking := [worker.name for worker in live if worker.takes]:
            yield Finding("workers", "ok", f"{len(taking)} up: {', '.join(taking)}")
        elif live:
            queues = served_by(live)
            message = f"{resting(queues, live, set())}: runs are recorded and wait"
            yield Finding("workers", "warning", message, undraining(queues, live))
        else:
            yield Finding("workers", "warning", "no worker is up", "`ftq up` or `ftq worker` there starts one.")
    except FtqError as error:
        yield Finding("server", "problem", error.message, error.hint)
    finally:
        connection.close()


def bucket(settings: Settings) -> Iterator[Finding]:
    """Whether files can be put into the bucket and deleted there; nothing where none is named."""
    if not settings.artifacts_url:
        return
    from ftq.files.remote.bucket import Bucket, OutOfReach

    began, advice = time.monotonic(), _Advice(settings)
    try:
        Bucket(settings.artifacts_url).probe(write=True)
    except OutOfReach as error:
        error = advice.add_to(error)
        yield Finding("bucket", "problem", error.message, error.hint)
        return
    except FtqError as error:
        yield Finding("bucket", "problem", error.message, error.hint)
        return
    finally:
        advice.close()
    took = time.monotonic() - began
    yield Finding("bucket", "ok", f"{settings.artifacts_url} takes files and gives them back", seconds=took)


class _Advice:
    """What the database knows of the right bucket. It is opened while the bucket is asked: it may hang too."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._wrong: Future[OutOfReach | None] = Future()
        self._advised: Future[OutOfReach | None] = Future()
        path = sqlite_file(settings.database_url)
        if path and not path.exists():  # looking into it would make it
            self._advised.set_result(None)
        else:
            threading.Thread(target=self._give, name="bucket advice", daemon=True).start()

    def add_to(self, error: OutOfReach) -> OutOfReach:
        """The error with the advice, if that is there in time."""
        self._wrong.set_result(error)
        wait([self._advised], timeout=ADVICE_SECONDS)
        return (self._advised.result() if self._advised.done() else None) or error

    def close(self) -> None:
        if not self._wrong.done():
            self._wrong.set_result(None)

    def _give(self) -> None:
        from ftq.client.bucket.place import advise
        from ftq.store.store import RunStore

        advised = None
        try:
            with contextlib.suppress(FtqError), contextlib.closing(RunStore(self._settings.database_url)) as store:
                if error := self._wrong.result():
                    advised = advise(error, store, self._settings.artifacts_url)
        finally:
            self._advised.set_result(advised)


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def flower(home: Path, url: str | None = None) -> Iterator[Finding]:
    """Whether Flower answers: at the URL, or where `ftq up` has started it. Everything works without it."""
    url = url or _started(home)
    error = _refusal(f"{url.rstrip('/')}/healthcheck", FLOWER_SECONDS)
    if error:
        fix = "--flower URL, if there is one elsewhere" if lacking() else "ftq up   (or --flower URL for another place)"
        yield Finding("flower", "note", f"no Flower at {url} ({error})", fix)
    else:
        yield Finding("flower", "ok", f"Flower answers at {url}")


def _started(home: Path) -> str:
    try:
        return flower_address(home).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return f"http://127.0.0.1:{UpOptions.port}"


def hub(environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE"):
            yield Finding("hub", "note", f"{name} is set: only models that are on this machine are used")
            return
    url = environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if error := _refusal(url, HUB_SECONDS):
        message = f"{url} can't be reached ({error}): only models that are on this machine can be used"
        fix = "Set HTTPS_PROXY, or HF_HUB_OFFLINE=1 and copy the model here: ftq submit --model FOLDER"
        yield Finding("hub", "warning", message, fix)
    else:
        yield Finding("hub", "ok", f"{url} answers")


def _refusal(url: str, seconds: float) -> str:
    """Why the server doesn't answer; empty if it does, even with an error status."""
    if not url.startswith(("http://", "https://")):
        return "no http:// or https:// address"
    heading = {"User-Agent": f"ftq/{VERSION}"}
    try:
        request = urllib.request.Request(url, method="HEAD", headers=heading)  # noqa: S310  it is one of the two
        urllib.request.urlopen(request, timeout=seconds).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        return "" if error.code < 500 else f"HTTP {error.code}"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return str(getattr(reason, "strerror", None) or reason)
    return ""
