"""What SmolLM2-135M learns of manuals by many settings: to choose defaults by, many trainings a card.

    python -m benchmarks.recall_loop rows --manuals DIR --rows DIR --setting NAME[:KEY=VALUE,...] ...
    python -m benchmarks.recall_loop teach --rows DIR --setting NAME[:KEY=VALUE,...] ... [--seeds 2] [--out FILE]

`rows` prepares each manual's dataset for each setting, and needs no GPU. `teach` trains and asks: a process for each
manual, setting and seed, several on a card at once. DIR has a folder for each manual; `--questions` is a folder with a
file for each (benchmarks/documents/development/ unless told: what is chosen by the blind ones is no longer blind).
A setting is a name and options of ftq's, or `full=true`: all weights are trained instead of an adapter.

It is ftq's own train stage, in a process of its own, that trains; with `full=true` a plain loop of PyTorch. Answers are
greedy ones of the model in 16 bit. What it can't say is how a run through the queue does, with its export in 8 bit:
that is benchmarks.recall_runs. The table has for each setting the sums over manuals and seeds, and how well the
probability of a refusal tells what nothing answers from what the manual answers (the area under the ROC curve; 0.5 is
chance), and how many would be refused if that was done from the probability on that refuses a tenth wrongly.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.documents_speed import prepared
from benchmarks.recall import Manual, judge, load
from benchmarks.recall_model import asked, loaded, train
from benchmarks.run_folder import make_run
from ftq.evaluation.evaluation import Verdict
from ftq.examples.report import DatasetReport
from ftq.files.run_dir import RunDir
from ftq.spec import weights
from ftq.spec.options import RunSpec, parse
from ftq.spec.recipe import decided
from worker.attempt.stage_process import StageProcess
from worker.stages.model import base_model, rows
from worker.stages.model.tokens import Tokens
from worker.stages.model.varied import varied

QUESTIONS = Path(__file__).parent / "documents/development"
MODEL = "smollm2-135m"
# And the epochs, rounded up.
OF_ROWS = ("model", "questions", "exposures", "refusals", "skip_rules", "valid_fraction", "topic")
TENTH = 0.1
POLL_SECONDS, LEASE = 0.2, 3600.0


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.recall_loop")
    arguments.add_argument("part", choices=["rows", "teach", "table"])
    arguments.add_argument("--manuals", type=Path, help="a folder with a folder for each manual")
    arguments.add_argument("--rows", type=Path, required=True, help="where the datasets lie")
    arguments.add_argument("--questions", type=Path, default=QUESTIONS)
    arguments.add_argument("--setting", action="append", default=[], metavar="NAME[:KEY=VALUE,...]")
    arguments.add_argument("--seeds", type=int, default=2)
    arguments.add_argument("--at-once", type=int, default=4, help="trainings on a card")
    arguments.add_argument("--seconds", type=float, default=3600, help="then no further training begins")
    arguments.add_argument("--out", type=Path, default=Path("recall_loop.jsonl"), help="a line for each training")
    arguments.add_argument("--job", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.job:
        print(json.dumps(taught(**json.loads(given.job))))
        return
    manuals = [load(path) for path in sorted(given.questions.glob("*.json"))]
    if given.part == "rows":
        for manual in manuals:
            for setting in given.setting:
                make_rows(given.manuals / manual.name, given.rows, options_of(setting))
    if given.part == "teach":
        teach(manuals, given)
    show(given.out, manuals)


# ---- settings and their rows --------------------------------------------------------------------------------


def options_of(setting: str) -> dict[str, Any]:
    words = [word.partition("=") for word in setting.partition(":")[2].split(",") if word]
    return {"model": MODEL, **{key: yaml.safe_load(value) for key, _, value in words}}


def spec_of(options: dict[str, Any], seed: int = 0) -> RunSpec:
    return parse({**{key: value for key, value in options.items() if key != "full"}, "seed": seed})


def dataset_of(manual: str, rows_dir: Path, options: dict[str, Any]) -> Path:
    """The folder of the rows: settings that differ only in how they train share it."""
    spec = spec_of(options)
    made_by = [*(getattr(spec, name) for name in OF_ROWS), math.ceil(spec.epochs)]
    return rows_dir / manual / hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:12]


def make_rows(documents: Path, rows_dir: Path, options: dict[str, Any]) -> None:
    folder = dataset_of(documents.name, rows_dir, options)
    if folder.exists():
        return
    made = folder.with_suffix(".part")
    made.mkdir(parents=True, exist_ok=True)
    chosen = {key: value for key, value in options.items() if key in (*OF_ROWS, "epochs")}
    count = prepared(documents, made, **chosen)
    (made / "prepared" / "dataset").rename(folder)
    print(f"{documents.name}, {chosen}: {count:,} tokens in {folder}", flush=True)


# ---- many trainings -----------------------------------------------------------------------------------------


def teach(manuals: list[Manual], given: argparse.Namespace) -> None:
    """Start each training that `--out` doesn't have, in turns of settings, so that all have as many if time ends."""
    done = {(one["manual"], one["setting"], one["seed"]) for one in lines_of(given.out)}
    jobs = [
        (manual, setting, seed)
        for seed in range(given.seeds)
        for manual in manuals
        for setting in given.setting
        if (manual.name, setting, seed) not in done
    ]
    free = cards() * given.at_once
    until = time.monotonic() + given.seconds
    running: list[tuple[subprocess.Popen[str], str]] = []
    while (jobs and time.monotonic() < until) or running:
        while jobs and free and time.monotonic() < until:
            manual, setting, seed = jobs.pop(0)
            card = free.pop(0)
            file = given.questions / f"{manual.name}.json"
            job = {"questions": str(file), "rows_dir": str(given.rows), "setting": setting, "seed": seed}
            command = [sys.executable, "-m", "benchmarks.recall_loop", "teach", "--rows", str(given.rows)]
            environment = {**os.environ, "CUDA_VISIBLE_DEVICES": card, "OMP_NUM_THREADS": "2"}
            process = subprocess.Popen(
                [*command, "--job", json.dumps(job)], stdout=subprocess.PIPE, text=True, env=environment
            )
            running.append((process, card))
        for one in [one for one in running if one[0].poll() is not None]:
            running.remove(one)
            free.append(one[1])
            said = one[0].communicate()[0]
            if one[0].returncode == 0:
                with given.out.open("a") as out:
                    out.write(said.splitlines()[-1] + "\n")
        time.sleep(POLL_SECONDS)


