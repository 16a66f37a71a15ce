"""The train stage: checkpoints, exact resuming, and rows that teach the model to stop."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ftq.examples.report import DatasetReport
from ftq.files.run_dir import RunDir, read_jsonl
from ftq.plan.plan import Plan
from ftq.spec.options import parse
from tests import forked
from tests.forked import Forked
from tests.tiny import make_run, make_tiny_model, sealed
from worker.stages import STOPPED
from worker.stages.model import rows
from worker.stages.model.tokens import IGNORED
from worker.stages.process.main import Report
from worker.stages.train import checkpoints, settings
from worker.stages.train.checkpoints import Checkpoint

ROOT = Path(__file__).parent.parent
STEPS = 12
OPTIONS = {
    "max_seq_length": 128, "batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": STEPS, "save_steps": 3,
    "logging_steps": 1, "dropout": 0.1, "r": 8, "learning_rate": 1e-2, "valid_fraction": 0.2,
    "quantizations": ["q8_0"], "max_tokens": 8, "exposures": 6, "word_dropout": 0.3,
    "dtype": "float32",  # what is compared bit by bit chooses no type by how fast the processor was
}  # fmt: skip
MANUAL = """# Pumps

The pump of the cellar has a valve of brass. Every pump reports its pressure to the control room once an hour.

