"""How long an evaluation takes, and how long the same questions take one after the other.

    python -m benchmarks.evaluation RUN [--rounds 3]

RUN is a finished run with f16 and q8_0 over documents/, made with demo.yaml and demo-questions.json: 60 questions to
the base model and to both files. Measured in turns: the stage as a worker starts it, process and models included; and
the same questions to the same servers, each asked when the one before is answered.
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
from ftq.evaluation.choose import choose, most_tokens
from ftq.evaluation.evaluation import Evaluation
from ftq.examples.report import DatasetReport
from ftq.files.run_dir import RunDir
from ftq.settings import Settings
from ftq.spec.options import RunSpec, parse
from worker.llama.answer import Question
from worker.llama.base import base_gguf
from worker.llama.pool import Pool

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
    staged, single = [], []
    for _ in range(given.rounds):
        seconds, evaluation = stage(run)
        staged.append(seconds)
        single.append(one_by_one(run, spec))
    questions, subjects = sum(evaluation.counts.values()), len(evaluation.subjects)
    ratio = statistics.median(one / other for one, other in zip(staged, single, strict=True))
    median = statistics.median(staged)
    print("| | stage | slowest | one by one | ratio | bar |\n|---|---|---|---|---|---|")
    print(f"| {questions} questions, {subjects} models | {median:.1f} s | {max(staged):.1f} s "
          f"| {statistics.median(single):.1f} s | {ratio:.2f} | {BAR:.0f} s |")  # fmt: skip
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


def one_by_one(run: RunDir, spec: RunSpec) -> float:
    questions = choose(run, spec.eval_questions, spec.seed).questions
    tokens, began = most_tokens(questions, spec.max_tokens), time.perf_counter()
    files = [(base_gguf(spec.model, DatasetReport.read(run.dataset).base_revision), True)]
    files += [(run.gguf(name), spec.format == "chat") for name in spec.quantizations]
    pool = Pool(most=1)
    try:
        for file, chat in files:
            for one in questions:
                pool.ask(file, Question(one.text, one.input, tokens, 0.0, spec.seed, chat))
    finally:
        pool.close()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
