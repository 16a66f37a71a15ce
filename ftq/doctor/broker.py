"""The broker, looked at over the same connection that ftq sends with."""

from __future__ import annotations

import socket
import stat
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from ipaddress import ip_address
from typing import Any

import kombu.transport.redis  # noqa: F401  loaded here once: two threads that load it at the same moment could meet
import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from ftq.broker.refusals import refusal
from ftq.doctor.clock import compare, difference
from ftq.doctor.findings import CONNECT_SECONDS, Finding
from ftq.doorbell import away, keys, owner
from ftq.errors import Unavailable
from ftq.queue import BROKER_ERRORS, check, make_quick_app
from ftq.servers import sqlite_file, without_password
from ftq.settings import Settings
from ftq.store.records import QUEUES, STAGE_QUEUES, labelled
from ftq.store.store import RunStore

PINGS = 5
SLOW_MS = 50.0
OLDEST = (6, 2)  # earlier ones don't know commands that redis-py sends


def broker(settings: Settings) -> Iterator[Finding]:
    shown = str(settings.broker_socket) if settings.embedded else without_password(settings.broker_url)
    try:
        with owner.connected(make_quick_app(settings)) as client:
            yield from _look(client, shown, settings)
            others = keys.foreign(client)
        yield from (Finding("broker", "problem", f"{shown} {one.told}", one.fix(settings)) for one in others)
        yield from () if others else _takes(settings)
    except BROKER_ERRORS as error:
        yield _refused(error, shown, settings)


def _refused(error: BaseException, shown: str, settings: Settings) -> Finding:
    """What a broker that can't be used is or does."""
    why = refusal(error)
    if why.fix:
        return Finding("broker", "problem", f"{shown} {why.what} ({why.words})", why.fix)
    theirs = _theirs(settings)
    if settings.embedded:
        message = f"{away.UNSET}, and this machine's own broker isn't running ({shown})"
        fix = theirs or "ftq up   (or set FTQ_BROKER_URL to a server)"
        return Finding("broker", "warning", message, fix)
    fix = theirs or "Start it, or set FTQ_BROKER_URL to where it is."
    return Finding("broker", "problem", f"{shown} {why.what} ({why.words})", f"{fix} Runs submitted now are recorded.")


def _theirs(settings: Settings) -> str:
    """What to type for the broker of the workers that are up; empty where they have no other."""
    try:
        with _database(settings) as store:
            workers = store.workers() if store else []
    except Unavailable:
        return ""
    return away.advice(settings, workers) if away.broker_of(workers, settings) else ""


@contextmanager
def _database(settings: Settings) -> Iterator[RunStore | None]:
    """The database; None where there isn't one yet, for opening it would make it."""
    file = sqlite_file(settings.database_url)
    if file and not file.exists():
        yield None
        return
    with closing(RunStore(settings.database_url, connect_seconds=CONNECT_SECONDS)) as store:
        yield store


def _takes(settings: Settings) -> Iterator[Finding]:
    """Whether it takes what `ftq submit` sends. A replica and a full server answer every other question."""
    try:
        check(make_quick_app(settings))
    except Unavailable as error:
        yield Finding("broker", "problem", f"{error.message}, so it takes no run", error.hint)


def _look(client: redis.Redis, shown: str, settings: Settings) -> Iterator[Finding]:
    yield _latency(client, shown)
    if (info := _allowed(client.info)) is None:
        message = "not allowed to look at version, persistence and eviction (INFO)"
        yield Finding("broker", "note", message, "ACL SETUSER ... +info lets the doctor see them.")
    else:
        for judge in (_version, _persistence, _eviction):
            yield judge(info)
    if settings.broker.startswith("redis+socket"):
        yield from _socket(settings)
    else:
        yield from _network(client)
    yield from _clock(client)


def _latency(client: redis.Redis, shown: str) -> Finding:
    times = [_milliseconds(client.ping) for _ in range(PINGS)]
    middle = statistics.median(times)
    slow = middle > SLOW_MS
    fix = "Put broker and workers into one network." if slow else ""
    return Finding("broker", "warning" if slow else "ok", f"{shown} answers in {middle:.1f} ms", fix)


def _milliseconds(action: Callable[[], Any]) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def _allowed(action: Callable[[], Any]) -> Any:
    """The server's answer; None if the user's ACL forbids the question."""
    try:
        return action()
    except NoPermissionError:
        return None


def _version(info: dict[str, Any]) -> Finding:
    name = "Valkey" if "valkey_version" in info else "Redis"
    number = str(info.get("valkey_version") or info.get("redis_version", "0"))
    old = tuple(int(part) for part in number.split(".")[:2] if part.isdigit()) < OLDEST
    fix = "Valkey 8 or Redis 7 is what ftq is tested with." if old else ""
    return Finding("broker", "warning" if old else "ok", f"{name} {number}{' is old' if old else ''}", fix)


def _persistence(info: dict[str, Any]) -> Finding:
    if not info.get("aof_enabled"):
        message = "no append-only file: a restart forgets the messages, and runs wait until they are sent again"
        return Finding("broker", "warning", message, "CONFIG SET appendonly yes   (and in its configuration file)")
    if info.get("aof_last_write_status", "ok") != "ok":
        return Finding("broker", "problem", "the append-only file can't be written", "Make room on the broker's disk.")
    return Finding("broker", "ok", "append-only file on")


