"""What the standby saves before the first training step, and what it costs beside it.

`python -m benchmarks.standby [--model MODEL] [--rounds N] [--json FILE]`. Every pair is measured in turns. A round
starts the real train stage as the supervisor does and stops it when it reports the end of its first step. Beside the
wall time stands the CPU time that was spent in it: on a machine that others use too, that is what stays the same.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.run_folder import make_run
from ftq.files.run_dir import RunDir
from worker.attempt.keeper import Standby
from worker.attempt.stage_process import StageProcess

LEASE = 3600.0
PATIENCE = 600.0  # seconds until a standby has to be ready
ROOT = Path(__file__).parent.parent

ORDINARY = "train: from the message to the end of the first step, ordinary start"
READY = "the same, a standby ready"
IMPORTS = "a standby, from its start to ready"
ALONE = "prepare, from its start to its end"
BESIDE = "the same, beside a standby that imports"


Seconds = tuple[float, float]  # wall, CPU


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.standby")
    arguments.add_argument("--model", default="smollm2-135m")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--json", type=Path, help="write the raw seconds there: [wall, CPU] of each round")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="ftq-bench-") as folder:
        measured = measure(Path(folder), given.model, given.rounds)
    if given.json:
        given.json.write_text(json.dumps(measured, indent=2) + "\n")
    print("| what | wall, median | quickest to slowest | CPU, median |\n|---|---|---|---|")
    for what, rounds in measured.items():
        wall, cpu = zip(*rounds, strict=True)
        spread = f"{min(wall):.1f} to {max(wall):.1f}"
        print(f"| {what} | {statistics.median(wall):.1f} s | {spread} | {statistics.median(cpu):.1f} s |")


def measure(folder: Path, model: str, rounds: int) -> dict[str, list[Seconds]]:
    run = demo_run(folder / "run", model)
    whole_stage(run, "prepare")  # the model is in the cache now
    run.publish("prepare", run.partial("prepare", 1))
    first_step(run)  # and what the first training compiles
    measured: dict[str, list[Seconds]] = {what: [] for what in (ORDINARY, READY, IMPORTS, ALONE, BESIDE)}
    for _ in range(rounds):
        measured[ORDINARY].append(first_step(run))
        standby, seconds = imported(folder)
        measured[IMPORTS].append(seconds)
        measured[READY].append(first_step(run, standby))
        measured[ALONE].append(whole_stage(run, "prepare"))
        standby = Standby(folder / "standby.log", LEASE)
        measured[BESIDE].append(whole_stage(run, "prepare"))
        standby.end()
    return measured


def demo_run(path: Path, model: str) -> RunDir:
    """The demo's run with a batch of one row: what is looked for is the time before the first step, not the step's."""
    options = yaml.safe_load((ROOT / "demo.yaml").read_text())
    spec = {**options, "batch_size": 1, "model": model, "documents": "documents"}
    shutil.copytree(ROOT / "documents", path / "documents")
    return make_run(path, spec)


def imported(folder: Path) -> tuple[Standby, Seconds]:
    """A standby that is ready, and what that took."""
    began = time.perf_counter()
    standby = Standby(folder / "standby.log", LEASE)
    while not standby.ready:
        if not standby.alive or time.perf_counter() - began > PATIENCE:
            raise RuntimeError((folder / "standby.log").read_text())
        time.sleep(0.01)
    return standby, (time.perf_counter() - began, cpu_of(standby.pid))


def first_step(run: RunDir, standby: Standby | None = None) -> Seconds:
    """From the stage's start to its report that the first step has ended; no checkpoint is left."""
    return follow(run, "train", lambda report: report.get("step") == 1, standby)


def whole_stage(run: RunDir, stage: str) -> Seconds:
    return follow(run, stage, lambda report: report.get("percent") == 100)


def follow(
    run: RunDir, stage: str, enough: Callable[[dict[str, Any]], bool], standby: Standby | None = None
) -> Seconds:
    """From the start of the stage's process to the report that is enough."""
    began, before = time.perf_counter(), cpu_of(standby.pid) if standby else 0.0
    arguments = [str(run.path), "--attempt", "1"]
    with StageProcess(
        stage, arguments, run.log(stage), LEASE, run.path, take_standby=lambda: standby
    ) as process:  # fmt: skip
        while process.running:
            if any([enough(report) for report in process.reports(timeout=0.1)]):
                return time.perf_counter() - began, cpu_of(process.pid) - before
    raise RuntimeError(run.log(stage).read_text()[-2000:])


def cpu_of(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
