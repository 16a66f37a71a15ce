"""The keys that ftq and kombu use in the broker, and what holds something of another type in their place.

Somebody else's data: it is named, with what to type, and never deleted.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import redis

from ftq.doorbell.owner import OWNER, UP
from ftq.queue import lists_of
from ftq.servers import place_of
from ftq.settings import Settings
from ftq.store.records import QUEUES

_EXCHANGES = ("celery.pidbox", "reply.celery.pidbox", "celeryev")  # of calls to workers, and of their events
_OTHERS = {
    "_kombu.binding_deadlines": "zset",
    "unacked": "hash",
    "unacked_index": "zset",
    "unacked_mutex": "string",
    OWNER: "string",
    UP: "string",
}
_CALLED = {"zset": "sorted set"}


@dataclass(frozen=True)
class Foreign:
    """A key that holds another type than ftq's."""

    key: str
    holds: str
    wanted: str

    @property
    def shown(self) -> str:
        """The key, for people: those of a queue's priorities have control characters in them."""
        return ascii(self.key)[1:-1]

    @property
    def told(self) -> str:
        """What is wrong, after `the broker`."""
        holds, wanted = (_CALLED.get(name, name) for name in (self.holds, self.wanted))
        return f"holds a {holds} under the key {self.shown}, where ftq has a {wanted}"

    def fix(self, settings: Settings) -> str:
        """What to type to get it out of the way."""
        key = _quoted(self.key)
        moved = f"{_client(settings)} RENAMENX {key} {_quoted(f'foreign:{self.key}')}"
        return f"{moved}   (or DEL {key}, if nobody needs it). All goes on by itself then."


def foreign(client: redis.Redis, queues: Iterable[str] = QUEUES) -> list[Foreign]:
    """Those of the keys with these queues that hold something of another type.

    One that this user may not look at isn't among them.
    """
    wanted = types(queues)
    with client.pipeline(transaction=False) as asked:
        for key in wanted:
            asked.type(key)
        answers: list[Any] = asked.execute(raise_on_error=False)
    held = {key: answer.decode() for key, answer in zip(wanted, answers, strict=True) if isinstance(answer, bytes)}
    return [
        Foreign(key, held[key], is_a) for key, is_a in wanted.items() if held.get(key, "none") not in ("none", is_a)
    ]


def types(queues: Iterable[str]) -> dict[str, str]:
    """{key: the type that Redis calls it} of all keys that ftq and kombu may use, with these queues."""
    queues = list(queues)
    lists = dict.fromkeys(lists_of(queues), "list")
    tables = ("_kombu.binding", "_kombu.binding_permanent")
    return lists | {f"{table}.{name}": "set" for name in (*queues, *_EXCHANGES) for table in tables} | _OTHERS


def _client(settings: Settings) -> str:
    """redis-cli with what it needs to get there, the password aside."""
    if settings.embedded:
        return f"redis-cli -s {shlex.quote(str(settings.broker_socket))}"
    url = place_of(settings.broker_url)
    return f"redis-cli -u {shlex.quote(url)}" + (" --askpass" if place_of(url) != settings.broker_url else "")


def _quoted(key: str) -> str:
    return shlex.quote(key) if key.isprintable() else f"$'{ascii(key)[1:-1]}'"
