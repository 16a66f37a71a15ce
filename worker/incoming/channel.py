"""kombu's Redis channel, which goes on where a key holds something of another type: without that key, until it is free.

It stands on names of kombu's that aren't public: tests/test_foreign_keys.py says when another version has others.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any

from kombu.transport import redis, virtual
from redis.exceptions import ResponseError

from ftq.queue import BROKER_ERRORS, is_foreign
from ftq.store.records import QUEUES
from worker.incoming import message as messages
from worker.incoming.dropped import dropped
from worker.incoming.foreign import foreigners


class _QoS(redis.QoS):
    """Notes in the broker what is handed out. Where it can't, the database knows it all the same."""

    def append(self, message: Any, delivery_tag: Any) -> None:
        with self.channel.tolerant():
            super().append(message, delivery_tag)
            return
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: Any) -> None:
        with self.channel.tolerant():
            super().ack(delivery_tag)
            return
        virtual.QoS.ack(self, delivery_tag)

    def reject(self, delivery_tag: Any, requeue: bool = False) -> None:
        with self.channel.tolerant():
            super().reject(delivery_tag, requeue)
            return
        virtual.QoS.ack(self, delivery_tag)

    def restore_visible(self, *arguments: Any, **options: Any) -> None:
        with self.channel.tolerant():
            super().restore_visible(*arguments, **options)

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """Put a message back that a worker took long ago and never acknowledged."""
        try:
            with self.channel.tolerant():
                super().restore_by_tag(tag, client, leftmost)
        except BROKER_ERRORS:
            raise
        except Exception:
            dropped.add(messages.NO_MESSAGE, self.unacked_key, tag)
            self._remove_from_indices(tag).execute()


class Tolerant(redis.Channel):
    QoS = _QoS
    _asked: tuple[str, ...] = ()  # the lists from which a message is waited for

    @contextmanager
    def tolerant(self) -> Iterator[None]:
        """Go on after the block where a key of another type forbids what it does."""
        try:
            yield
        except ResponseError as error:
            if not is_foreign(error):
                raise
            self._look()

    def _look(self) -> None:
        with self.conn_or_acquire() as client:
            foreigners.look(client, *self.active_queues)

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Ask for a message from all lists of the queues but those in whose place there is something else."""
        if foreigners.is_due:
            self._look()
        lists = [self._q_for_pri(queue, step) for step in self.priority_steps for queue in self.active_queues]
        self._asked = tuple(key for key in lists if key not in foreigners)
        if len(self._asked) == len(lists):
            super()._brpop_start(timeout)
        elif self._asked:
            connection, self._brpop_sent_at = self.client.connection, time.monotonic()  # type: ignore[assignment]
            self._in_poll = connection
            connection.send_command("BRPOP", *self._asked, timeout or self.brpop_timeout or 0)

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except ResponseError as error:
            if not is_foreign(error):
                raise
            self._look()
            if not any(key in foreigners for key in self._asked):  # gone again, or this user may not look at types
                raise
        raise Empty()

    def _size(self, queue: str) -> int:
        with self.tolerant():
            return int(super()._size(queue))
        return 0

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        with self.tolerant():
            super()._queue_bind(exchange, routing_key, pattern, queue)

    def _refresh_bindings(self, queues: list[str]) -> None:
        with self.tolerant():
            super()._refresh_bindings(queues)

    def sweep_bindings(self, limit: int = 100) -> int:
        with self.tolerant():
            return int(super().sweep_bindings(limit))
        return 0

    def get_table(self, exchange: str) -> list[tuple[str, ...]]:
        """What is bound to an exchange; to one of ftq's it is the queue of that name."""
        with self.tolerant():
            return list(super().get_table(exchange))
        return [(exchange, "", exchange)] if exchange.partition(".")[0] in QUEUES else []
