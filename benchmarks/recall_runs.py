"""What SmolLM2-135M learns of the manuals of benchmarks/documents/, by several ways to make a dataset of them.

    python -m benchmarks.recall_runs --manuals DIR --variant NAME[:KEY=VALUE,...] ... [--only MANUAL ...] [--out DIR]

DIR has a folder for each manual (benchmarks/documents/README.md says how to get them). For every manual and variant a
run goes through `ftq up`'s queue: prepare, train, export as q8_0, and infer with the manual's 40 questions as its
prompts. A variant is a name and the options that it sets. The table is benchmarks.recall's; `--out` gets the answers
and a summary as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from benchmarks.recall import Manual, load, measure, read_rows, score, table
from benchmarks.up import FTQ, up
from ftq.client.client import Client
from ftq.examples.report import DatasetReport
from ftq.files.run_dir import read_jsonl
from ftq.store.records import Run
from worker.llama.answer import Answer

QUESTIONS = Path(__file__).parent / "documents"
FLOWER_PORT = "5575"
COMMON: dict[str, Any] = {"model": "smollm2-135m", "quantizations": ["q8_0"], "keep_merged": False, "max_tokens": 64}


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.recall_runs")
    arguments.add_argument("--manuals", type=Path, required=True)
    arguments.add_argument("--variant", action="append", required=True, metavar="NAME[:KEY=VALUE,...]")
    arguments.add_argument("--only", action="append", default=[], metavar="MANUAL")
    arguments.add_argument("--questions", type=Path, default=QUESTIONS, help="a folder with a file for each manual")
    arguments.add_argument("--out", type=Path, help="a folder for answers and summary.json")
    arguments.add_argument("--workers", type=int, default=1, help="that train at the same time, on one card")
    arguments.add_argument("--seconds", type=float, default=3600, help="then what is finished is shown")
    given = arguments.parse_args()
    manuals = [load(path) for path in sorted(given.questions.glob("*.json"))]
    manuals = [manual for manual in manuals if not given.only or manual.name in given.only]
    os.environ.setdefault("FTQ_HOME", tempfile.mkdtemp(prefix="ftq-recall-"))
    until = time.monotonic() + given.seconds
    with up(FLOWER_PORT, until) as client, beside(given.workers - 1):
        runs = {
            (manual.name, text.partition(":")[0]): submit(manual, given.manuals / manual.name, text)
            for text in given.variant
            for manual in manuals
        }
        finished = {key: wait(client, run_id, until) for key, run_id in runs.items()}
    summary = [line for manual in manuals for line in show(client, manual, finished, given.out)]
    if given.out:
        (given.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    sys.exit(any(run.status != "succeeded" for run in finished.values()))


@contextlib.contextmanager
def beside(workers: int) -> Iterator[None]:
    """So many more workers, which share the GPU of the first one."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(workers):
            words = ["worker", "--queues", "cpu,gpu", "--name", f"more{number + 1}"]
            started.append(subprocess.Popen([*FTQ, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        yield
    finally:
        for worker in started:
            worker.terminate()
            worker.wait(30)


def submit(manual: Manual, documents: Path, variant: str) -> str:
    name, _, options = variant.partition(":")
    config = {**COMMON, "documents": str(documents), "prompts": [asked.question for asked in manual.questions]}
    sets = [word for option in filter(None, options.split(",")) for word in ("--set", option)]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(config, file)
        file.flush()
        words = ["submit", "--config", file.name, "--name", f"{manual.name}-{name}", "--json", *sets]
        done = subprocess.run([*FTQ, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    run_id: str = json.loads(done.stdout)["id"]
    return run_id


def wait(client: Client, run_id: str, until: float) -> Run:
    while not (run := client.store.get(run_id)).is_finished and time.monotonic() < until:
        time.sleep(0.5)
    print(f"{run.name}: {run.status} {run.error or ''}", flush=True)
    return run


def show(
    client: Client, manual: Manual, finished: dict[tuple[str, str], Run], out: Path | None
) -> Iterator[dict[str, Any]]:
    """Print the manual's table, and yield each run's counts."""
    recalls = {}
    for (name, variant), run in finished.items():
        folder = client.run_dir(run.id)
        path = folder.path / "answers.jsonl"
        if name != manual.name or not path.is_file():
            continue
        rows = list(read_jsonl(path))
        answers = [Answer(**{key: row[key] for key in Answer.__dataclass_fields__ if key in row}) for row in rows]
        recalls[variant] = recall = score(manual, answers)
        taught = measure(manual, read_rows(folder.dataset / "train.jsonl"))
        train = run.stage("train")
        report = DatasetReport.read(folder.dataset)
        yield {
            "manual": name, "variant": variant, **vars(recall), "short_rows": sum(one.short for one in taught),
            "rows": report.train, "tokens": report.tokens.total, "step": (train.progress or {}).get("step"),
            "train_seconds": round((train.finished_at or 0) - (train.started_at or 0), 1),
        }  # fmt: skip
        if out:
            out.mkdir(parents=True, exist_ok=True)
            (out / f"{name}-{variant}.jsonl").write_bytes(path.read_bytes())
    print(table(manual, recalls), flush=True)


if __name__ == "__main__":
    main()
