"""The workers as the database and the broker show them: who is alive, what they serve, what their clocks say."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import redis
import sqlalchemy as sa
from kombu.exceptions import OperationalError

from ftq.doctor import broker
from ftq.doctor.clock import compare
from ftq.doctor.findings import Finding
from ftq.errors import Unavailable
from ftq.settings import Settings, sqlite_file
from ftq.store import schema
from ftq.store.records import ASK
from ftq.store.workers import WORKER_SILENCE

FORGOTTEN = 86_400.0  # seconds of silence after which a worker isn't worth a line
ANSWER_SECONDS = 1.0
# The queues of a run on one GPU and of its questions; for those on several `ftq status` says what is missing.
NEEDED = ("cpu", "gpu", ASK)

Ask = Callable[[Settings, Sequence[str]], set[str] | None]


def workers(settings: Settings, clock: Callable[[], float] = time.time, ask: Ask | None = None) -> Iterator[Finding]:
    """`ask` names those of the workers that answer through the broker, None where that can't be asked."""
    try:
        rows = [row for row in _rows(settings) if clock() - row.seen_at < FORGOTTEN]
    except (Unavailable, sa.exc.SQLAlchemyError):
        yield Finding("workers", "note", "unknown: the database can't be read")
        return
    answering = (ask or answers)(settings, [row.name for row in rows]) if rows else None
    alive = [row for row in rows if row.name in (answering or ()) or clock() - row.seen_at < WORKER_SILENCE]
    for row in rows:
        yield from _judge(row, row in alive, answering, clock() - row.seen_at, settings)
    yield from _unserved(alive)


def answers(settings: Settings, names: Sequence[str]) -> set[str] | None:
    """Ask the workers themselves, through the broker, and take the answers of the first second."""
    try:
        found = broker.app(settings).control.inspect(names, timeout=ANSWER_SECONDS, limit=len(names)).ping()
    except (OperationalError, redis.RedisError, OSError):
        return None
    return set(found or {})


def _rows(settings: Settings) -> Sequence[sa.Row[Any]]:
    path = sqlite_file(settings.database_url)
    if path and not path.exists():
        return []
    engine = schema.open_engine(settings.database_url)
    with contextlib.closing(engine.connect().execution_options(read=True)) as connection:
        found = connection.execute(sa.select(schema.workers).order_by(schema.workers.c.name)).all()
    engine.dispose()
    return found


def _judge(row: Any, alive: bool, answering: set[str] | None, ago: float, settings: Settings) -> Iterator[Finding]:
    who = f"{row.name} ({row.queues}{f', {row.gpu}' if row.gpu else ''})"
    if not alive:
        yield Finding("workers", "note", f"{who} is gone: silent for {ago:.0f} s. Its runs go to another worker.")
        return
    if row.draining:
        yield Finding("workers", "note", f"{who} is stopping")
    elif answering is not None and row.name not in answering:
        message = f"{who} is alive by the database, but doesn't answer through this broker"
        yield Finding("workers", "warning", message, f"Compare FTQ_BROKER_URL on {row.host} with this machine's.")
    else:
        yield Finding("workers", "ok", f"{who} is alive")
    if row.name in (answering or ()) or ago < 0:  # otherwise a sign of life that is old may just be the last one
        yield from compare(row.name, -ago, settings.lease_seconds)


def _unserved(alive: Sequence[Any]) -> Iterator[Finding]:
    served = {queue for row in alive if not row.draining for queue in row.queues.split(",")}
    if not served:
        yield Finding("workers", "warning", "no worker is up: runs are recorded and wait", "ftq up   (or ftq worker)")
        return
    for queue in NEEDED:
        if queue not in served:
            message = f"no worker serves the queue {queue}: {'questions' if queue == ASK else 'runs'} wait there"
            yield Finding("workers", "warning", message, f"ftq worker --queues {queue}")
