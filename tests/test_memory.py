"""A training that runs out of memory loses no step and ends with the same effective batch: only the card isn't real."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftq import queue
from ftq.files.run_dir import RunDir, read_jsonl
from ftq.plan import calibration
from ftq.plan.plan import Plan
from ftq.settings import Settings
from ftq.spec.options import parse
from ftq.store.store import RunStore
from tests.tiny import make_run, make_tiny_model
from tests.tools import succeed
from worker.attempt import stage_process
from worker.attempt.supervisor import Supervisor

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forks")]
OPTIONS: dict[str, Any] = {
    "max_seq_length": 128, "batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 8, "save_steps": 100,
    "logging_steps": 1, "r": 8, "learning_rate": 1e-2, "valid_fraction": 0.2, "engine": "trl", "dtype": "float32",
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


class Worker:
    """A supervisor, its store, and a run `r` whose documents are prepared."""

    def __init__(self, home: Path, model: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.monkeypatch = monkeypatch
        settings = Settings(home, f"redis+socket://{home}/nobody.sock", f"sqlite:///{home}/ftq.db")
        app = queue.make_app(settings)
        app.conf.task_publish_retry_policy = {"max_retries": 0}
        app.conf.broker_transport_options |= {"max_retries": 0}
        self.store = RunStore(settings.database_url)
        self.supervisor = Supervisor(app, settings, self.store, "w1", lambda report: None)
        given = {**OPTIONS, **options}
        self.folder = RunDir(make_run(home / "r", model, **given))
        rows = [{"question": f"What is {n}?", "answer": f"It is {n}, and then {n + 1}. " * (n % 3 + 1)}
                for n in range(30)]  # fmt: skip
        (self.folder.documents / "faq.json").write_text(json.dumps(rows))
        self.store.create("r", "r", parse({"model": str(model), **given}).model_dump(), "hash")
        assert self.run("prepare", 1)

    def run(self, stage: str, attempt: int, package: str = "worker.stages") -> bool:
        self.monkeypatch.setattr(stage_process, "PACKAGE", package)
        return self.supervisor.run("r", stage, attempt)

    def prepare_another(self, run_id: str) -> None:
        """A run with the same dataset, and another seed so that it doesn't come from the cache."""
        record = self.folder.read_run()
        copy = RunDir(shutil.copytree(self.folder.path, self.folder.path.with_name(run_id)))
        copy.run_json.write_text(json.dumps({**record, "spec": {**record["spec"], "seed": 1}}))
        self.store.create(run_id, run_id, {**self.store.get("r").spec, "seed": 1}, "hash")
        succeed(self.store, run_id, "prepare")

    def said(self, *kinds: str) -> list[tuple[int | None, str, str]]:
        found = self.store.events("r")
        return [(event.attempt, event.kind, event.message) for event in found if event.kind in kinds]

    def losses(self) -> list[tuple[int, float]]:
        return [(line["step"], line["train_loss"]) for line in read_jsonl(self.folder.metrics)]


@pytest.fixture
def workers(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.chdir(Path(__file__).parent.parent)  # where the stages' processes find `tests`
    made: list[Worker] = []

    def make(name: str, **options: Any) -> Worker:
        (tmp_path / name).mkdir()
        made.append(Worker(tmp_path / name, model, monkeypatch, **options))
        return made[-1]

    yield make
    for worker in made:
        worker.store.close()


def test_out_of_memory_costs_no_step_and_the_training_goes_on_with_half_the_micro_batch(workers: Any) -> None:
    tight, roomy = workers("tight"), workers("roomy")
    assert tight.run("train", 1, "tests.memory_stages") is False
    assert tight.run("train", 2, "tests.memory_stages") is True
    kinds = ("checkpoint", "retried", "resumed", "failed")
    assert tight.said(*kinds) == [
        (1, "checkpoint", "checkpoint at step 5"),
        (1, "retried", "retried with less memory: batch_size=1, gradient_accumulation_steps=4"),
        (2, "resumed", "resumed from step 5"),
        (2, "checkpoint", "checkpoint at step 8"),
    ]
    stage = tight.store.get("r").stage("train")
    assert (stage.plan["batch_size"], stage.plan["gradient_accumulation_steps"]) == (1, 4)
    assert stage.plan["measured"]["steps"] == 3
    assert roomy.run("train", 1)
    assert [step for step, _ in tight.losses()] == [*range(1, 9)]
    assert [loss for _, loss in tight.losses()] == pytest.approx([loss for _, loss in roomy.losses()], abs=2e-3)
    assert roomy.losses()[-1][1] < roomy.losses()[0][1]


def test_a_plan_is_stored_and_its_error_corrects_the_next_one(workers: Any) -> None:
    worker = workers("auto", batch_size="auto", gradient_accumulation_steps="auto")
    assert worker.run("train", 1)
    plan = worker.store.get("r").stage("train").plan
    assert worker.said("plan") == [(1, "plan", plan["message"])]
    assert (plan["batch_size"] * plan["gradient_accumulation_steps"], plan["card"], plan["steps"]) == (8, "CPU", 8)
    assert plan["measured"]["steps"] == 8
    assert plan["predicted"]["corrected"] == {"peak": 1.0, "seconds": 1.0}
    (shown,) = calibration.corrections(worker.store.plans_on("CPU", str(worker.store.get("r").model)))
    assert (shown.way, shown.peak) == (Plan.from_json(plan).measured_as, None)
    assert shown.seconds and 0.25 <= shown.seconds <= 4.0
    worker.prepare_another("s")
    assert worker.supervisor.run("s", "train", 1)
    again = worker.store.get("s").stage("train").plan
    assert again["predicted"]["corrected"] == {"peak": 1.0, "seconds": pytest.approx(shown.seconds, rel=0.35)}


def test_early_stopping_ends_with_the_best_adapter(workers: Any) -> None:
    worker = workers("early", early_stopping=1, keep_best=True, eval_steps=1, learning_rate=1.0, max_steps=40)
    assert worker.run("train", 1)
    lines = list(read_jsonl(worker.folder.metrics))
    losses = [line["valid_loss"] for line in lines]
    assert len(lines) < 40
    assert losses[-1] >= min(losses[:-1])  # the last evaluation wasn't better, and it stopped there
    assert all(after < before for before, after in itertools.pairwise(losses[:-1]))
    best = losses.index(min(losses)) + 1
    assert worker.said("note") == [
        (1, "note", f"stopped early at step {len(lines)}: the validation loss was best at step {best} "
         f"({min(losses):.4f})"),
    ]  # fmt: skip
    assert worker.said("checkpoint")[-1][2] == f"checkpoint at step {len(lines)}"
