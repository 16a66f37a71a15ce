"""What the standby saves before the first training step, and what it costs beside it.

`python -m benchmarks.standby [--model MODEL] [--rounds N] [--json FILE]`. Every pair is measured in turns. A round
starts the real train stage as the supervisor does and stops it when it reports the end of its first step.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ftq.artifacts import RunDir, write_json
from worker.process import StageProcess
from worker.standby import Standby

LEASE = 3600.0
PATIENCE = 600.0  # seconds until a standby has to be ready
ROOT = Path(__file__).parent.parent

ORDINARY = "train: from the message to the end of the first step, ordinary start"
READY = "the same, a standby ready"
IMPORTS = "a standby, from its start to ready"
ALONE = "prepare, from its start to its end"
BESIDE = "the same, beside a standby that imports"


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.standby")
    arguments.add_argument("--model", default="smollm2-135m")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--json", type=Path, help="write the raw seconds there")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="ftq-bench-") as folder:
        seconds = measure(Path(folder), given.model, given.rounds)
    if given.json:
        given.json.write_text(json.dumps(seconds, indent=2) + "\n")
    print("| what | median | quickest to slowest |\n|---|---|---|")
    for what, times in seconds.items():
        print(f"| {what} | {statistics.median(times):.1f} s | {min(times):.1f} to {max(times):.1f} |")


def measure(folder: Path, model: str, rounds: int) -> dict[str, list[float]]:
    run = make_run(folder / "run", model)
    whole_stage(run, "prepare")  # the model is in the cache now
    run.publish("prepare", run.partial("prepare", 1))
    first_step(run)  # and what the first training compiles
    seconds: dict[str, list[float]] = {what: [] for what in (ORDINARY, READY, IMPORTS, ALONE, BESIDE)}
    for _ in range(rounds):
        seconds[ORDINARY].append(first_step(run))
        with imported(folder) as (standby, taken):
            seconds[IMPORTS].append(taken)
            seconds[READY].append(first_step(run, lambda ready=standby: ready))  # type: ignore[misc]
        seconds[ALONE].append(whole_stage(run, "prepare"))
        standby = Standby(folder / "standby.log", LEASE)
        seconds[BESIDE].append(whole_stage(run, "prepare"))
        standby.end()
    return seconds


def make_run(path: Path, model: str) -> RunDir:
    """The demo's run: its documents, its options."""
    spec = {**yaml.safe_load((ROOT / "demo.yaml").read_text()), "model": model, "documents": "documents"}
    shutil.copytree(ROOT / "documents", path / "documents")
    write_json(path / "run.json", {"id": "bench", "name": "bench", "spec": spec, "documents_hash": ""})
    return RunDir(path)


@contextmanager
def imported(folder: Path) -> Iterator[tuple[Standby, float]]:
    """(a standby that is ready, the seconds that took)."""
    began = time.perf_counter()
    standby = Standby(folder / "standby.log", LEASE)
    while not standby.ready:
        if not standby.alive or time.perf_counter() - began > PATIENCE:
            raise RuntimeError((folder / "standby.log").read_text())
        time.sleep(0.01)
    yield standby, time.perf_counter() - began


def first_step(run: RunDir, take_standby: Callable[[], Any] = lambda: None) -> float:
    """Seconds from the stage's start to its report that the first step has ended; no checkpoint is left."""
    return follow(run, "train", lambda report: report.get("step") == 1, take_standby)


def whole_stage(run: RunDir, stage: str) -> float:
    return follow(run, stage, lambda report: False)


def follow(
    run: RunDir, stage: str, enough: Callable[[dict[str, Any]], bool], take_standby: Callable[[], Any] = lambda: None
) -> float:
    """Seconds from the start of the stage's process to the report that is enough, or to its end."""
    began = time.perf_counter()
    arguments = [str(run.path), "--attempt", "1"]
    with StageProcess(stage, arguments, run.log(stage), LEASE, run.path, take_standby=take_standby) as process:
        while process.running:
            if any([enough(report) for report in process.reports(timeout=0.1)]):
                return time.perf_counter() - began
        if process.exit_code:
            raise RuntimeError(run.log(stage).read_text()[-2000:])
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
