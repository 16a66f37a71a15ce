"""The whole queue over each kind of bucket: two machines that share nothing else, while it goes and comes back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftq.files.run_dir import STAGES
from tests import test_object_storage
from tests.ceph_server import CephServer
from tests.cloud_servers import AzureServer, GoogleServer
from tests.test_object_storage import Site
from tests.tools import give_time, until

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning"),
]


@pytest.fixture(params=[CephServer, AzureServer, GoogleServer], ids=["ceph", "az", "gs"])
def site(
    request: pytest.FixtureRequest, tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    monkeypatch.setattr(test_object_storage, "BucketServer", request.param)
    site = Site(tmp_path, "bucket", postgres)
    for name, value in site.bucket.environment.items():
        monkeypatch.setenv(name, value)
    give_time(monkeypatch)
    yield site
    site.here.close()
    site.bucket.close()


@pytest.fixture
def machines(site: Site) -> Iterator[list[Any]]:
    machines = [site.machine(name) for name in ("a", "b")]
    yield machines
    for machine in machines:
        machine.close()


def test_runs_go_through_two_machines_and_a_bucket_that_goes_for_a_while(site: Site, machines: list[Any]) -> None:
    runs = [site.here.submit(f"run{number}", max_steps=20, save_steps=5) for number in range(3)]
    for machine, name in zip(machines, ("a1", "b1"), strict=True):
        machine.start_worker(name=name)
    until(lambda: any(("train", "started") in site.kinds(run) for run in runs), 120)
    site.bucket.stop()
    until(lambda: any("waiting" in [kind for _, kind in site.kinds(run)] for run in runs), 240)
    site.bucket.start()
    site.here.wait_for_all(seconds=400)
    assert site.started() == Counter((run.name, stage) for run in runs for stage in STAGES)
    client = site.here.client
    logs = b"".join(piece for _, piece in client.follow_logs(runs[0].id, STAGES, follow=False))
    assert logs
    assert client.ask("run0", "Why?")["answer"]
    pulled = client.models.pull(client.models.model("run0"), site.folder / "pulled")
    assert [name for name, _, _ in pulled.files] == ["model-q4_k_m.gguf", "README.md"]
    client.room.remove(client.find("run0"))
    assert site.bucket.keys(f"{runs[0].id}/") == []
