"""Messages that aren't for this worker: those of another database, and those that came as it began to rest.

None is swallowed unseen.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from celery import Celery

from ftq import queue
from ftq.doorbell import owner
from ftq.errors import Unavailable
from ftq.servers import place_of
from ftq.settings import Settings
from ftq.store.store import RunStore

log = logging.getLogger("ftq.worker")
PAUSE = 1.0  # seconds before one is put back: meanwhile the reconciler lets the worker take no more


def is_stray(request: Any, store: RunStore, run_id: str = "") -> bool:
    """Whether the message of this task is of another database. One of an earlier ftq doesn't say: its run does."""
    if database := request.get(queue.DATABASE):
        return bool(database != store.identity)
    return bool(run_id) and not store.known([run_id])


def turn_away(app: Celery, settings: Settings, request: Any, task: str) -> None:
    """Put the message back where its database has the broker; leave it out where nobody else takes from this broker.

    What is left out is sent again by the workers of its own database, wherever their broker is.
    """
    whose = _whose(app)
    where = place_of(settings.database_url)
    if whose and whose.identity != app.database:
        time.sleep(PAUSE)
        queue.send_back(app, request, task)
        log.warning("%s is of another database than %s: put back for %s", request.id, where, whose.who)
        return
    sender = request.get("origin") or "somebody"
    log.warning(
        "%s is of another database than %s, to which this broker belongs: left out. It came from %s: "
        "FTQ_DATABASE_URL is missing or another one there; `ftq doctor` there says more",
        *(request.id, where, sender),
    )


def put_back(app: Celery, store: RunStore, request: Any, task: str, run_id: str) -> None:
    """Put the message of a stage back that this worker wasn't let begin, as it rests: others take it."""
    try:
        run = store.due(run_id) if store.rests(request.hostname) else None
    except Unavailable:  # the reconciler sends it again
        return
    if run and run.current and request.id == queue.task_id(run.id, run.current.name, run.current.attempt):
        time.sleep(PAUSE)
        queue.send_back(app, request, task)
        log.warning("%s isn't begun here now: put back", request.id)


def _whose(app: Celery) -> owner.Owner | None:
    try:
        with owner.connected(app) as client:
            return owner.read(client)
    except queue.BROKER_ERRORS:
        return None
