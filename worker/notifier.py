"""The notifier: a thread in every worker's main process that tells people what happened to runs and workers.

Every worker has one: the database gives each notice to one of them. What fails is tried again for three days.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from ftq.errors import first_line
from ftq.notify.addresses import Address
from ftq.notify.send import Notice, send
from ftq.store.gateway.webhooks import MOST_TRIES
from ftq.store.store import RunStore

log = logging.getLogger("ftq.notifier")
LOOK_SECONDS = 5.0
STALLED_SECONDS = 600.0  # that a stage waits with no worker to take it
STALLS_EVERY = 12  # turns


class Notifier:
    """Notes runs that stall, and tells each address what it hasn't heard of yet."""

    def __init__(self, store: Callable[[], RunStore], addresses: Sequence[Address]) -> None:
        self._store, self._addresses = store, addresses
        self._begun = set[str]()
        self._turns = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="notifier", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def turn(self, stalled_seconds: float = STALLED_SECONDS) -> int:
        """Look once, and send what is due. Returns how many notices were tried."""
        if self._turns % STALLS_EVERY == 0:
            self._store().note_stalled(stalled_seconds)
        self._turns += 1
        return sum(map(self._tell, self._addresses))

    def _tell(self, address: Address) -> int:
        notices, tried = self._store().notices, 0
        if address.id not in self._begun:
            notices.keep(address.id, address.shown)
            self._begun.add(address.id)
        notices.note(address.id)
        while not self._stop.is_set() and (delivery := notices.take(address.id)):
            error = send(address, Notice(delivery.id, delivery.type.split(".")[2], delivery.body))
            notices.settle(delivery, error)
            if error:
                log.warning("%s, try %s: %s", address.shown, delivery.tries, error)
            if error and delivery.tries in (1, MOST_TRIES):
                notices.say_failed(delivery, address.shown, error)
            tried += 1
        return tried

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                self.turn()
            except Exception as error:  # an unreachable database, a bug: a run isn't harmed by it
                log.warning("notifier: %s", first_line(error))
            self._stop.wait(LOOK_SECONDS)
