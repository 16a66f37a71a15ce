"""Keys of the broker that hold something of another type, as a worker meets them: left out, told, and asked again.

What a key of ftq's should have held is only a notice of work: the database has it, and it is sent again.
"""

from __future__ import annotations

import logging
import threading
import time

import redis

from ftq.doorbell import keys
from ftq.settings import Settings
from ftq.store.records import QUEUES

log = logging.getLogger("ftq.worker")
AGAIN_SECONDS = 3.0  # after which it is looked whether a key is free again


class Foreigners:
    """Those that this process knows of."""

    def __init__(self) -> None:
        self._queues, self._known, self._looked = set(QUEUES), dict[str, keys.Foreign](), 0.0
        self._lock = threading.Lock()  # the worker's loop and the reconciler look

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def __len__(self) -> int:
        return len(self._known)

    @property
    def is_due(self) -> bool:
        """Whether there are some at which nobody has looked for a while."""
        return bool(self._known) and time.monotonic() - self._looked >= AGAIN_SECONDS

    def look(self, client: redis.Redis, *queues: str) -> None:
        """Look at all keys, those of these queues from now on too, and tell what has changed."""
        with self._lock:
            self._queues.update(queues)
            there = {one.key: one for one in keys.foreign(client, sorted(self._queues))}
            before, self._known, self._looked = self._known, there, time.monotonic()
        for key in sorted(there.keys() - before.keys()):
            fix = there[key].fix(Settings.from_env())
            log.error("the broker %s: it is left out, and everything else goes on.\n%s", there[key].told, fix)
        for key in sorted(before.keys() - there.keys()):
            log.warning("the broker's key %s is free for ftq again", before[key].shown)

    def facts(self) -> dict[str, object]:
        """{"foreign": what is told of each}; empty without any."""
        told = [one.told for one in self._known.values()]
        return {"foreign": told} if told else {}


foreigners = Foreigners()  # of this process
