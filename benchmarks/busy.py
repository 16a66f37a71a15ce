"""What a training on the CPU keeps of its speed on a busy machine, by how OpenMP's threads wait for each other.

    python -m benchmarks.busy [--steps N] [--rounds N] [--variant NAME=VALUE[,NAME=VALUE] ...] [--json FILE]

A variant is what the environment of the training holds; the first one is always nothing, the default second one what
ftq sets. Each variant has two trainings of the real stage: SmolLM2-135M, LoRA of r 16, rows of one length. They are
started once and then stand still (SIGSTOP), but for the one that is measured, or both. A round measures every variant
alone, beside one and beside two processes that burn a core each, and its two trainings at once; the order of the
variants turns round by round. A number is steps a second over those of the first variant alone in the same round.
The command ends with exit code 1 if the last variant misses a bar.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import yaml

from benchmarks.run_folder import make_run
from ftq.files.run_dir import RunDir, write_json
from worker.attempt.stage_process import StageProcess
from worker.machine.hardware import computing

ROOT = Path(__file__).parent.parent
LEASE = 1e6  # no supervisor beats
PATIENCE = 600.0  # seconds until a training has made its first steps
WARM = 3  # steps before the first measurement
MOST = 30.0  # seconds of a measurement: one that hardly moves isn't waited for
AS_IT_COMES = "as it comes"
COMPANY = {"alone": (0, 1), "beside one": (1, 1), "beside two": (2, 1), "two at once": (0, 2)}  # burners, trainings
BARS = {"alone": 0.95, "beside one": 0.55, "beside two": 0.5, "two at once": 0.4}
EXAMPLES = [
    {"instruction": f"What is the number {number} good for?", "output": "It counts the examples of a benchmark. " * 3}
    for number in range(100, 164)
]
FAR = 60_000  # a step that no measurement reaches

Rates = dict[str, dict[str, list[list[float]]]]  # variant -> company -> for each round, steps a second of each training


class Training:
    """A training that runs only while it is measured."""

    def __init__(self, run: RunDir, environment: dict[str, str]) -> None:
        arguments = [str(run.path), "--attempt", "1"]
        # the variant alone decides
        with patch.dict(os.environ, environment), patch("worker.attempt.stage_process.computing", dict):
            self.process = StageProcess("train", arguments, run.log("train"), LEASE, run.path)
        self.run, self.step = run, 0

    def look(self) -> int:
        """The steps that are done."""
        if not self.process.running:
            raise RuntimeError(self.run.log("train").read_text()[-2000:])
        self.step = max([self.step, *(report.get("step") or 0 for report in self.process.reports(timeout=0.02))])
        return self.step

    def wait(self, step: int) -> None:
        until = time.monotonic() + PATIENCE
        while self.look() < step:
            if time.monotonic() > until:
                raise RuntimeError(f"no step {step} within {PATIENCE:.0f} s")

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.busy")
    arguments.add_argument("--steps", type=int, default=10, help="of each measurement")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--variant", action="append", default=[], metavar="NAME=VALUE[,NAME=VALUE]")
    arguments.add_argument("--json", type=Path, help="write the raw rates there: steps a second of each round")
    given = arguments.parse_args()
    variants = [dict(pair.split("=", 1) for pair in text.split(",")) for text in given.variant] or [computing()]
    named = {AS_IT_COMES: {}} | {" ".join(f"{k}={v}" for k, v in variant.items()): variant for variant in variants}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))  # and with it all that it started
    with tempfile.TemporaryDirectory(prefix="ftq-busy-") as folder, contextlib.ExitStack() as stack:
        trainings = start(Path(folder), named, stack)
        rates = measure(trainings, given.steps, given.rounds)
    if given.json:
        given.json.write_text(json.dumps(rates, indent=1) + "\n")
    sys.exit(0 if show(rates) else 1)


def start(folder: Path, variants: dict[str, dict[str, str]], stack: contextlib.ExitStack) -> dict[str, list[Training]]:
    """Two trainings of each variant, warm and stopped."""
    base = prepare(folder / "run")
    trainings: dict[str, list[Training]] = {}
    for number, (name, environment) in enumerate(variants.items()):
        for copy in range(2):
            path = folder / f"run-{number}-{copy}"
            shutil.copytree(base.path, path)
            training = Training(RunDir(path), environment)
            stack.enter_context(training.process)
            training.wait(WARM)
            training.signal(signal.SIGSTOP)
            trainings.setdefault(name, []).append(training)
    return trainings


def prepare(path: Path) -> RunDir:
    """The demo's run but for its rows, its adapter and its end."""
    demo = yaml.safe_load((ROOT / "demo.yaml").read_text())
    spec = {**demo, "model": "smollm2-135m", "documents": "documents", "r": 16, "alpha": 16, "learning_rate": 1e-5,
            "max_steps": FAR, "save_steps": FAR, "eval_steps": FAR, "logging_steps": 1}  # fmt: skip
    run = make_run(path, spec)
    run.documents.mkdir()
    write_json(run.documents / "examples.json", EXAMPLES)
    log = run.log("prepare")
    with StageProcess("prepare", [str(path), "--attempt", "1"], log, LEASE, path) as process:
        while process.running:
            process.reports(timeout=0.1)
        if process.exit_code:
            raise RuntimeError(log.read_text()[-2000:])
    run.publish("prepare", run.partial("prepare", 1))
    return run


