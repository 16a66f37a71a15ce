"""Machines that share nothing but a database, a broker and a bucket: each has its own artifacts folder and workers."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from benchmarks.drill_machine import Machine, Worker, tell
from ftq.client.view import as_dict
from ftq.files.run_dir import STAGES
from ftq.store.records import Run
from tests.bucket_server import BucketServer
from tests.tiny import make_tiny_model
from tests.tools import PATIENCE, Bench, freeze, give_time, gone, until

pytestmark = pytest.mark.slow
LEASE = 24.0  # seconds, where one has to be renewed: a machine that stands still for less loses none
WAITS = {"train": {"1": "wait"}}  # at half of its steps


class Site:
    """A bucket, a broker, a database, and machines that share nothing else; `here` is that of the person."""

    def __init__(self, folder: Path, bucket: str, database: str) -> None:
        self.folder, self.bucket, self.database = folder, BucketServer(bucket), database
        self.journal = folder / "journal.jsonl"
        self.here = self.machine("here", Bench)
        self.here.start_broker()
        self.broker = f"redis+socket://{self.here.settings.broker_socket}?virtual_host=0"

    def machine(self, name: str, kind: type[Any] = Machine, **environment: str) -> Any:
        home = self.folder / name / "artifacts"
        wanted = {
            "FTQ_DATABASE_URL": self.database,
            "FTQ_JOURNAL": str(self.journal),
            "FTQ_LEASE_SECONDS": str(PATIENCE),
            "FTQ_HASTE": "1.5",
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

    def freeze(self, worker: Worker) -> None:
        """Stop it where it holds no lock in the database, and has sent nothing that would take one."""
        query = sa.text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' "
            "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        engine = sa.create_engine(self.database)
        while True:
            freeze(*filter(None, (worker.process.pid, worker.child())))
            with engine.connect() as connection:
                if connection.scalar(query) == 0:
                    break
            worker.signal(signal.SIGCONT)
        engine.dispose()

    def wait_for_a_checkpoint(self, run_id: str) -> None:
        """Until the bucket has one, whole."""
        until(lambda: any("/checkpoints-" in key and key.endswith(".json") for key in self.bucket.keys(run_id)))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: str) -> Iterator[Site]:
    site = Site(tmp_path, f"b{os.getpid()}-{abs(hash(tmp_path)) % 10**9}", postgres)
    for name, value in site.bucket.environment.items():
        monkeypatch.setenv(name, value)
    give_time(monkeypatch)
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
    site.here.wait_for_all()
    made_by = ["dataset/made_by", "adapter/made_by"]
    assert [key for key in site.bucket.keys(run.id) if "/logs/" not in key] == sorted(
        f"{run.id}/{name}"
        for name in (
            "submit.1.json", "submit.1/documents/text.md",
            "prepare.1.json", "prepare.1/dataset/train.jsonl", f"prepare.1/{made_by[0]}",
            "train.1.json", "train.1/adapter/steps.json", f"train.1/{made_by[1]}", "train.1/metrics.jsonl",
            "export.1.json", "export.1/merged/made_by", "export.1/model-q4_k_m.gguf",
            "infer.1.json", "infer.1/answers.jsonl", "evaluate.1.json", "evaluate.1/eval.json",
        )
    )  # fmt: skip
    client = site.here.client
    manifests = [key for key in site.bucket.keys(run.id) if key.count("/") == 1]
    read = (site.bucket.client.get_object(Bucket=site.bucket.bucket, Key=f"ftq/{key}") for key in manifests)
    assert {json.loads(one["Body"].read())["database"] for one in read} == {client.store.identity}
    logs = b"".join(piece for _, piece in client.follow_logs(run.id, STAGES, follow=False))
    assert logs == b"".join((far.settings.home / run.id / "logs" / f"{stage}.log").read_bytes() for stage in STAGES)
    here = client.run_dir(run.id)
    assert here.evaluation.is_file() and not here.ggufs()
    assert b"".join(here.log(stage).read_bytes() for stage in STAGES) == logs
    assert client.ask("one", "Why?")["answer"]
    pulled = client.models.pull(client.models.model("one"), site.folder / "pulled")
    assert [name for name, _, _ in pulled.files] == ["model-q4_k_m.gguf", "README.md"]
    client.room.remove(client.find("one"))
    assert site.bucket.keys(run.id) == []


@pytest.mark.long
def test_eight_runs_on_two_machines_that_share_nothing(site: Site) -> None:
    for name in ("a", "b"):
        site.machine(name).start_worker(name=f"{name}1")
    until(lambda: len(site.here.client.store.live_workers()) == 2)
    for number in range(8):
        site.here.submit(f"run{number}")
    site.here.wait_for_all()
    assert site.started() == Counter((f"run{number}", stage) for number in range(8) for stage in STAGES)
    workers = {stage.worker.split("@")[0] for run in site.here.client.all() for stage in run.stages if stage.worker}
    assert workers == {"a1", "b1"}


def test_another_machine_resumes_from_the_checkpoint_that_a_killed_one_has_sent(site: Site) -> None:
    run = site.here.submit("one", WAITS, max_steps=40, save_steps=5)
    first = site.machine("a")
    worker = first.start_worker(name="a1")
    site.wait_for_a_checkpoint(run.id)
    stage = first.stage_pid(site.here.client.find("one"))
    worker.signal(signal.SIGKILL)
    tell(stage, signal.SIGKILL)  # it may have noticed
    site.here.end_leases()
    site.machine("b").start_worker(name="b1")
    site.here.wait_for_all()
    resumed = [event for event in site.here.client.store.events(run.id) if event.kind == "resumed"]
    assert resumed and resumed[0].data["step"] >= 5
    steps = json.loads((site.folder / "b" / "artifacts" / run.id / "adapter" / "steps.json").read_text())["steps"]
    assert steps == list(range(1, 41))
    until(lambda: not any("checkpoints-" in key for key in site.bucket.keys(run.id)))


def test_a_bucket_that_is_away_costs_waiting_only_as_the_lease_is_kept(site: Site) -> None:
    run = site.here.submit("one", WAITS, max_steps=20)
    machine = site.machine("a", FTQ_LEASE_SECONDS=str(LEASE))
    machine.start_worker(name="a1")
    until(lambda: ("train", "started") in site.kinds(run))
    site.bucket.stop()
    (machine.settings.home / run.id / "documents" / "go").touch()
    until(lambda: ("train", "waiting") in site.kinds(run))
    until(lambda: "waits for the bucket" in str(site.here.client.find("one").stage("train").progress))
    first = site.here.client.find("one").stage("train").lease_until
    until(lambda: (site.here.client.find("one").stage("train").lease_until or 0.0) > (first or 0.0) + LEASE / 2)
    site.bucket.start()
    site.here.wait_for_all()
    assert site.started()["one", "train"] == 1
    assert {stage.attempt for stage in site.here.client.find("one").stages} == {1}


def test_a_worker_that_stops_hands_its_last_step_to_another_machine(site: Site) -> None:
    run = site.here.submit("one", WAITS, max_steps=40, save_steps=90)
    worker = site.machine("a").start_worker(name="a1")
    until(lambda: ("train", "progress") in site.kinds(run))
    worker.signal(signal.SIGTERM)
    site.machine("b").start_worker(name="b1")
    site.here.wait_for_all()
    assert ("train", "resumed") in site.kinds(run)
    steps = Counter(
        line["step"] for line in map(json.loads, site.journal.read_text().splitlines()) if line["event"] == "step"
    )
    assert steps == Counter(range(1, 41))  # no step was done twice


def test_a_stage_that_another_machine_has_done_is_a_hit(site: Site) -> None:
    one = site.here.submit("one")
    first = site.machine("a").start_worker(name="a1")
    site.here.wait_for_all()
    first.signal(signal.SIGKILL)
    options = {"model": one.model, "documents": one.spec["documents"], "max_steps": 4, "save_steps": 5}
    two = site.here.client.submit(options, name="two").run
    site.machine("b").start_worker(name="b1")
    site.here.wait_for_all()
    assert [stage.cached for stage in site.here.client.find("two").stages] == [True] * len(STAGES)
    site.here.client.room.remove(site.here.client.find("one"))
    assert site.bucket.keys(one.id) == []
    pulled = site.here.client.models.pull(site.here.client.models.model("two"), site.folder / "pulled")
    assert (site.folder / "pulled" / pulled.files[0][0]).read_bytes().startswith(b"GGUF")
    assert two.id != one.id


@pytest.mark.long
def test_a_run_from_before_there_was_a_bucket_goes_up_as_it_goes_on(site: Site) -> None:
    before = site.machine("old", Bench, FTQ_ARTIFACTS_URL="")
    worker = before.start_worker(name="old1")
    done = before.submit("done")
    site.here.wait_for_all()
    worker.signal(signal.SIGKILL)
    waiting = before.submit("waiting")
    now = site.machine("old")
    now.start_worker(name="new1")
    site.here.wait_for_all()
    keys = [key.split("/") for key in site.bucket.keys("")]
    assert {key[0] for key in keys} == {waiting.id}
    assert {"submit.1.json", "evaluate.1.json"} <= {key[1] for key in keys}
    assert now.client.ask("done", "Why?")["answer"]
    pulled = now.client.models.pull(now.client.models.model("done"), site.folder / "pulled")
    assert pulled.files[0][0] == "model-q4_k_m.gguf" and done.id != waiting.id


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_real_stages_that_alternate_between_two_machines(site: Site) -> None:
    """One machine has the queue cpu, the other gpu: what each stage reads comes through the bucket."""
    make_tiny_model(site.folder / "tiny")
    folder = site.folder / "texts" / "faq"
    folder.mkdir(parents=True)
    pairs = [{"question": f"What is {number}?", "answer": f"{number} is a number."} for number in range(24)]
    (folder / "faq.json").write_text(json.dumps(pairs))
    options = {"model": str(site.folder / "tiny"), "documents": str(folder), "r": 4, "max_seq_length": 256}
    client = site.here.client
    run = client.submit({**options, "max_tokens": 8, "quantizations": ["q8_0"]}, name="one").run
    for name, queues in (("a", "cpu,ask"), ("b", "gpu")):
        machine = site.machine(name, FTQ_STANDBY="0")
        machine.module = "worker.host.worker"
        machine.start_worker(queues, name=f"{name}1")
    site.here.wait_for_all(seconds=400)
    workers = {stage.name: str(stage.worker).split("@")[0] for stage in client.find("one").stages}
    assert workers["prepare"] == "a1" and workers["train"] == "b1"
    shown = as_dict(client.find("one"), client.home_of(client.find("one")), url=site.bucket.url)
    assert {one["subject"] for one in shown["evaluation"]["subjects"]} == {"base", "q8_0"}
    gguf = next(one["path"] for one in shown["artifacts"] if one["path"].endswith(".gguf"))
    assert gguf == f"{site.bucket.url}/{run.id}/export.1/model-q8_0.gguf"
    assert client.ask("one", "What is 3?")["tokens"]
    pulled = client.models.pull(client.models.model("one"), site.folder / "pulled")
    assert [name for name, _, _ in pulled.files] == ["model-q8_0.gguf", "Modelfile", "README.md"]
    page = client.report(client.find("one")).read_text()
    assert "model-q8_0.gguf" in page and "loss" in page


@pytest.mark.long
def test_a_frozen_worker_that_wakes_up_harms_nothing(site: Site) -> None:
    run = site.here.submit("one", WAITS, max_steps=40, save_steps=10)
    machine = site.machine("a")
    frozen = machine.start_worker(name="a1")
    site.wait_for_a_checkpoint(run.id)
    stage = machine.stage_pid(site.here.client.find("one"))
    child = frozen.child()
    site.freeze(frozen)  # the stage itself waits on
    site.here.end_leases()
    site.machine("b").start_worker(name="b1")
    site.here.wait_for_all()
    before = {key: site.bucket.client.get_object(Bucket=site.bucket.bucket, Key=f"ftq/{key}")["Body"].read()
              for key in site.bucket.keys(run.id)}  # fmt: skip
    frozen.signal(signal.SIGCONT)
    until(lambda: "lease_lost" in [kind for _, kind in site.kinds(run)] or gone(child))
    assert stage is None or until(lambda: gone(stage))
    attempts = {one.name: one.attempt for one in site.here.client.find("one").stages}
    assert attempts["train"] == 2
    after = {key: site.bucket.client.get_object(Bucket=site.bucket.bucket, Key=f"ftq/{key}")["Body"].read()
             for key in site.bucket.keys(run.id)}  # fmt: skip
    counted = tuple(f"{run.id}/{name}.{attempt}" for name, attempt in attempts.items())
    assert {key: after.get(key) for key in before if key.startswith(counted)} == {
        key: content for key, content in before.items() if key.startswith(counted)
    }
    pulled = site.here.client.models.pull(site.here.client.models.model("one"), site.folder / "pulled")
    assert json.loads((site.folder / "pulled" / pulled.files[0][0]).read_bytes()[4:])["steps"] == list(range(1, 41))
