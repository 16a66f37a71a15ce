"""What a worker that lives for weeks may not have more of after each fault: counted, not weighed."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from kombu.asynchronous import Hub

from ftq import queue
from ftq.files.remote.bucket import Bucket, OutOfReach
from tests.bucket_server import BucketServer, own_server
from tests.tools import Bench
from worker.app import QuickConsumer
from worker.incoming.transport import Incoming

AT_ONCE = 8


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BucketServer]:
    with own_server("growth", monkeypatch) as server:
        yield server


def test_threads_that_use_a_bucket_at_once_share_one_client(server: BucketServer) -> None:
    """A client was made for each of them, 14 MB, and kept."""
    before = s3_clients()  # held, so that none of another test goes meanwhile
    bucket, together = Bucket(server.url), threading.Barrier(AT_ONCE)

    def write(number: int) -> None:
        together.wait()
        bucket.write(f"one/{number}", b"x")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(write, range(AT_ONCE)))
    assert len(s3_clients()) - len(before) == 1
    server.stop()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        failed = list(pool.map(lambda number: raises_out_of_reach(bucket, number), range(AT_ONCE)))
    server.start()
    bucket.write("one/more", b"x")
    assert all(failed)
    assert len(s3_clients()) - len(before) == 1


def s3_clients() -> list[Any]:
    from aiobotocore.client import AioBaseClient

    gc.collect()
    return [one for one in gc.get_objects() if issubclass(type(one), AioBaseClient)]  # no proxies


def raises_out_of_reach(bucket: Bucket, number: int) -> bool:
    with pytest.raises(OutOfReach):
        bucket.read(f"one/{number}")
    return True


def test_buckets_share_what_is_known_of_s3(server: BucketServer) -> None:
    """It takes 12 MB: a probe, a worker's questions and its stages each have a bucket."""
    buckets = [Bucket(server.url), Bucket(server.url, patient=False)]
    for bucket in buckets:
        bucket.write("one", b"x")
    known = {id(bucket._fs.session.get_component("data_loader")) for bucket in buckets}
    assert len(known) == 1


def test_a_connection_to_the_broker_that_is_over_is_forgotten(bench: Bench) -> None:
    """kombu leaves its calls in the event loop, and with them all that belongs to it."""
    app, hub = queue.make_app(bench.settings), Hub()
    app.amqp_cls = Incoming
    consumer = QuickConsumer(lambda request: None, app=app, hub=hub, controller=SimpleNamespace(use_eventloop=True))
    calls, transports = list[int](), list[weakref.ref[Any]]()
    for _ in range(4):
        connection = consumer.connect()
        calls.append(len(hub.on_tick))
        transports.append(weakref.ref(connection.transport))
        connection.close()
        hub.reset()
        hub.timer.clear()  # Celery takes its calls out of it
        del connection
    hub.close()
    gc.collect()
    assert calls == [1] * 4
    assert [transport() for transport in transports[:-1]] == [None] * 3
