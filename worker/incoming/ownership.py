"""Whose the broker is, as a worker says and hears it: from one that is another database's it takes nothing."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable

from ftq.doorbell import away, owner
from ftq.errors import UserError
from ftq.queue import BROKER_ERRORS, make_quick_app
from ftq.settings import Settings
from ftq.store.store import RunStore
from worker.incoming.foreign import foreigners

log = logging.getLogger("ftq.worker")
RESTART = "Then restart this worker, which has read that as it started; corrected on the server, it goes on by itself."


class Ownership:
    """Says in the broker, again and again, that it is this worker's database's.

    `other` is the database whose it is instead, `refused` why the broker takes nothing of this worker until somebody
    corrects that; None where there is nothing of the kind.
    """

    def __init__(self, settings: Settings, worker: str, open_store: Callable[[], RunStore]) -> None:
        self._settings, self._worker, self._open_store = settings, worker, open_store
        self._app = make_quick_app(settings)
        self._had_broker, self._due_at = False, 0.0
        self.other: owner.Owner | None = None
        self.refused: UserError | None = None

    def facts(self) -> dict[str, object]:
        """{"refused": why the broker refuses this worker, "refused_fix": what to type}; empty where it doesn't."""
        return {"refused": self.refused.message, "refused_fix": self.refused.hint} if self.refused else {}

    def renew(self) -> None:
        """Say it once more if that is due. By the same connection it is looked what holds something of another type."""
        if time.monotonic() < self._due_at:
            return
        self._due_at = time.monotonic() + owner.RENEWED
        mine = owner.of_store(self._settings, self._open_store(), self._worker)
        try:
            with owner.connected(self._app) as client:
                foreigners.look(client)
                other = owner.keep(client, mine, self._settings.embedded, self._had_broker)
        except BROKER_ERRORS as error:
            self._note_refusal(away.refused(error, self._settings))
            return
        if self.refused:
            log.warning("the broker lets this worker in again")
        self.refused = None
        if other and (self.other is None or other.identity != self.other.identity):
            log.error("%s. Nothing is taken from it.\n%s", *owner.differs(other, self._settings))
        elif self.other and not other:
            log.warning("the broker belongs to this worker's database again: work is taken")
        self.other, self._had_broker = other, self._had_broker or other is None

    def leave(self) -> None:
        """Say that this worker ends."""
        with contextlib.suppress(*BROKER_ERRORS), owner.connected(self._app) as client:
            owner.leave(client, self._worker)

    def _note_refusal(self, refused: UserError | None) -> None:
        """Its password may have been changed since the worker was started: a connection that is open lasts longer."""
        before = self.refused
        self.refused = UserError(refused.message, f"{refused.hint} {RESTART}") if refused else None
        if self.refused and not before:
            message = "%s: nothing is taken from it until somebody corrects that, there or here.\n%s"
            log.error(message, self.refused.message, self.refused.hint)
