"""The client's checks, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Iterator

from ftq.doctor.findings import Check, Finding
from ftq.doctor.machine import artifacts, disk, python, versions
from ftq.programs import lacking
from ftq.servers import sqlite_file
from ftq.settings import Settings

PLACES = """export FTQ_SERVER=https://... FTQ_KEY=sk-ftq-...   as whoever runs `ftq serve` tells you
   or FTQ_BROKER_URL, FTQ_DATABASE_URL and FTQ_ARTIFACTS_URL as they are where the workers run
   or FTQ_HOME, where `ftq up` runs on this machine out of another installation
   or install the worker here too: `make install` in ftq's source folder"""


def checks(settings: Settings, flower_url: str | None) -> list[Check]:
    """Those of a client over the database, or of one that goes through FTQ_SERVER."""
    own = [Check("python", python), Check("versions", lambda: versions("cli"))]
    return own + (_server(settings) if settings.server else _here(settings, flower_url))


def _server(settings: Settings) -> list[Check]:
    from ftq.doctor.web import SERVER_SECONDS, server

    fix = "Check FTQ_SERVER, and that it is up."
    return [Check("server", lambda: server(settings), fix=fix, seconds=SERVER_SECONDS)]


def _here(settings: Settings, flower_url: str | None) -> list[Check]:
    def folder() -> Iterator[Finding]:
        yield from artifacts(settings.home)
        yield from disk("artifacts", settings.home)

    fix = "A network file system that hangs? Set FTQ_HOME to a local disk."
    here = Check("artifacts", folder, fix=fix)
    if alone := _alone(settings):
        return [Check("workers", lambda: [alone]), here]
    return [here, *_services(settings, flower_url)]


def _alone(settings: Settings) -> Finding | None:
    """What is missing where only the client is installed, and no setting names other machines.

    Their broker's socket is in the artifacts folder, if that is shared.
    """
    named = not (settings.embedded and sqlite_file(settings.database_url)) or settings.artifacts_url
    if named or settings.broker_socket.exists() or not lacking():
        return None
    message = f"only the client is installed here, and nothing says where workers are: runs wait in {settings.home}"
    return Finding("workers", "problem", message, PLACES)


def _services(settings: Settings, flower_url: str | None) -> list[Check]:
    """Import the checks here, not in their threads. A missing package is a finding too."""
    try:
        from ftq.doctor.broker import broker, whose
        from ftq.doctor.database import database
        from ftq.doctor.notify import notify
        from ftq.doctor.web import BUCKET_SECONDS, bucket, flower
        from ftq.doctor.workers import workers
    except ImportError as error:
        broken = Finding("versions", "problem", f"{error}: nothing else can be looked at", "make install")
        return [Check("versions", lambda: [broken])]
    up = "and that its server is there."
    hang = "Database or broker hang: see there."
    return [
        Check("database", lambda: database(settings), fix=f"Check FTQ_DATABASE_URL, {up}"),
        Check("bucket", lambda: bucket(settings), fix="Check FTQ_ARTIFACTS_URL.", seconds=BUCKET_SECONDS),
        Check("broker", lambda: broker(settings), fix=f"Check FTQ_BROKER_URL, {up}"),
        Check("broker", lambda: whose(settings), "note", f"Unknown whose it is. {hang}"),
        Check("workers", lambda: workers(settings), "warning", hang),
        Check("notify", notify, silence="note"),
        Check("flower", lambda: flower(settings.home, flower_url), silence="note"),
    ]
