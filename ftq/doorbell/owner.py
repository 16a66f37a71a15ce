"""Which database a broker's queues belong to. Its workers say so in the broker, and everybody compares.

A message is an id, and means nothing to another database. So a broker (each of a Redis server's numbered ones) serves
one. The workers renew their word every few seconds: it is forgotten when none has come for a week.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import redis
from celery import Celery

from ftq.errors import UserError
from ftq.queue import BROKER_ERRORS, make_quick_app
from ftq.servers import place_of, sqlite_file
from ftq.settings import Settings
from ftq.store.store import RunStore

# No queue has a `:` in its name, and the rights in docs/security.md hold for what begins so.
OWNER, UP = "cpu:database", "cpu:database.up"
KEPT = 7 * 86_400  # seconds for which an owner without workers is remembered
UP_SECONDS = 60  # seconds after its last word for which a worker counts as up
RENEWED = 15.0  # seconds between two words of a worker
TAKE = "ftq doctor --take-broker"
_WORDS = ("identity", "place", "worker", "since")


@dataclass(frozen=True)
class Owner:
    """A database: what tells it from others, where it is, and which worker has said so since when.

    `up` is a worker of it that has given its word in the last minute; empty if none has.
    """

    identity: str
    place: str
    worker: str = ""
    since: str = ""
    up: str = ""

    @property
    def is_file(self) -> bool:
        return self.place.startswith("sqlite")

    @property
    def who(self) -> str:
        """For people."""
        if self.up:
            return f"{self.place}, whose worker {self.up} is up"
        return f"{self.place}, as worker {self.worker} has said on {self.since}; none of its workers is up"


def of_store(settings: Settings, store: RunStore | None, worker: str = "") -> Owner:
    """The database that these settings name. Without a store it isn't there yet."""
    since = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return Owner(store.identity if store else "", place_of(settings.database_url), worker, since)


@contextlib.contextmanager
def connected(app: Celery) -> Iterator[redis.Redis]:
    """The broker itself."""
    with app.connection_for_write() as connection:
        yield connection.default_channel.client


def read(client: redis.Redis) -> Owner | None:
    """Whose the broker is; None if nobody has said so, or in a way that this ftq can't read."""
    said: Any = client.get(OWNER)
    up: Any = client.get(UP)  # in any case: where something of another type is there, it mustn't be written over
    try:
        words = json.loads(said or b"")
        owner = Owner(**{name: str(words[name]) for name in _WORDS})
    except (ValueError, TypeError, KeyError):
        return None
    return Owner(**{**asdict(owner), "up": up.decode(errors="replace") if up else ""})


def keep(client: redis.Redis, mine: Owner, embedded: bool = False, had: bool = False) -> Owner | None:
    """Say for a worker that the broker is its database's. None if it is; else the other database whose it is.

    It is taken over from one that `may_go`, and from any without workers by a worker whose it was before (`had`).
    """
    owner = read(client)
    if owner and owner.identity != mine.identity and not may_go(owner, mine, embedded) and (owner.up or not had):
        return owner
    if owner is None and not _say(client, mine, only_first=True):
        if read(client):  # another was first
            return keep(client, mine, embedded, had)
        _say(client, mine)  # what stands there is nobody's word
    if owner:
        is_others = owner.identity == mine.identity and owner.up not in ("", mine.worker)  # who may name it otherwise
        _say(client, owner if is_others else mine)
    client.set(UP, mine.worker, ex=UP_SECONDS)
    return None


def take(client: redis.Redis, mine: Owner) -> Owner | None:
    """Give the broker to this database, because a person wants it. The owner if that has a worker up: it stays so."""
    owner = read(client)
    if owner and owner.identity != mine.identity and owner.up:
        return owner
    _say(client, mine)
    return None


def leave(client: redis.Redis, worker: str) -> None:
    """Say that a worker ends. Others of its database say within seconds that they are up."""
    up: Any = client.get(UP)
    if up and up.decode(errors="replace") == worker:
        client.delete(UP)


def may_go(owner: Owner, mine: Owner, embedded: bool) -> bool:
    """Whether a new owner needs nobody's leave: the old one has no worker up, and was made anew at its place.

    The embedded broker is a machine's own.
    """
    return not owner.up and (embedded or owner.place == mine.place)


def other(owner: Owner, mine: Owner, embedded: bool) -> bool:
    """Whether the broker belongs to another database than this one."""
    return owner.identity != mine.identity and not may_go(owner, mine, embedded)


def check(settings: Settings, open_store: Callable[[], RunStore]) -> None:
    """UserError if the broker belongs to another database. One that can't be asked now says nothing.

    A database that isn't there isn't made.
    """
    with contextlib.suppress(*BROKER_ERRORS), connected(make_quick_app(settings)) as client:
        if (owner := read(client)) is None:
            return
        file = sqlite_file(settings.database_url)
        mine = of_store(settings, open_store() if file is None or file.is_file() else None)
        if other(owner, mine, settings.embedded):
            raise UserError(*differs(owner, settings))


def has_worker(client: redis.Redis) -> bool:
    """Whether a worker has said in the last minute that it is up, and takes from this broker."""
    return bool(client.get(UP))


def differs(owner: Owner, settings: Settings) -> tuple[str, str]:
    """(what is wrong, what to type) where the broker is another database's."""
    broker = settings.broker_socket if settings.embedded else place_of(settings.broker)
    mine = place_of(settings.database_url)
    here = f"FTQ_DATABASE_URL isn't set, which means {mine}" if settings.own_database else f"FTQ_DATABASE_URL={mine}"
    message = f"{here}, but the broker {broker} belongs to another database: {owner.who}"
    worker = owner.up or owner.worker
    if owner.is_file:
        fix = f"That is a file on {worker.rpartition('@')[2]}; several machines need PostgreSQL (docs/deploy.md)."
    else:
        fix = f"export FTQ_DATABASE_URL={owner.place}   (as {worker} names it; FTQ_DATABASE_PASSWORD_FILE)"
    alone = "FTQ_BROKER_URL with another number at its end, or unset" if not settings.embedded else "another FTQ_HOME"
    fix += f"\nFor a queue of this database's own: {alone}."
    return message, fix if owner.up else f"{fix}\nIf that database isn't used any more: {TAKE}"


def _say(client: redis.Redis, owner: Owner, only_first: bool = False) -> bool:
    words = {name: getattr(owner, name) for name in _WORDS}
    return bool(client.set(OWNER, json.dumps(words), ex=KEPT, nx=only_first))
