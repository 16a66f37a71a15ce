"""Machines that share nothing but a database, a broker and a bucket: two artifacts folders, with workers of their own."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.drill_machine import Machine
from ftq.store.records import Run
from tests.bucket_server import BucketServer
from tests.tools import Bench, until

pytestmark = pytest.mark.slow
LEASE = 3.0


class Site:
    """A bucket, a broker, a database, and machines that share nothing else; `here` is that of the person."""

    def __init__(self, folder: Path, bucket: str) -> None:
        self.folder, self.bucket = folder, BucketServer(bucket)
        self.journal = folder / "journal.jsonl"
        self.here = self.machine("here", Bench)
        self.here.start_broker()
        self.broker = f"redis+socket://{self.here.settings.broker_socket}?virtual_host=0"

    def machine(self, name: str, kind: type[Any] = Machine, **environment: str) -> Any:
        home = self.folder / name / "artifacts"
        wanted = {
            "FTQ_DATABASE_URL": f"sqlite:///{self.folder}/shared.db",
            "FTQ_JOURNAL": str(self.journal),
            "FTQ_LEASE_SECONDS": str(LEASE),
            **self.bucket.environment,
            **environment,
        }
        if hasattr(self, "broker"):
            wanted["FTQ_BROKER_URL"] = self.broker
        return kind(home, "tests.fake_worker", **wanted)

    def started(self) -> Counter[tuple[str, str]]:
        names = {run.id: run.name for run in self.here.client.all()}
        lines = map(json.loads, self.journal.read_text().splitlines())
        return Counter((names[line["run"]], line["stage"]) for line in lines if line["event"] == "start")

    def kinds(self, run: Run) -> list[tuple[str | None, str]]:
        return [(event.stage, event.kind) for event in self.here.client.store.events(run.id)]

    def wait_for_all(self, seconds: float = 60) -> None:
        until(lambda: all(run.is_finished for run in self.here.client.all()), seconds)
        assert {run.name: run.status for run in self.here.client.all()} == {
            run.name: "succeeded" for run in self.here.client.all()
        }


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    site = Site(tmp_path, f"b{os.getpid()}-{tmp_path.name[-20:].strip('-_').lower().replace('_', '-')}")
    for name, value in site.bucket.environment.items():
        monkeypatch.setenv(name, value)
    machines = list[Machine]()
    make = site.machine

    def remember(*arguments: Any, **named: Any) -> Any:
        machines.append(make(*arguments, **named))
        return machines[-1]

    site.machine = remember  # type: ignore[method-assign]
    yield site
    for machine in machines:
        machine.close()
    site.here.close()
    site.bucket.close()


def test_a_run_goes_through_a_machine_that_shares_nothing(site: Site) -> None:
    run = site.here.submit("one")
    far = site.machine("far")
    far.start_worker(name="far1")
    site.wait_for_all()
    assert site.kinds(run)[-1] == (None, "x")
    assert site.bucket.keys() == []
