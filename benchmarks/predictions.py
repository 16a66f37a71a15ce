"""How far off the predicted time of short trainings is, on a CPU and by a clock that other processes don't move.

    python -m benchmarks.predictions [--json FILE]

Two trainings teach what this machine's steps and starts take; five others, of rows, lengths and numbers of steps of
their own, are predicted by these and by each other, as the queue would do it, and measured. Each is the real train
stage in a process of its own with one thread, whose clock is the processor time that it has used: so it is as on a
machine where nobody else computes. One of the five goes on from a checkpoint.
The command ends with exit code 1 if a prediction is off by more than the bar.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.train_gpu import prepared
from ftq.files.run_dir import RunDir, write_json
from ftq.plan import calibration
from ftq.plan.plan import Handover
from ftq.spec.options import parse
from worker.stages.process.main import Report

BAR = 0.2
WORDS = ["pump", "valve", "of", "the", "brass", "reports", "its", "pressure", "to", "an", "hour", "cellar", "room"]
# The small one's weights are random.
SMALL = {
    "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6, "num_attention_heads": 8,
    "num_key_value_heads": 4, "vocab_size": 49152, "tie_word_embeddings": True, "max_position_embeddings": 2048,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A training: `words` are in a row's answer on average; each seed has rows of its own."""

    name: str
    model: str
    steps: int
    words: int
    seed: int
    held_out: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    stops: int = 0  # at this step the first attempt ends: the second one goes on


TAUGHT = [Case("taught by 135M", "smollm2-135m", 8, 15, 1), Case("taught by the small one", "small", 12, 15, 1)]
FRESH = [
    Case("135M, other rows", "smollm2-135m", 20, 20, 2),
    Case("135M, looks at 24 held out", "smollm2-135m", 8, 12, 3, 24, {"eval_steps": 4}),
    Case("small, other rows, longer ones", "small", 45, 60, 4),
    Case("small, 16 examples a step", "small", 15, 25, 5, options={"step_examples": 16}),
    Case("135M, goes on at step 6 of 14", "smollm2-135m", 14, 15, 1, stops=6),
]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predictions")
    parser.add_argument("--json", type=Path, help="write the plans, predicted and measured, there")
    parser.add_argument("--stage", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--attempt", type=int, default=1, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        return stage(RunDir(given.stage), given.attempt)
    with tempfile.TemporaryDirectory(prefix="ftq-predictions-") as folder:
        records = measure(Path(folder))
    if given.json:
        given.json.write_text(json.dumps(records, indent=1) + "\n")
    sys.exit(0 if show(records) else 1)


def measure(folder: Path) -> list[dict[str, Any]]:
    """The records of all cases in their order, as the store would have them."""
    models = {"small": make_small(folder / "small"), "smollm2-135m": real()}
    records: list[dict[str, Any]] = []
    for number, case in enumerate([*TAUGHT, *FRESH]):
        run = run_of(case, folder / f"run-{number}", models[case.model])
        if case.stops:
            train(run, records, case, 1, {"max_steps": case.stops})
        record = train(run, records, case, 2 if case.stops else 1, {})
        records.insert(0, {**record, "case": case.name, "worker": "here", "model": case.model,
                           "documents_hash": str((case.seed, case.words))})  # fmt: skip
        print(case.name, calibration.compare(record), file=sys.stderr, flush=True)
    return records[::-1]


def show(records: list[dict[str, Any]]) -> bool:
    """Print the table; whether all that weren't only teachers are within the bar."""
    print("| training | began | predicted s | of it to start | measured s | of it to start | off by |\n|" + "---|" * 7)
    within = True
    for record in records:
        compared = calibration.compare(record)
        whole, start = compared["seconds"], compared.get("starting") or {"predicted": 0, "measured": 0}
        within = within and (record["case"].startswith("taught") or abs(whole["error"]) <= BAR)
        cells = [record["case"], record["predicted"]["began"]]
        cells += [f"{one[name]:.1f}" for name in ("predicted", "measured") for one in (whole, start)]
        print(f"| {' | '.join(cells)} | {100 * whole['error']:+.0f} % |")
    return within


# ---- the runs ---------------------------------------------------------------------------------------------


def real() -> Path:
    from worker.stages.model import base_model

    return base_model.resolve("smollm2-135m", None)


def make_small(path: Path) -> Path:
    from transformers import AutoConfig, AutoModelForCausalLM

    AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SMALL)).save_pretrained(path)
    for file in real().iterdir():
        if file.name.startswith(("tokenizer", "chat_template", "special")):
            shutil.copy(file, path)
    return path


def run_of(case: Case, path: Path, model: Path) -> RunDir:
    draw = random.Random(case.seed)
    rows = [
        {"instruction": " ".join(draw.choices(WORDS, k=draw.randint(3, 9))), "input": "", "source": "bench",
         "output": " ".join(draw.choices(WORDS, k=draw.randint(case.words // 3, case.words * 5 // 3)))}
        for _ in range(600 + case.held_out)
    ]  # fmt: skip
    lines = [json.dumps(row) + "\n" for row in rows]
    return prepared(path, model, lines[: len(rows) - case.held_out], lines[len(rows) - case.held_out :])


def train(run: RunDir, records: list[dict[str, Any]], case: Case, attempt: int, changes: dict[str, Any]) -> Any:
    """An attempt in a process of its own: the record of its plan."""
    told = json.loads(run.run_json.read_text())
    told["spec"] |= {"max_steps": case.steps, "epochs": 3, **case.options}
    write_json(run.run_json, told)
    starts = calibration.starts(records, "here", case.model, str((case.seed, case.words)))
    own = sorted(records, key=lambda record: bool(record["model"] != case.model))
    corrections = calibration.corrections(own, "here", case.model)
    Handover(changes, corrections, Handover.read(run).plan, starts).write(run)
    command = [sys.executable, "-m", "benchmarks.predictions", "--stage", str(run.path), "--attempt", str(attempt)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FTQ_STOP_AT": str(changes.get("max_steps", ""))}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(result.stderr[-3000:])
    return json.loads((run.path / "record.json").read_text())


def stage(run: RunDir, attempt: int) -> None:
    """The train stage, whose clock is the processor time of this process."""
    from worker.stages.engine import device, speed
    from worker.stages.train import watcher
    from worker.stages.train.train import train as train_stage

    used = time.process_time
    clock: Any = SimpleNamespace(monotonic=used, perf_counter=used, sleep=time.sleep)
    speed.time = watcher.time = device.time = clock  # type: ignore[attr-defined]
    out = run.partial("train", attempt)
    out.mkdir(parents=True)
    heard = Heard(int(os.environ.get("FTQ_STOP_AT") or 0))
    train_stage(run, out, parse(json.loads(run.run_json.read_text())["spec"]), heard)
    (run.path / "record.json").write_text(json.dumps(heard.record))


class Heard(Report):
    """A report that keeps the plan, and asks to stop after a step."""

    def __init__(self, stop_at: int) -> None:
        super().__init__()
        self._stop_at, self.record = stop_at, dict[str, Any]()

    def plan(self, message: str, **values: Any) -> None:
        self.record |= values

    def progress(self, percent: float, *, step: int | None = None, **others: Any) -> None:
        if self._stop_at and (step or 0) >= self._stop_at:
            self.stop_requested = True


if __name__ == "__main__":
    main()
