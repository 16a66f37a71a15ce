"""The broker as a client uses it: to send with, once it is known that its workers use the same database."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from ftq.doorbell import away
from ftq.errors import FtqError, Refused, Unavailable
from ftq.programs import lacking
from ftq.settings import Settings
from ftq.store.records import QUEUES, Run, queue_of
from ftq.store.store import RunStore

if TYPE_CHECKING:
    from celery import Celery

CLIENT_ALONE = "Only the client is installed here: `ftq doctor` says how it finds broker and workers."
IN_DOCKER = "Where the workers run in Docker, `docker compose run --rm cli` takes the place of `ftq`."
CHECKED_SECONDS = 60.0  # for which a broker that belongs to this database isn't asked again


class Doorbell:
    """The broker, as a client uses it."""

    def __init__(self, settings: Settings, open_store: Callable[[], RunStore]) -> None:
        self._settings, self._open_store = settings, open_store
        self._checked = self._heard = -CHECKED_SECONDS

    def check(self) -> None:
        """UserError if the broker's workers use another database: nobody would take what is sent from here."""
        from ftq.doorbell import owner

        if time.monotonic() - self._checked >= CHECKED_SECONDS:
            owner.check(self._settings, self._open_store)
            self._checked = time.monotonic()

    def deaf(self) -> tuple[str, str] | None:
        """(who listens on which broker, what to type) where the workers that are up take from another one.

        A broker that can't be asked now says nothing.
        """
        from ftq.doorbell import owner
        from ftq.queue import BROKER_ERRORS

        if time.monotonic() - self._heard < CHECKED_SECONDS:
            return None
        try:
            with owner.connected(self.app) as client:
                is_heard = owner.has_worker(client)
        except BROKER_ERRORS:
            return None
        other = None if is_heard else away.deaf(self._settings, self._open_store().workers())
        if is_heard:
            self._heard = time.monotonic()
        return other

    def check_heard(self) -> None:
        """FtqError if the workers that are up take from another broker: nobody would hear a question."""
        if other := self.deaf():
            raise FtqError(f"{other[0]}, so nobody can answer", other[1])

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
        """Send the run's remaining stages. A note for the person if the broker takes nothing or nobody listens."""
        from ftq.queue import deliver

        try:
            self._naming(lambda: deliver(self.app, run), *(queue_of(stage.name, run.spec) for stage in run.remaining))
        except Unavailable as error:
            when = "it takes messages" if error.hint else "it is there"
            recorded = f"The run is recorded and starts as soon as {when}."
            return f"T{error.message[1:]}. {recorded} {error.hint or self.no_broker()}"
        if other := self.deaf():
            return f"N{other[0][1:]}: {other[1]}\nThe run is recorded: they find it there, within a minute or two."
        return ""

    def ring(self, question: str) -> None:
        """Send a question's id. Unavailable if the broker doesn't take it."""
        from ftq.queue import send_question

        self._naming(lambda: send_question(self.app, question))

    def _naming(self, send: Callable[[], None], *queues: str) -> None:
        """Send, and name the keys that are in the way where they hold something of another type."""
        from ftq.queue import is_foreign

        try:
            send()
        except Unavailable as error:
            if is_foreign(error) and (named := self._foreign({*QUEUES, *queues})):
                raise Unavailable(*named) from error
            raise

    def _foreign(self, queues: set[str]) -> tuple[str, str] | None:
        """(which keys of the broker hold something else, what to type); None if that can't be told."""
        from ftq.doorbell import keys, owner
        from ftq.queue import BROKER_ERRORS

        try:
            with owner.connected(self.app) as client:
                there = keys.foreign(client, sorted(queues))
        except BROKER_ERRORS:
            return None
        told = "the broker " + ", and ".join(one.told for one in there)
        return (told, "\n".join(one.fix(self._settings) for one in there)) if there else None

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
