"""The checks of a client that goes through FTQ_SERVER."""

from __future__ import annotations

import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from ftq.client.remote.connection import Connection
from ftq.doctor.findings import Check, Finding
from ftq.doctor.machine import python, versions
from ftq.errors import FtqError
from ftq.settings import Settings
from ftq.version import VERSION

SECONDS = 4.0


def checks(settings: Settings) -> list[Check]:
    return [
        Check("python", python),
        Check("versions", lambda: versions("cli")),
        Check("server", lambda: server(settings), fix="Check FTQ_SERVER, and that it is up.", seconds=SECONDS),
    ]


def server(settings: Settings) -> Iterator[Finding]:
    """Whether the server answers, whose key it was asked with, and whether workers are up there."""
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
        live = [one["worker"]["name"] for one in connection.get("/workers")["data"] if one["worker"]["is_live"]]
        if live:
            yield Finding("workers", "ok", f"{len(live)} up: {', '.join(live)}")
        else:
            yield Finding("workers", "warning", "no worker is up", "`ftq up` or `ftq worker` there starts one.")
    except FtqError as error:
        yield Finding("server", "problem", error.message, error.hint)
    finally:
        connection.close()


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")