def measure(trainings: dict[str, list[Training]], steps: int, rounds: int) -> Rates:
    rates: Rates = {name: {company: [] for company in COMPANY} for name in trainings}
    order = list(trainings)
    for turn in range(rounds):
        for company, (burners, count) in COMPANY.items():
            for name in order if turn % 2 == 0 else reversed(order):
                with burning(burners):
                    rates[name][company].append(rates_of(trainings[name][:count], steps))
                shown = ", ".join(f"{rate:.2f}" for rate in rates[name][company][-1])
                print(f"round {turn + 1}, {company}, {name}: {shown} steps/s", file=sys.stderr, flush=True)
    return rates


@contextlib.contextmanager
def burning(count: int) -> Iterator[None]:
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def rates_of(trainings: list[Training], steps: int) -> list[float]:
    """Steps a second of each, all of them running, from the end of the step in the middle of which each stood still.

    After MOST seconds it is all steps by then over that time.
    """
    for training in trainings:
        training.signal(signal.SIGCONT)
    marks: list[list[tuple[float, int]]] = [[(0.0, training.step)] for training in trainings]  # (when, steps done)
    began = time.perf_counter()
    try:
        while not all(is_over(seen, steps) for seen in marks) and time.perf_counter() - began < MOST:
            for training, seen in zip(trainings, marks, strict=True):
                if training.look() > seen[-1][1] and not is_over(seen, steps):
                    seen.append((time.perf_counter(), training.step))
    finally:
        for training in trainings:
            training.signal(signal.SIGSTOP)
            training.look()
    return [rate_of(seen, steps) for seen in marks]


def rate_of(seen: list[tuple[float, int]], steps: int) -> float:
    if is_over(seen, steps):
        return (seen[-1][1] - seen[1][1]) / (seen[-1][0] - seen[1][0])
    return (seen[-1][1] - seen[0][1]) / MOST


def is_over(seen: list[tuple[float, int]], steps: int) -> bool:
    return len(seen) > 2 and seen[-1][1] - seen[1][1] >= steps


def show(rates: Rates) -> bool:
    """Print the table: of two trainings the slower. Whether the last variant clears its bars."""
    base = [min(found) for found in rates[AS_IT_COMES]["alone"]]
    print(f"{AS_IT_COMES}, alone: {statistics.median(base):.2f} steps/s")
    print(f"| variant | {' | '.join(COMPANY)} |\n|---|{'---|' * len(COMPANY)}")
    kept: dict[str, float] = {}
    for name, found in rates.items():
        cells = []
        for company in COMPANY:
            ratios = [min(each) / alone for each, alone in zip(found[company], base, strict=True)]
            kept[company] = statistics.median(ratios)
            cells.append(f"{kept[company]:.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"| bar | {' | '.join(str(BARS[company]) for company in COMPANY)} |")
    return all(kept[company] >= BARS[company] for company in COMPANY)


if __name__ == "__main__":
    main()
