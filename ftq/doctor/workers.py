"""The workers as the database and the broker show them: who is alive, what they serve, what their clocks say."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence

from celery import Celery

from ftq.client.bucket.place import other_bucket, other_than_last
from ftq.client.workers import resting, undraining
from ftq.doctor.clock import compare
from ftq.doctor.findings import CONNECT_SECONDS, Finding
from ftq.errors import Unavailable
from ftq.programs import lacking
from ftq.queue import BROKER_ERRORS, make_quick_app
from ftq.servers import sqlite_file
from ftq.settings import Settings
from ftq.store.records import ASK, Worker, served_by
from ftq.store.store import RunStore
from ftq.store.workers import FORGOTTEN, WORKER_SILENCE
from ftq.words import listed, plural, short

ANSWER_SECONDS = 1.0
# The queues of a run on one GPU and of its questions; for those on several `ftq status` says what is missing.
NEEDED = ("cpu", "gpu", ASK)
OF_THIS_VERSION = "this version of ftq"
NEWER_SENDER = "If a newer ftq sent it, restart this worker with that version."
ELSEWHERE = "Move or delete it (see at the broker; redis-cli RENAMENX or DEL). All goes on by itself then."
OTHER_SENDER = "Who else writes to this broker? Give ftq one of its own, or a database's number in FTQ_BROKER_URL."

Ask = Callable[[Settings, Sequence[str]], set[str] | None]


def workers(settings: Settings, clock: Callable[[], float] | None = None, ask: Ask | None = None) -> Iterator[Finding]:
    """`ask` names those of the workers that answer through the broker, None where that can't be asked.

    Without `clock` the database's counts.
    """
    try:
        every, now, moved = _known(settings)
    except Unavailable:
        yield Finding("workers", "note", "unknown: the database can't be read")
        return
    now = clock() if clock else now
    known = [worker for worker in every if now - worker.seen_at < FORGOTTEN]
    answering = (ask or answers)(settings, [worker.name for worker in known]) if known else None
    alive = [one for one in known if one.name in (answering or ()) or abs(now - one.seen_at) < WORKER_SILENCE]
    for worker in known:
        yield from _judge(worker, worker in alive, answering, now - worker.seen_at, settings)
    yield from _foreign(alive)
    if differs := other_bucket(alive, settings.artifacts_url):
        yield Finding("workers", "problem", *differs)
    elif moved:
        yield Finding("workers", "warning", *moved)
    yield from _unserved(alive)


def answers(settings: Settings, names: Sequence[str]) -> set[str] | None:
    """The workers that answer the doctor within a second."""
    return answering_through(make_quick_app(settings), names, ANSWER_SECONDS)


def answering_through(app: Celery, names: Sequence[str], seconds: float) -> set[str] | None:
    """The workers whose main process answers a ping through the broker in time; None without a broker."""
    try:
        replies = app.control.inspect(names, timeout=seconds, limit=len(names)).ping()
    except BROKER_ERRORS:
        return None
    return set(replies or {})


def _known(settings: Settings) -> tuple[list[Worker], float, tuple[str, str] | None]:
    """(every worker in the database, by name; its time; what is odd of the last run's bucket).

    Looking into a database that isn't there would make it.
    """
    path = sqlite_file(settings.database_url)
    if path and not path.exists():
        return [], 0.0, None
    with contextlib.closing(RunStore(settings.database_url, connect_seconds=CONNECT_SECONDS)) as store:
        workers = sorted(store.workers(), key=lambda worker: worker.name)
        return workers, store.now(), other_than_last(store, settings.artifacts_url)


def _judge(
    worker: Worker, alive: bool, answering: set[str] | None, ago: float, settings: Settings
) -> Iterator[Finding]:
    has = [",".join(worker.queues), *([worker.gpu] if worker.gpu else []), *worker.labels]
    who = f"{worker.name} ({', '.join(has)})"
    if not alive and ago < 0:
        message = f"{who} is gone: its last sign of life is {-ago:.0f} s from now, by a clock that was ahead"
        yield Finding("workers", "note", message)
        return
    if not alive:
        message = f"{who} is gone: silent for {short(ago)}. Its runs go to another worker."
        yield Finding("workers", "note", message, f"ftq workers forget {worker.name}   if it is gone for good")
        return
    if worker.draining:
        yield Finding("workers", "note", f"{who} is stopping")
    elif worker.refused:
        message = f"{who} takes nothing from its broker until somebody corrects that: {worker.refused}"
        yield Finding("workers", "problem", message, f"On {worker.host}: {worker.facts.get('refused_fix', '')}")
    elif answering is not None and worker.name not in answering:
        message = f"{who} is alive by the database, but doesn't answer through this broker"
        theirs = worker.facts.get("broker")
        fix = f"export FTQ_BROKER_URL={theirs}   (as {worker.host} names it)" if theirs else ""
        fix = fix or f"Compare FTQ_BROKER_URL on {worker.host} with this machine's."
        yield Finding("workers", "warning", message, fix)
    elif worker.drained:
        again = f"ftq workers undrain {worker.name}"
        yield Finding("workers", "note", f"{who} is drained: it takes nothing new", again)
    elif worker.waits:
        message = f"{who} waits for its bucket and takes no stage: {worker.waits}"
        yield Finding("workers", "warning", message, f"On {worker.host}: {worker.facts.get('waits_fix', '')}")
    else:
        yield Finding("workers", "ok", f"{who} is alive")
    if worker.lacks and not worker.draining:
        message = f"{worker.name} is of an earlier version of ftq, and drops the stage {', '.join(worker.lacks)}"
        yield Finding("workers", "warning", message, f"Restart it on {worker.host} with this version.")
    yield from _dropped(worker)
    if _has_a_clock_of_its_own(worker, settings) and (worker.name in (answering or ()) or ago < 0):
        late = WORKER_SILENCE if ago > 0 else 0.0  # on a busy machine; an older one may be its last
        yield from compare(worker.name, -ago, settings.lease_seconds, unsure=late)


def _dropped(worker: Worker) -> Iterator[Finding]:
    """What it took from the broker since it was started and couldn't use."""
    if not worker.dropped:
        return
    last = worker.facts["dropped_last"]
    many = f"{worker.name} dropped {plural(worker.dropped, 'message')} that ftq can't use"
    message = f"{many}. The last, from the queue {last['queue']}, {last['why']}: {last['begins']}"
    yield Finding("workers", "warning", message, NEWER_SENDER if OF_THIS_VERSION in last["why"] else OTHER_SENDER)


def _foreign(alive: Sequence[Worker]) -> Iterator[Finding]:
    """Each key of the broker that holds something else, once: all of its workers leave it out."""
    for told in dict.fromkeys(told for worker in alive for told in worker.foreign):
        names = [worker.name for worker in alive if told in worker.foreign]
        leave = "leaves a key out: its" if len(names) == 1 else "leave a key out: their"
        yield Finding("workers", "warning", f"{listed(names)} {leave} broker {told}", ELSEWHERE)


def _has_a_clock_of_its_own(worker: Worker, settings: Settings) -> bool:
    """Whether its signs of life tell of another clock. A database server stamps them with its own."""
    return bool(sqlite_file(settings.database_url)) and worker.host != socket.gethostname()


def _unserved(alive: Sequence[Worker]) -> Iterator[Finding]:
    able = [worker for worker in alive if not (worker.draining or worker.drained)]
    served = served_by(worker for worker in able if not (worker.waits or worker.refused))
    drained = [worker for worker in alive if worker.drained and not worker.draining]
    waiting = served_by(worker for worker in able if worker.waits or worker.refused)
    missing, there = set(NEEDED) - served, "   where the worker is installed" if lacking() else ""
    if drained and not served and not waiting:
        undrain = undraining(missing & served_by(drained), drained)
        message = f"{resting(missing, drained, served | waiting)}: runs are recorded and wait"
        yield Finding("workers", "warning", message, undrain)
        missing -= served_by(drained)
    elif not served and not waiting:
        message = "no worker is up: runs are recorded and wait"
        yield Finding("workers", "warning", message, f"ftq up   (or ftq worker){there}")
        return
    for queue in (one for one in NEEDED if one in missing - waiting):  # those that wait have been told
        undrain = undraining({queue}, drained)
        who = resting({queue}, drained, served | waiting) if undrain else f"no worker serves the queue {queue}"
        message = f"{who}: {'questions' if queue == ASK else 'runs'} wait there"
        yield Finding("workers", "warning", message, undrain or f"ftq worker --queues {queue}{there}")