| Pump | Weight |
|---|---|
| P-1 | 12 kg |
| P-2 | 14 kg |
"""


# ---- rows, order, checkpoints: no training needed ------------------------------------------------------


def plan_for(batch: int, accumulation: int, gpus: int = 1, **others: Any) -> Plan:
    plan = Plan("trl", False, "float32", batch_size=batch, gradient_accumulation_steps=accumulation, gpus=gpus)
    return replace(plan, **others)


def test_steps_per_epoch_count_the_last_smaller_batch() -> None:
    for plan in (plan_for(4, 2), plan_for(2, 4, gpus=2), plan_for(1, 8, gpus=4)):
        assert [settings.steps_per_epoch(rows, plan) for rows in (1, 8, 9, 16, 17)] == [1, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("options", "epoch", "expected"),
    [({"max_steps": 1}, 9, 0), ({"epochs": 0.1}, 9, 0), ({"max_steps": 2}, 1, 0.05), ({"epochs": 2}, 1, 0.05)],
)
def test_the_only_step_of_a_training_is_no_warm_up(
    tmp_path: Path, options: dict[str, Any], epoch: int, expected: float
) -> None:
    spec = parse({"model": "m", **options})
    assert settings.settings(tmp_path, spec, plan_for(4, 2), epoch, 4, Report())["warmup_steps"] == expected


def test_the_furthest_whole_checkpoint_of_this_training_is_taken(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert checkpoints.newest_valid(run, "same") is None
    good = sealed(run, 0, 6)
    sealed(run, 1, 3)
    (sealed(run, 1, 9) / "adapter_model.safetensors").write_bytes(b"weighty")  # same size, other bytes
    (sealed(run, 1, 12) / "adapter_model.safetensors").unlink()
    (sealed(run, 1, 15) / checkpoints.SEAL).unlink()
    (sealed(run, 1, 18) / checkpoints.SEAL).write_text('{"fingerprint": "sa')
    sealed(run, 1, 21, mark="other data")
    (sealed(run, 1, 24).parent / "checkpoint-24").rename(run.checkpoints / "1/checkpoint-27")
    assert checkpoints.newest_valid(run, "same") == Checkpoint(good, 0, 6)


def test_pruning_keeps_the_last_two_and_what_a_later_attempt_wrote(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for attempt, step in [(0, 3), (0, 6), (1, 9), (1, 12), (2, 3)]:
        sealed(run, attempt, step)
    checkpoints.prune(run, 1, "same")
    assert sorted((found.attempt, found.step) for found in checkpoints.find_all(run)) == [(1, 9), (1, 12), (2, 3)]


def test_pruning_touches_no_checkpoint_of_a_training_that_computed_otherwise(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for attempt, step, mark in [(0, 30, "a"), (0, 40, "a"), (1, 3, "b"), (1, 6, "b"), (1, 9, "b")]:
        sealed(run, attempt, step, mark)
    checkpoints.prune(run, 1, "b")
    assert sorted(found.step for found in checkpoints.find_all(run)) == [6, 9, 30, 40]


def test_why_a_training_starts_anew_though_there_are_checkpoints(tmp_path: Path) -> None:
    run, here = RunDir(tmp_path), {"engine": "trl", "dtype": "float32", "optimizer": "adamw_torch"}

    def why(mark: str) -> str:
        return checkpoints.reason_to_start_anew(run, mark, here)

    assert why("this") == ""
    (sealed(run, 0, 60, "this") / "adapter_model.safetensors").write_bytes(b"torn")
    (sealed(run, 0, 70) / checkpoints.SEAL).unlink()
    assert why("this") == ""
    assert why("other") == "starts anew: the checkpoint at step 60 is of a training run with other options or data"
    sealed(run, 1, 80, "other", **{**here, "dtype": "bfloat16", "engine": "unsloth"})
    with_what = "engine unsloth, here trl; dtype bfloat16, here float32"
    assert why("this") == f"starts anew: the checkpoint at step 80 is of a training run with {with_what}"


def test_a_run_of_the_working_directory_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "handbook").mkdir()
    monkeypatch.chdir(tmp_path / "handbook")
    folder, spec = RunDir(".").checkpoints / "0", parse({"model": "m"})
    assert settings.settings(folder, spec, plan_for(4, 2), 3, 1, Report())["run_name"] == "handbook"


def test_the_fingerprint_changes_with_what_is_learned_and_with_nothing_else(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.dataset.mkdir()
    for name in ("train.jsonl", "valid.jsonl"):
        (run.dataset / name).write_text(name)

    def mark(plan: Plan | None = None, **changes: Any) -> str:
        return settings.fingerprint(run, parse({"model": "m", **changes}), plan or plan_for(4, 2))

    smaller = plan_for(2, 4, load_in_4bit=True, gradient_checkpointing=True)
    same = [mark(), mark(save_steps=7), mark(prompts=["x"]), mark(report_to=["wandb"]), mark(plan_for(2, 4)),
            mark(smaller), mark(plan_for(2, 4, gpus=2), gpus=2)]  # fmt: skip
    assert len({*same}) == 1
    options: list[dict[str, Any]] = [{"seed": 1}, {"learning_rate": 0.1}, {"r": 8}, {"epochs": 4}]
    other = [plan_for(8, 2), plan_for(4, 2, dtype="bfloat16"), plan_for(4, 2, padding_free=True)]
    assert len({mark(), *(mark(**changes) for changes in options), *map(mark, other)}) == 8
    before = mark()
    (run.dataset / "train.jsonl").write_text("more")
    assert mark() != before


def test_a_tracker_that_is_not_installed_is_left_out_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    spec = parse({"model": "m", "report_to": ["mlflow", "tensorboard"]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "find_spec", lambda name: None if name == "mlflow" else object())
        assert settings._trackers(spec, Report()) == ["tensorboard"]
    assert capsys.readouterr().err == ("warning: message=report_to: mlflow isn't installed on this worker: left out\n")


@pytest.mark.parametrize("environment", [{"WANDB_API_KEY": "k"}, {"WANDB_MODE": "offline"}, {}])
def test_wandb_without_a_key_is_left_out_and_said(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**environment, "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(settings, "find_spec", lambda name: object())
    assert settings._trackers(parse({"model": "m", "report_to": ["wandb"]}), Report()) == ["wandb"] * bool(environment)
    said = "" if environment else "warning: message=report_to: this worker has no WANDB_API_KEY: wandb is left out\n"
    assert capsys.readouterr().err == said


# ---- real trainings of the tiny model, each in a process of its own --------------------------------------


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has its dataset."""
    folder = tmp_path_factory.mktemp("train")
    path = make_run(folder / "prepared", make_tiny_model(folder / "tiny"), **OPTIONS)
    rows = [{"question": f"What is {n}?", "answer": f"It is {n}, and then {n + 1}. " * (n % 3 + 1)} for n in range(30)]
    (path / "documents/faq.json").write_text(json.dumps(rows))
    (path / "documents/pumps.md").write_text(MANUAL)
    assert stage("prepare", path).returncode == 0
    return path


@pytest.fixture(scope="module")
def unbroken(prepared: Path) -> Path:
    """The same run, trained without a stop, by the command line as it is; the other trainings here are forked."""
    path = prepared.with_name("unbroken")
    shutil.copytree(prepared, path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command("train", path, 0), text=True, capture_output=True, cwd=path, env=environment)
    assert done.returncode == 0, done.stderr
    return path


def command(name: str, run: Path, attempt: int, *changes: str) -> list[str]:
    sets = [text for change in changes for text in ("--set", change)]
    return [sys.executable, "-m", f"worker.stages.{name}", str(run), "--attempt", str(attempt), *sets]


