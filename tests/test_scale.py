"""Many runs and many workers: who looks through the broker, how often, and that all of them are done in order."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import scale
from benchmarks.drill_machine import Machine
from ftq import queue
from ftq.files.run_dir import STAGES
from ftq.settings import Settings
from ftq.store import workers
from ftq.store.store import RunStore
from tests.test_store import Clock, clock, store, url
from worker.reconciler import Reconciler

__all__ = ["clock", "store", "url"]  # fixtures


def see(store: RunStore, *names: str) -> None:
    for name in names:
        store.see_worker(name, "host", ["cpu"], None, 1)


def test_among_many_workers_one_at_a_time_looks_through_the_broker(store: RunStore, clock: Clock) -> None:
    names = [f"w{number}" for number in range(5)]
    see(store, *names[: workers.FEW])
    assert all(store.may_look(name) for name in names[: workers.FEW])
    lookers = []
    for _ in names:
        see(store, *names)
        now = [name for name in names if store.may_look(name)]
        assert len(now) == 1
        clock.now += workers.LOOKING / 2
        see(store, *names)
        assert [name for name in names if store.may_look(name)] in (now, [names[(names.index(now[0]) + 1) % 5]])
        clock.now += workers.LOOKING / 2
        lookers += now
    assert sorted(lookers) == names, "each has its minute"
    clock.now += workers.WORKER_SILENCE + 1
    see(store, "w3")
    assert store.may_look("w3"), "who is silent has none"


def test_a_look_that_took_long_is_followed_by_a_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(tmp_path, f"redis+socket://{tmp_path}/nobody.sock", f"sqlite:///{tmp_path}/ftq.db")
    reconciler, looks = Reconciler(settings, "w1", ["cpu"]), list[float]()
    reconciler.store.create("abc", "abc", {"model": "m", "priority": "normal"}, "hash")
    monkeypatch.setattr(reconciler, "grace", -10.0)
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def look(used: float) -> None:
        spent = iter([0.0, used])
        monkeypatch.setattr(time, "thread_time", lambda: next(spent))
        monkeypatch.setattr(reconciler, "_sent", lambda: looks.append(clock[0]) or set())
        reconciler.reconcile()

    for used in (0.001, 0.2, 0.2, 9.0):
        look(used)
    assert looks == [100, 100], "20 s of rest for 0.2 s of work"
    for after, used in ((19.9, 1), (0.2, 9.0), (24.8, 1), (0.3, 0.001)):
        clock[0] += after
        look(used)
    assert [round(at, 1) for at in looks[2:]] == [120.1, 145.2], "but 25 s at most"
    reconciler.store.close()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path / "artifacts", "benchmarks.scale_worker", FTQ_LEASE_SECONDS="60")
    machine.start_broker()
    yield machine
    machine.close()


@pytest.mark.slow
def test_the_id_of_a_message_is_where_it_is_looked_for(machine: Machine) -> None:
    """Else it is still found, but six times slower: Celery writes its messages in another way now."""
    scale.fill(machine, 3)
    with machine.client._doorbell.app.connection_for_read() as connection:
        client = connection.default_channel.client
        raw = [text for key in client.keys("cpu*") for text in client.lrange(key, 0, -1)]
    read = [json.loads(text)["headers"]["id"] for text in raw]
    usual = [queue._ID.search(text) for text in raw]
    assert [found and found[1].decode() for found in usual] == read and len(read) == 3


@pytest.mark.long
def test_all_runs_are_done_once_and_by_priority(machine: Machine) -> None:
    found = scale.through(machine, 40, 3)
    assert (found["succeeded"], found["claims"], found["stages done"]) == (40, 40 * len(STAGES), 40 * len(STAGES))
    assert found["begun before one of a higher priority, share of pairs"] < 0.05
