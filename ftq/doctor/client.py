"""The client's checks, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Iterator

from ftq.doctor.findings import Check, Finding
from ftq.doctor.machine import artifacts, disk, python, versions
from ftq.settings import Settings


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
    return [Check("artifacts", folder, fix=fix), *_services(settings, flower_url)]


def _services(settings: Settings, flower_url: str | None) -> list[Check]:
    """Import the checks here, not in their threads. A missing package is a finding too."""
    try:
        from ftq.doctor.broker import broker
        from ftq.doctor.database import database
        from ftq.doctor.notify import notify
        from ftq.doctor.web import BUCKET_SECONDS, bucket, flower
        from ftq.doctor.workers import workers
    except ImportError as error:
        broken = Finding("versions", "problem", f"{error}: nothing else can be looked at", "make install")
        return [Check("versions", lambda: [broken])]
    return [
        Check("database", lambda: database(settings), fix="Check FTQ_DATABASE_URL, and that its server is there."),
        Check("bucket", lambda: bucket(settings), fix="Check FTQ_ARTIFACTS_URL.", seconds=BUCKET_SECONDS),
        Check("broker", lambda: broker(settings), fix="Check FTQ_BROKER_URL, and that its server is there."),
        Check("workers", lambda: workers(settings), silence="warning", fix="Database or broker hang: see there."),
        Check("notify", notify, silence="note"),
        Check("flower", lambda: flower(settings.home, flower_url), silence="note"),
    ]