def _eviction(info: dict[str, Any]) -> Finding:
    policy, most = info.get("maxmemory_policy", "noeviction"), int(info.get("maxmemory", 0))
    if policy != "noeviction":
        message = f"maxmemory-policy {policy}: a full memory throws messages away"
        fix = "CONFIG SET maxmemory-policy noeviction   (and in its configuration file)"
        return Finding("broker", "problem", message, fix)
    if most and int(info.get("used_memory", 0)) > 0.9 * most:
        message = f"its memory is nearly full: {int(info['used_memory']) / 1e6:.0f} of {most / 1e6:.0f} MB"
        return Finding("broker", "warning", message, "CONFIG SET maxmemory 0   (or more than it is)")
    return Finding("broker", "ok", "maxmemory-policy noeviction")


def _socket(settings: Settings) -> Iterator[Finding]:
    path = settings.broker_socket
    if settings.embedded and stat.S_IMODE(path.stat().st_mode) & 0o007:
        yield Finding("broker", "problem", f"{path} is open to everybody on this machine", f"chmod 700 {path}")


def _network(client: redis.Redis) -> Iterator[Finding]:
    """Who can reach the broker: whoever may write to it can start runs' stages and stop workers."""
    pool = client.connection_pool
    options, encrypted = pool.connection_kwargs, issubclass(pool.connection_class, redis.SSLConnection)
    near = _is_loopback(str(options["host"]))
    if _answers_anybody(client):
        message = f"{options['host']} asks for no password: whoever reaches it can stop workers and read run ids"
        fix = "Start it with --requirepass or an ACL file, and put the password into FTQ_BROKER_URL."
        yield Finding("broker", "warning" if near else "problem", message, fix)
    else:
        yield Finding("broker", "ok", "asks for a password")
    if not near and not encrypted:
        message = "not encrypted: password and messages can be read on the way"
        yield Finding("broker", "note", message, "rediss:// in FTQ_BROKER_URL where the network isn't private.")


def _answers_anybody(client: redis.Redis) -> bool:
    pool = client.connection_pool
    secret = ("username", "password", "credential_provider", "retry")
    options = {name: value for name, value in pool.connection_kwargs.items() if name not in secret}
    nobody = redis.ConnectionPool(pool.connection_class, **options, retry=Retry(NoBackoff(), 0))
    try:
        return bool(redis.Redis(connection_pool=nobody).ping())
    except redis.RedisError:
        return False
    finally:
        nobody.disconnect()


def whose(settings: Settings) -> Iterator[Finding]:
    """Whether its workers use this process's database: a check of its own, since the database may hang."""
    with suppress(*BROKER_ERRORS), owner.connected(make_quick_app(settings)) as client:
        yield from _of_labels(client, settings)
        yield from _whose(client, settings)


def _of_labels(client: redis.Redis, settings: Settings) -> Iterator[Finding]:
    """What holds something else in place of the queues of labels: only the database knows these."""
    with suppress(Unavailable), _database(settings) as store:
        labels = [label for one in store.workers() for label in one.labels] + store.labels_wanted() if store else []
        queues = {labelled(queue, label) for label in labels for queue in STAGE_QUEUES}
        for one in keys.foreign(client, sorted(queues)) if queues else []:
            if one.key not in keys.types(QUEUES):
                yield Finding("broker", "problem", f"the broker {one.told}", one.fix(settings))


def _whose(client: redis.Redis, settings: Settings) -> Iterator[Finding]:
    try:
        whose = owner.read(client)
    except NoPermissionError:
        fix = "docs/security.md has the rights that each part needs."
        yield Finding("broker", "note", "not allowed to look which database its workers use (GET)", fix)
        return
    try:
        with _database(settings) as store:
            mine = owner.of_store(settings, store)
            deaf = away.deaf(settings, store.workers()) if store and not (whose and whose.up) else None
    except Unavailable:
        return  # what is wrong with it stands at the database
    if whose and owner.other(whose, mine, settings.embedded):
        yield Finding("broker", "problem", *owner.differs(whose, settings))
    elif deaf:
        yield Finding("broker", "problem", *deaf)
    elif whose and whose.identity == mine.identity:
        yield Finding("broker", "ok", "belongs to this database")


def _is_loopback(host: str) -> bool:
    try:
        addresses = socket.getaddrinfo(host, None)
    except OSError:
        return False
    return all(ip_address(str(address[4][0]).partition("%")[0]).is_loopback for address in addresses)


def _clock(client: redis.Redis) -> Iterator[Finding]:
    if _allowed(client.time) is None:
        yield Finding("clock", "note", "not allowed to look at the broker's clock (TIME)", "ACL SETUSER ... +time")
        return
    ahead, unsure = difference(lambda: _seconds(client.time()))
    yield from compare("the broker", ahead, unsure=unsure)


def _seconds(answer: Any) -> float:
    seconds, microseconds = answer
    return float(seconds) + float(microseconds) / 1e6
