"""The reconciler's threads: a worker that starts or stops while its broker or database is unreachable, or hangs."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftq.errors import Unavailable
from ftq.settings import Settings
from ftq.store.store import RunStore
from tests.tools import until
from worker.reconciler import Reconciler


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path, f"redis+socket://{tmp_path}/nobody.sock", f"sqlite:///{tmp_path}/ftq.db",
                    lease_seconds=0.6, grace_seconds=1.0)  # fmt: skip


@pytest.fixture
def started(settings: Settings) -> Iterator[Callable[..., Any]]:
    """started(trouble): a worker's main process, its reconciler prepared by `trouble`."""
    processes = []

    def start(trouble: Callable[[Reconciler], None] = lambda _: None) -> Any:
        process = multiprocessing.get_context("fork").Process(target=_work, args=(settings, trouble))
        processes.append(process)
        process.start()
        until((settings.home / "started").exists)
        return process

    yield start
    for process in processes:
        process.kill()
        process.join()


def _work(settings: Settings, trouble: Callable[[Reconciler], None]) -> None:
    reconciler = Reconciler(settings, "w1", ["cpu"])
    signal.signal(signal.SIGTERM, lambda *_: reconciler.drain())
    trouble(reconciler)
    reconciler.start()
    (settings.home / "started").touch()
    threading.Event().wait()  # Celery's main thread, which a broker that hangs holds


def test_a_worker_says_that_it_stops_whatever_its_loop_waits_for_and_ends_when_the_grace_is_over(
    settings: Settings, started: Callable[..., Any]
) -> None:
    store = RunStore(settings.database_url)

    def hang(reconciler: Reconciler) -> None:
        reconciler.reconcile = lambda: threading.Event().wait()  # type: ignore

    process = started(hang)
    until(store.live_workers)
    process.terminate()
    until(lambda: not store.live_workers())
    assert [worker.name for worker in store.workers()] == ["w1"]  # it drains, it wasn't forgotten
    process.join()
    assert process.exitcode == 1
    store.close()


def test_a_worker_that_starts_while_its_database_is_unreachable_gives_signs_of_life_as_soon_as_it_is_back(
    settings: Settings, tmp_path: Path, started: Callable[..., Any]
) -> None:
    away = tmp_path / "ftq.db"
    away.mkdir()
    process = started()
    with pytest.raises(Unavailable):
        RunStore(settings.database_url)
    away.rmdir()
    store = RunStore(settings.database_url)
    until(store.live_workers)
    assert process.is_alive()
    store.close()


def test_a_worker_that_stops_says_so_until_the_database_has_heard_it(
    settings: Settings, started: Callable[..., Any]
) -> None:
    store, away = RunStore(settings.database_url), [Unavailable("the server is starting")]

    def flaky(reconciler: Reconciler) -> None:
        real = reconciler.store.drain_worker

        def drain_worker(worker: str, draining: bool) -> None:
            if draining and away:
                raise away.pop()
            real(worker, draining)

        reconciler.store.drain_worker = drain_worker  # type: ignore[method-assign]

    process = started(flaky)
    until(store.live_workers)
    process.terminate()
    until(lambda: not store.live_workers())
    store.close()


def test_runs_that_the_broker_never_had_are_sent_in_the_order_of_the_submits(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those are which were submitted before a broker was up."""
    reconciler, sent = Reconciler(settings, "w1", ["cpu"]), list[str]()
    names = [f"{number * 7 % 10}{number}" for number in range(10)]
    for name in names:
        reconciler.store.create(name, name, {"model": "m", "priority": "normal"}, "hash")
    monkeypatch.setattr(reconciler, "grace", -10.0)
    monkeypatch.setattr(reconciler, "_sent", set)
    monkeypatch.setattr("worker.reconciler.queue.send", lambda app, run: sent.append(run.id) or True)
    for _ in range(2):
        monkeypatch.setattr(reconciler, "_look_at", 0.0)
        reconciler.reconcile()
    assert sent == names
    reconciler.store.close()
