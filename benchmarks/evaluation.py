"""How long an evaluation takes.

    python -m benchmarks.evaluation RUN [--rounds 3]

RUN is a finished run with f16 and q8_0 over documents/, made with demo.yaml and demo-questions.json: 60 questions to
the base model and to both files. Measured is the stage as a worker starts it, process and models included.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ftq.client.client import Client
from ftq.evaluation.evaluation import Evaluation
from ftq.examples.report import DatasetReport
from ftq.files.run_dir import RunDir
from ftq.settings import Settings
from ftq.spec.options import parse
from worker.llama.base import base_gguf

BAR = 120.0  # seconds, for 60 questions to base, f16 and q8_0 on two cores


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.evaluation")
    arguments.add_argument("run", help="id, name, or folder of a finished run")
    arguments.add_argument("--rounds", type=int, default=3)
    given = arguments.parse_args()
    folder = Path(given.run)
    run = RunDir(folder) if folder.is_dir() else _recorded(given.run)
    spec = parse(run.read_run()["spec"])
    base_gguf(spec.model, DatasetReport.read(run.dataset).base_revision)  # made once for all runs
    taken = []
    for _ in range(given.rounds):
        seconds, evaluation = stage(run)
        taken.append(seconds)
    questions, subjects = sum(evaluation.counts.values()), len(evaluation.subjects)
    median = statistics.median(taken)
    print("| | stage | slowest | bar |\n|---|---|---|---|")
    print(f"| {questions} questions, {subjects} models | {median:.1f} s | {max(taken):.1f} s | {BAR:.0f} s |")
    sys.exit(median > BAR)


def _recorded(name: str) -> RunDir:
    client = Client(Settings.from_env())
    return client.run_dir(client.find(name).id)


def stage(run: RunDir) -> tuple[float, Evaluation]:
    """Run the stage on a copy of the run that has links to its files."""
    with tempfile.TemporaryDirectory(dir=run.path.parent) as folder:
        copy = RunDir(Path(folder, "run"))
        shutil.copytree(run.path, copy.path, copy_function=lambda a, b: Path(b).hardlink_to(a))
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "worker.stages.evaluate", str(copy.path)], check=True, capture_output=True
        )
        return time.perf_counter() - began, Evaluation.read(copy.evaluation)


if __name__ == "__main__":
    main()
