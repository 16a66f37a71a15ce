"""The broker as a client uses it: to send with, once it is known that its workers use the same database."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from ftq.doorbell import away
from ftq.errors import Refused, Unavailable
from ftq.programs import lacking
from ftq.settings import Settings
from ftq.store.records import Run
from ftq.store.store import RunStore

if TYPE_CHECKING:
    from celery import Celery

CLIENT_ALONE = "Only the client is installed here: `ftq doctor` says how it finds broker and workers."
IN_DOCKER = "Where the workers run in Docker, `docker compose run --rm cli` takes the place of `ftq`."
CHECKED_SECONDS = 60.0  # for which a broker that belongs to this database isn't asked again


class Doorbell:
    """The broker, as a client uses it."""

    def __init__(self, settings: Settings, open_store: Callable[[], RunStore]) -> None:
        self._settings, self._open_store, self._checked = settings, open_store, -CHECKED_SECONDS

    def check(self) -> None:
        """UserError if the broker's workers use another database: nobody would take what is sent from here."""
        from ftq.doorbell import owner

        if time.monotonic() - self._checked >= CHECKED_SECONDS:
            owner.check(self._settings, self._open_store)
            self._checked = time.monotonic()

    def take(self) -> None:
        """Give the broker to this database. Refused while another one has workers up; Unavailable without a broker."""
        from ftq.doorbell import owner
        from ftq.queue import explained

        mine = owner.of_store(self._settings, self._open_store(), f"doctor@{socket.gethostname()}")
        with explained(), owner.connected(self.app) as client:
            whose = owner.take(client, mine)
        if whose:
            raise Refused(f"the broker belongs to {whose.who}", "Stop all of its workers and wait a minute.")

    def deliver(self, run: Run) -> str:
        """Send the run's remaining stages. A note for the person if the broker takes nothing."""
        from ftq.queue import deliver

        try:
            deliver(self.app, run)
        except Unavailable as error:
            when = "it takes messages" if error.hint else "it is there"
            recorded = f"The run is recorded and starts as soon as {when}."
            return f"T{error.message[1:]}. {recorded} {error.hint or self.no_broker()}"
        return ""

    def ring(self, question: str) -> None:
        """Send a question's id. Unavailable if the broker doesn't take it."""
        from ftq.queue import send_question

        send_question(self.app, question)

    def no_broker(self) -> str:
        """What to do when none answers."""
        workers = self._open_store().workers()
        fix = away.advice(self._settings, workers)
        if not self._settings.embedded or away.broker_of(workers, self._settings):
            return fix
        if lacking():
            return f"{away.UNSET}. {CLIENT_ALONE}"
        return f"{fix} {IN_DOCKER}" if self._settings.own_database else fix

    @cached_property
    def app(self) -> Celery:
        from ftq.queue import make_app  # celery takes 0.2 s to import: only for commands that send

        app = make_app(self._settings)
        app.database = self._open_store().identity
        # A person waits: report an unreachable broker within five seconds. The run is recorded anyway.
        app.conf.task_publish_retry_policy = {"max_retries": 0}
        app.conf.broker_transport_options |= {"max_retries": 0, "socket_connect_timeout": 1.5, "socket_timeout": 2.5}
        return app
