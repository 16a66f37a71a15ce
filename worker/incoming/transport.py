"""kombu's Redis transport, for a worker that outlasts whatever lies in the broker.

It stands on names of kombu's that aren't public: tests/test_garbage.py says when another version has others.
"""

from __future__ import annotations

from typing import Any

from celery.app.amqp import AMQP
from kombu.connection import Connection, ConnectionPool, PooledConnection
from kombu.exceptions import OperationalError
from kombu.transport import redis

from ftq.queue import BROKER_ERRORS
from worker.incoming import message as messages
from worker.incoming.channel import Tolerant
from worker.incoming.dropped import dropped


class FellOver(OperationalError):
    """Celery raised at a message that looked sound: the worker connects anew, which tidies up what Celery began."""


class _Channel(Tolerant):
    def _create_client(self, asynchronous: bool = False) -> Any:
        client = super()._create_client(asynchronous)
        if asynchronous:  # the client that takes messages
            client.set_response_callback("BRPOP", _taken)
        return client

    def _handle_message(self, client: Any, answer: Any) -> dict[str, Any]:
        payload: dict[str, Any] = super()._handle_message(client, answer)
        data = payload["data"]
        if isinstance(data, bytes) and (why := messages.undeliverable(data)):
            dropped.add(why, payload["channel"].decode(errors="replace"), data)
            payload["data"] = None  # kombu skips it
        return payload


def _taken(answer: Any) -> tuple[bytes, bytes] | None:
    """(queue, message), or None where there was none that a worker can use: kombu asks again."""
    if not answer:
        return None
    key, raw = answer
    if why := messages.unusable(raw):
        queue = key.decode(errors="replace").partition(redis.Channel.sep)[0]
        dropped.add(why, queue, raw)
        return None
    return key, raw


class _Transport(redis.Transport):
    Channel = _Channel

    def _deliver(self, message: Any, queue: str) -> None:
        """Hand a task's message to the worker, or one that went to all workers."""
        try:
            super()._deliver(message, queue)
        except BROKER_ERRORS:
            raise
        except Exception as error:
            dropped.add(f"{messages.FELL_OVER} ({type(error).__name__})", queue, message)
            for channel in self.channels:  # whichever took it: nobody puts it back
                channel.basic_ack(message["properties"]["delivery_tag"])
            raise FellOver(str(error)) from error


class _Connection(Connection):
    def get_transport_cls(self) -> type[_Transport]:
        return _Transport

    def Pool(self, limit: int | None = None, **options: Any) -> _Pool:
        return _Pool(self, limit, **options)


class _Sending(redis.Transport):
    """What Flower's calls are answered through too: nothing is left out of that."""

    Channel = Tolerant


class _PooledConnection(PooledConnection):
    def get_transport_cls(self) -> type[_Sending]:
        return _Sending


class _Pool(ConnectionPool):
    """Of connections to send with."""

    def new(self) -> _PooledConnection:
        return _PooledConnection(self, **dict(self.connection._info(resolve=False)))


class Incoming(AMQP):  # type: ignore[misc]
    """For Celery's app: its connections are those of this module."""

    Connection = _Connection