def stage(name: str, run: Path, *changes: str, attempt: int = 0) -> subprocess.CompletedProcess[str]:
    stack = "unsloth" if name == "train" and "engine=trl" not in changes else "plain"
    return forked.run(command(name, run, attempt, *changes), stack)


STOPPING = """
import os, runpy, sys
from worker.stages.process.main import Report

send, (event, step, number), sys.argv = Report._send, sys.argv[1:4], sys.argv[3:]

def stopping(report, kind, values):
    send(report, kind, values)
    if (kind, values.get("step")) == (event, int(step)):
        os.kill(os.getpid(), int(number))

Report._send = stopping
runpy.run_module("worker.stages.train", run_name="__main__", alter_sys=True)
"""


def stop_at(run: Path, event: str, step: int, with_signal: signal.Signals) -> tuple[int, list[str]]:
    """Train attempt 0; when it has reported this event of this step it gets the signal, before it goes on.

    (exit code, all it reported).
    """
    order = [event, str(step), str(int(with_signal))]
    words = [sys.executable, "-c", STOPPING, *order, *command("train", run, 0)[3:]]
    with Forked(words, text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, stack="unsloth") as process:
        assert process.stderr
        said = process.stderr.readlines()
    return process.returncode, said


def copy(prepared: Path, name: str) -> Path:
    shutil.copytree(prepared, prepared.with_name(name))
    return prepared.with_name(name)


def learned(run: Path) -> list[dict[str, Any]]:
    """The metrics without what depends on the clock."""
    return [{key: value for key, value in line.items() if key not in ("tokens_per_second", "valid_seconds")}
            for line in read_jsonl(run / "metrics.jsonl")]  # fmt: skip


def adapter(run: Path) -> bytes:
    return (run / "adapter/adapter_model.safetensors").read_bytes()


