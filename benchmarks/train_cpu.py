"""What a step of the demo's training takes on a CPU, by how it is computed.

    python -m benchmarks.train_cpu [--steps N] [--rounds N] [--way NAME ...]

Every way trains a copy of SmolLM2-135M on the same rows in the same order, in turns in one process with one thread. A
batch is computed so many rounds by each way, forward and backward, and the least processor time of a way counts; then
each way makes its step. The first step isn't counted. The losses tell whether the ways learn the same.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

from benchmarks.run_folder import make_run
from ftq.examples.report import DatasetReport
from ftq.files.run_dir import RunDir
from ftq.plan.plan import Plan
from ftq.spec import recipe, weights
from ftq.spec.options import parse
from worker.stages.engine import load, processor, setup
from worker.stages.model import base_model, rows
from worker.stages.prepare import prepare
from worker.stages.process.main import Report

ROOT = Path(__file__).parent.parent
# name -> (compute type, without padding, without converting)
WAYS = {
    "padded, PEFT's layers": ("bfloat16", False, False),
    "without padding": ("bfloat16", True, False),
    "without converting": ("bfloat16", False, True),
    "neither": ("bfloat16", True, True),
    "neither, float32": ("float32", True, True),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_cpu")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", action="append", choices=WAYS, default=[])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ftq-cpu-") as folder:
        trainers = start(Path(folder), given.way or list(WAYS))
        measure(trainers, given.steps, given.rounds)


def start(folder: Path, ways: list[str]) -> dict[str, Any]:
    """A trainer for each way, of the demo's rows."""
    run = prepared(folder / "run")
    asked = json.loads(run.run_json.read_text())["spec"]
    setup.choose_engine(parse(asked), Report())
    import torch

    from worker.stages.train.trainer import make_trainer
    from worker.stages.train.watcher import Watcher

    torch.set_num_threads(1)
    dataset = DatasetReport.read(run.dataset)
    model_dir = base_model.resolve(asked["model"], dataset.base_revision)
    spec = recipe.decided(parse(asked), weights.parameters(model_dir))
    train_rows, _ = rows.read(run.dataset, model_dir, dataset, spec.train_on_prompt, spec.format)
    trainers = {}
    for name in ways:
        dtype, flat, plain = WAYS[name]
        plan = Plan("unsloth", False, dtype, padding_free=flat, batch_size=4, steps=264)
        with ExitStack() as stack:
            if not plain:
                stack.enter_context(patch.object(processor, "convert_less", lambda model: None))
            model, tokenizer = load.load_model(model_dir, spec, plan)
        own = RunDir(folder / name)
        watcher = Watcher(own, 1, spec, Report(), "mark", {}, evaluates=False, checkpoint=None, steps_per_epoch=80)
        trainers[name] = make_trainer(model, tokenizer, train_rows, [], spec, plan, watcher)
        trainers[name].create_optimizer_and_scheduler(num_training_steps=264)
    return trainers


def prepared(path: Path) -> RunDir:
    """The demo's run, its dataset made."""
    demo = yaml.safe_load((ROOT / "demo.yaml").read_text())
    spec = {**demo, "model": "smollm2-135m", "documents": "documents"}
    run = make_run(path, spec)
    shutil.copytree(ROOT / "documents", run.documents)
    out = run.partial("prepare", 1)
    out.mkdir()
    prepare.prepare(run, out, parse(spec), Report())
    run.publish("prepare", out)
    return run


def measure(trainers: dict[str, Any], steps: int, rounds: int) -> None:
    """Print the table: processor seconds of a step, over those of the first way, and the losses."""
    batches = {name: iter(trainer.get_train_dataloader()) for name, trainer in trainers.items()}
    taken, losses = dict.fromkeys(trainers, 0.0), {name: list[float]() for name in trainers}
    for number in range(steps):
        now = {name: next(given) for name, given in batches.items()}
        least = dict.fromkeys(trainers, float("inf"))
        for turn in range(rounds):
            for name in list(trainers)[:: 1 if (number + turn) % 2 else -1]:
                trainers[name].model.zero_grad()
                seconds, loss = step(trainers[name], now[name])
                least[name] = min(least[name], seconds)
                if turn == rounds - 1:
                    losses[name].append(loss)
        for name, trainer in trainers.items():
            trainer.optimizer.step()
            trainer.lr_scheduler.step()
            taken[name] += least[name] if number else 0
    first = next(iter(taken.values()))
    print("| way | processor s a step | ratio | losses |\n|---|---|---|---|")
    for name, seconds in taken.items():
        shown = ", ".join(f"{loss:.3f}" for loss in losses[name])
        print(f"| {name} | {seconds / (steps - 1):.3f} | {seconds / first:.2f} | {shown} |", flush=True)


def step(trainer: Any, batch: dict[str, Any]) -> tuple[float, float]:
    """(processor seconds, loss) of a forward and a backward pass."""
    learned = (batch["labels"][..., 1:] != -100).sum()
    trainer.current_gradient_accumulation_steps = 1
    began = time.process_time()
    loss = trainer.training_step(trainer.model, dict(batch), learned).item()
    return time.process_time() - began, loss


if __name__ == "__main__":
    main()