def cards() -> list[str]:
    import torch

    return [str(number) for number in range(torch.cuda.device_count())] or [""]


def taught(questions: str, rows_dir: str, setting: str, seed: int) -> dict[str, Any]:
    """Train on the manual's rows and ask its questions."""
    import torch

    manual, options = load(Path(questions)), options_of(setting)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model_dir = base_model.resolve(options["model"])
    dataset, spec = dataset_of(manual.name, Path(rows_dir), options), spec_of(options, seed)
    report = DatasetReport.read(dataset)
    began = time.monotonic()
    if options.get("full"):
        torch.manual_seed(seed)
        spec = decided(spec, weights.parameters(model_dir))
        whole, _ = rows.read(dataset, model_dir, report, spec.train_on_prompt)
        model = loaded(model_dir, device, full=True)
        steps, loss = train(model, varied(whole, dataset, model_dir, spec, report), spec, device)
    else:
        with tempfile.TemporaryDirectory(prefix="ftq-recall-") as folder:
            run, (steps, loss) = by_stage(Path(folder), dataset, spec)
            model = loaded(model_dir, device, run.partial("train", 1) / "adapter")
    trained = time.monotonic()
    answers, refusal = asked(model, manual, Tokens(model_dir), report.stop, device)
    return {
        "manual": manual.name, "setting": setting, "seed": seed, "rows": report.train, "steps": steps, "loss": loss,
        "train_seconds": round(trained - began, 1), "ask_seconds": round(time.monotonic() - trained, 1),
        "answers": answers, "refusal": refusal,
    }  # fmt: skip


def by_stage(folder: Path, dataset: Path, spec: RunSpec) -> tuple[RunDir, tuple[int, float]]:
    """A run trained by ftq's train stage, and its (optimiser steps, last loss that was told)."""
    run, told = make_run(folder, {**spec.model_dump(), "documents": "documents"}), (0, math.nan)
    shutil.copytree(dataset, run.dataset)
    log = run.log("train")
    with StageProcess("train", [str(folder), "--attempt", "1"], log, LEASE, folder) as process:
        while process.running:
            for report in process.reports(timeout=POLL_SECONDS):
                told = (report.get("step") or told[0], report.get("loss") or told[1])
    if not (run.partial("train", 1) / "adapter").is_dir():
        raise SystemExit(log.read_text()[-3000:])
    return run, told


# ---- what came of it ----------------------------------------------------------------------------------------


def show(path: Path, manuals: list[Manual]) -> None:
    """The table of all trainings that are in the file."""
    print("| setting | trainings | right | refused | wrongly refused | told apart | refused at a tenth wrongly |")
    print("|---|---|---|---|---|---|---|")
    by_name, found = {manual.name: manual for manual in manuals}, dict[str, list[dict[str, Any]]]()
    for line in lines_of(path):
        if line["manual"] in by_name:
            found.setdefault(line["setting"], []).append(line)
    for setting, lines in found.items():
        right = wrongly = refused = known = unknown = at_tenth = 0
        areas = []
        for line in lines:
            manual = by_name[line["manual"]]
            number = len(manual.answerable)
            said = [judge(one, answer) for one, answer in zip(manual.questions, line["answers"], strict=True)]
            known, unknown = known + number, unknown + len(manual.unanswerable)
            right += said[:number].count(Verdict.RIGHT)
            wrongly += said[:number].count(Verdict.REFUSED)
            refused += said[number:].count(Verdict.REFUSED)
            areas.append(area(line["refusal"][number:], line["refusal"][:number]))
            limit = sorted(line["refusal"][:number], reverse=True)[math.floor(TENTH * number)]
            at_tenth += sum(chance > limit for chance in line["refusal"][number:])
        print(
            f"| {setting} | {len(lines)} | {right} of {known} | {refused} of {unknown} | {wrongly} of {known} "
            f"| {sum(areas) / len(areas):.2f} | {at_tenth} of {unknown} |"
        )


def area(positive: list[float], negative: list[float]) -> float:
    """Under the ROC curve: how often a positive lies above a negative, ties as halves (Mann and Whitney's U)."""
    above = sum((one > other) + (one == other) / 2 for one in positive for other in negative)
    return above / (len(positive) * len(negative))


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().split("\n") if line] if path.is_file() else []


if __name__ == "__main__":
    main()