def loss_of(adapter: Path, model_dir: Path, examples: list[rows.Row]) -> float:
    """The mean over all tokens that are learned, one example at a time."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_dir), adapter).eval()
    loss, learned = 0.0, 0
    for row in examples:
        ids, labels = (torch.tensor(row[name][None]) for name in ("input_ids", "labels"))
        with torch.no_grad():
            logits = model(ids).logits
        loss += float(torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], reduction="sum"))
        learned += int((labels[0, 1:] != IGNORED).sum())
    return loss / learned


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [("dropout=0",), ("dropout=0.1",), pytest.param(("dropout=0", "gpus=2"), marks=pytest.mark.long)]
)
def test_the_validation_loss_is_a_mean_over_tokens_without_dropout(prepared: Path, changes: tuple[str, ...]) -> None:
    run = copy(prepared, "-".join(["validated", *changes]))
    done = stage("train", run, *changes, "batch_size=4", "gradient_accumulation_steps=2")
    assert done.returncode == 0, done.stderr
    report = DatasetReport.read(run / "dataset")
    _, valid = rows.read(run / "dataset", prepared.parent / "tiny", report, train_on_prompt=False)
    *_, told = [line["valid_loss"] for line in read_jsonl(run / "metrics.jsonl") if "valid_loss" in line]
    assert told == pytest.approx(loss_of(run / "adapter", prepared.parent / "tiny", valid), rel=1e-4)


@pytest.mark.slow
def test_a_training_leaves_adapter_metrics_and_two_checkpoints(unbroken: Path, prepared: Path) -> None:
    new = {path.relative_to(unbroken).as_posix() for path in unbroken.rglob("*") if "checkpoint-" not in str(path)}
    new -= {path.relative_to(prepared).as_posix() for path in prepared.rglob("*")}
    assert new == {
        "adapter", "adapter/adapter_config.json", "adapter/adapter_model.safetensors", "metrics.jsonl",
        "checkpoints", "checkpoints/train.json", "checkpoints/0", "checkpoints/0/metrics.jsonl",
    }  # fmt: skip
    assert [found.step for found in sorted(checkpoints.find_all(RunDir(unbroken)), key=lambda c: c.step)] == [9, 12]
    lines = list(read_jsonl(unbroken / "metrics.jsonl"))
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    fields = {"step", "epoch", "train_loss", "learning_rate", "grad_norm", "tokens_per_second"}
    rows = sum(1 for _ in read_jsonl(unbroken / "dataset/train.jsonl"))
    epoch = settings.steps_per_epoch(rows, plan_for(2, 2))
    valid = fields | {"valid_loss", "valid_seconds"}
    assert [line["step"] for line in lines if set(line) == valid] == [epoch, STEPS]
    assert all(set(line) in (fields, valid) for line in lines)
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]
    config = json.loads((unbroken / "adapter/adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (8, 32)
    assert config["base_model_name_or_path"] == str(prepared.parent / "tiny")


@pytest.mark.slow
def test_a_training_that_ends_worse_than_guessing_publishes_no_adapter(unbroken: Path) -> None:
    """All its steps are done: only what they measured is another."""
    run = copy(unbroken, "diverged")
    shutil.rmtree(run / "adapter")
    metrics = run / "checkpoints/0/metrics.jsonl"
    first, *others = read_jsonl(metrics)
    lines = [first, *({**line, "train_loss": 16.0, "valid_loss": 16.0} for line in others)]
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = stage("train", run, attempt=1)
    assert done.returncode and not (run / "adapter").exists()
    rose = f"its loss rose from {first['train_loss']:.3f} (step 1) to 16.000 (step {STEPS})"
    assert f"the training diverged: {rose}, and guessing gives 10.8" in done.stderr
    assert "Lower learning_rate and submit it anew: it was 0.01, `auto` takes 0.002 for this model." in done.stderr


def goes_on_to_the_same_bits(run: Path, step: int, unbroken: Path) -> None:
    done = stage("train", run, attempt=1)
    assert done.returncode == 0, done.stderr
    assert f"resumed: message=resumed from step {step} step={step}" in done.stderr.splitlines()
    assert learned(run) == learned(unbroken)
    assert adapter(run) == adapter(unbroken)


@pytest.mark.slow
def test_killed_with_its_newest_checkpoint_torn_it_ends_with_the_same_bits(prepared: Path, unbroken: Path) -> None:
    run = copy(prepared, "killed")
    code, _ = stop_at(run, "checkpoint", 6, signal.SIGKILL)
    assert code == -signal.SIGKILL
    torn = run / "checkpoints/0/checkpoint-6/optimizer.pt"
    torn.write_bytes(torn.read_bytes()[:-100])
    goes_on_to_the_same_bits(run, 3, unbroken)


@pytest.mark.slow
def test_sigterm_saves_a_checkpoint_and_the_rest_gives_the_same_bits(prepared: Path, unbroken: Path) -> None:
    run = copy(prepared, "stopped")
    code, said = stop_at(run, "progress", 5, signal.SIGTERM)
    assert code == STOPPED, "".join(said)
    saved = max(found.step for found in checkpoints.find_all(RunDir(run)))
    assert f"checkpoint: message=checkpoint at step {saved} step={saved}\n" in said and 5 <= saved < STEPS
    assert not (run / "adapter").exists()
    goes_on_to_the_same_bits(run, saved, unbroken)


@pytest.mark.slow
def test_a_finished_training_that_was_not_published_is_not_trained_again(prepared: Path, unbroken: Path) -> None:
    run = copy(unbroken, "finished")
    shutil.rmtree(run / "adapter")
    (run / "metrics.jsonl").unlink()
    done = stage("train", run, attempt=1)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith(("progress", "resumed", "checkpoint"))] == [
        "progress: percent=0", f"resumed: message=resumed from step {STEPS} step={STEPS}",
    ]  # fmt: skip
    assert adapter(run) == adapter(unbroken)
    assert (run / "metrics.jsonl").read_bytes() == (unbroken / "metrics.jsonl").read_bytes()


@pytest.mark.slow
def test_plain_trl_trains_too(prepared: Path, unbroken: Path) -> None:
    run = copy(prepared, "trl")
    done = stage("train", run, "engine=trl", "dropout=0", "max_steps=2")
    assert done.returncode == 0, done.stderr
    first = [next(read_jsonl(path / "metrics.jsonl"))["train_loss"] for path in (run, unbroken)]
    assert first[0] == pytest.approx(first[1], rel=0.02)
    assert len(adapter(run)) == len(adapter(unbroken))


@pytest.mark.slow
def test_a_dataset_made_for_longer_rows_is_refused(prepared: Path) -> None:
    run = copy(prepared, "long")
    report = json.loads((run / "dataset/report.json").read_text())
    (run / "dataset/report.json").write_text(json.dumps({**report, "max_seq_length": 20}))
    done = stage("train", run)
    assert done.returncode == 1
    assert "tokens, but a row holds 20 (max_seq_length)" in done.stderr
    assert "kind=user" in done.stderr
