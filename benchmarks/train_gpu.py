"""How fast ftq's train stage is on a GPU, beside the trainers people use, in one run on one machine.

    python -m benchmarks.train_gpu WORK_DIR [--models phi-3.5-mini llama-3.1-8b] [--only NAME ...] [--json FILE]

WORK_DIR holds what `benchmarks/peers` made: a folder for each model, rows-N.jsonl, in lf/ and axolotl/ the packages
of those peers, in site/ those of the others. Every case is a process of its own. While one has the GPU the next does
its imports; the GPU itself is one's alone. ftq's cases are started as its supervisor does it, from a standby: their
clock runs from the message to the process, the peers' from their own start.

Speeds: ftq's own figure over its last 20 steps, by the GPU's clock: of 28, and of 64 in its later run, for its batches
differ in size, and for the first fifty some kernel is loaded in every one; of 160 with 8 examples in each. The peers'
is over the second half of 16 (8 where a step is slow), the GPU waited for at both ends. Real tokens only.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.run_folder import make_run
from ftq.files.run_dir import RunDir, read_jsonl, write_json
from ftq.plan.calibration import compare, corrections, starts
from ftq.plan.plan import Handover
from ftq.spec.weights import parameters
from worker.attempt.keeper import Standby
from worker.attempt.stage_process import StageProcess
from worker.stages.model import rows

STEPS, MORE_STEPS, PEER_STEPS, FEW_STEPS = 28, 64, 16, 8
FEW_AT_ONCE = 160  # steps that are a tenth as large
LEASE = 3600.0
WORKER, DOCUMENTS = "bench", "rows"  # whose runs these are, as far as the store is concerned
PATIENCE = 240.0  # seconds for one case
STOP = "<|im_end|>"  # of the tokenizer that every model here has
GIB = 2**30
TOLD = re.compile(r"Steps |[\d.]+ s: |standby: ")  # of the log: what is recorded or why not, and the time before steps


@dataclass(frozen=True)
class Case:
    """`module` is a peer's runner, or empty for ftq. `limit`: GiB of memory, as if the card had no more."""

    name: str
    model: str
    module: str = ""
    options: tuple[str, ...] = ()
    limit: float | None = None
    steps: int = STEPS
    gpus: int = 1
    held_out: int = 0  # one of so many examples is for validation
    path: tuple[str, ...] = ()  # folders of WORK_DIR that are on PYTHONPATH instead of what is there now
    attention: str = ""  # UNSLOTH_FLASH_ATTENTION_IMPL
    fp8: bool = False  # ftq may take FP8
    few: int = 0  # examples in a step, where ftq's own number isn't meant
    graphs: bool = True


def packed(at_once: int) -> tuple[str, ...]:
    """8 packed rows of 2048 tokens to a step, so many of them at once."""
    return "--bs", str(at_once), "--ga", str(8 // at_once), "--packing"


SIXTEEN, FOUR = ("--no-four", "--ckpt", "none"), ("--ckpt", "unsloth")


def cases(model: str) -> list[Case]:
    """In the order in which they run: ftq's first one finds no compiled kernels, the second those of the first."""

    def peer(name: str, module: str, *options: str, steps: int = PEER_STEPS, limit: float | None = None) -> Case:
        path = {"llamafactory": ("lf", "bnb"), "axolotl": ("axolotl", "site")}.get(module, ())
        return Case(name, model, module, options, limit, steps, path=path)

    full, eight, one = packed(8 if model.startswith("phi") else 4), packed(8), packed(1)
    return [
        Case("ftq, first run", model),
        Case("ftq, later run", model, steps=MORE_STEPS),
        Case("ftq with FP8, first run", model, fp8=True),
        Case("ftq with FP8, later run", model, steps=MORE_STEPS, fp8=True),
        Case("ftq, 8 examples a step", model, steps=FEW_AT_ONCE, few=8),
        Case("ftq, 8 examples a step, no CUDA graphs", model, steps=FEW_AT_ONCE, few=8, graphs=False),
        Case("ftq, 8 examples a step, one of 20 held out", model, steps=FEW_AT_ONCE, few=8, held_out=20),
        Case("ftq with FP8, 8 examples a step", model, steps=FEW_AT_ONCE, few=8, fp8=True),
        Case("ftq in 8 GiB, 8 examples a step", model, steps=FEW_AT_ONCE, few=8, limit=8),
        Case("ftq, PyTorch's own attention", model, attention="off"),  # the same where there is no other one
        Case("ftq, one of 20 held out", model, held_out=20),
        peer("unsloth 16 bit", "unsloth_script", *full, *SIXTEEN),
        peer("llama-factory 16 bit", "llamafactory", *full, *SIXTEEN, "--kernels"),
        peer("axolotl 16 bit", "axolotl", *full, *SIXTEEN, "--kernels"),
        peer("plain trl 16 bit", "plain", *eight, "--no-four", "--ckpt", "true", steps=FEW_STEPS),
        Case("ftq in 24 GiB", model, limit=24),
        Case("ftq with FP8 in 24 GiB", model, limit=24, fp8=True),
        peer("unsloth 16 bit in 24 GiB", "unsloth_script", *eight, "--no-four", "--ckpt", "unsloth", limit=24),
        peer("unsloth 16 bit in 24 GiB, 1 x 8 rows", "unsloth_script", *one, *SIXTEEN, limit=24),
        Case("ftq in 8 GiB", model, limit=8),
        peer("unsloth 4 bit in 8 GiB", "unsloth_script", *eight, *FOUR, limit=8),
        Case("ftq in 6 GiB", model, limit=6),
        Case("ftq on two GPUs", model, gpus=2),
        peer("llama-factory 4 bit", "llamafactory", *eight, "--kernels"),
        peer("axolotl 4 bit", "axolotl", *eight),
        peer("plain trl 4 bit, padded, 8 rows a step", "plain", "--bs", "2", "--ga", "4", steps=FEW_STEPS),
    ]


@dataclass
class Started:
    """A case whose process imports, or waits for its turn."""

    case: Case
    standby: Standby | None = None
    process: subprocess.Popen[str] | None = None
    lock: Any = None

    def end(self) -> None:
        if self.standby:
            self.standby.end()
        if self.process:
            self.process.kill()


class Bench:
    def __init__(self, work: Path, examples: Path, caches: Path) -> None:
        self.work, self.examples, self.caches = work, examples, caches
        self.records: list[dict[str, Any]] = []  # what ftq's store would know, the newest first

    def start(self, case: Case) -> Started:
        """Let it do everything that needs no GPU to itself."""
        if case.gpus > 1:
            return Started(case)  # its ranks are started with it
        if not case.module:
            with _environment(self._ftq_environment(case)):
                return Started(case, standby=Standby(self.work / "logs" / "standby.log", LEASE))
        lock_path = self.work / "locks" / f"{case.model}-{slug(case.name)}"
        lock_path.parent.mkdir(parents=True, exist_ok=True)
        lock = lock_path.open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        limit = () if case.limit is None else ("--limit-gib", str(case.limit))
        command = [sys.executable, "-m", f"benchmarks.peers.{case.module}", str(self.work / case.model),
                   str(self.examples), *case.options, *limit, "--steps", str(case.steps),
                   "--gpu-lock", str(lock_path)]  # fmt: skip
        path = [str(self.work / name) for name in case.path] or [os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join([*path, os.getcwd()]),
            "DISABLE_VERSION_CHECK": "1", "AXOLOTL_DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        log = (self.work / "logs" / f"{lock_path.name}.log").open("w")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        return Started(case, process=process, lock=lock)

    def finish(self, started: Started) -> dict[str, Any]:
        """Give it the GPU and wait for its result."""
        case = started.case
        facts = _finish_peer(started) if case.module else self._finish_ftq(started)
        return {"case": case.name, "model": case.model, "limit_gib": case.limit, **facts}

    def _ftq_environment(self, case: Case) -> dict[str, str]:
        return {
            "FTQ_CACHE": str(self.caches / case.model),
            "FTQ_MEMORY_GB": "" if case.limit is None else str(case.limit),
            **({"UNSLOTH_FLASH_ATTENTION_IMPL": case.attention} if case.attention else {}),
        }

    def _finish_ftq(self, started: Started) -> dict[str, Any]:
        case, standby = started.case, started.standby
        run = self._run(case)
        until = time.monotonic() + PATIENCE
        while standby and not standby.ready and standby.alive and time.monotonic() < until:
            time.sleep(0.1)
        facts: dict[str, Any] = {"steps": case.steps}
        began = time.monotonic()
        # The first steps of a long run: a short one's would be smaller.
        arguments = [str(run.path), "--attempt", "1", "--set", f"max_steps={case.steps}", "--set", "epochs=100"]
        if case.gpus > 1:  # as many examples for each as one would have
            arguments += ["--set", f"gpus={case.gpus}", "--set", "batch_size=64",
                          "--set", f"gradient_accumulation_steps={case.gpus}"]  # fmt: skip
        if case.fp8:
            arguments += ["--set", f"load_in_fp8={'true' if case.few else 'auto'}"]  # auto: not for steps that small
        if case.few:
            arguments += ["--set", f"step_examples={case.few}", "--set", f"cuda_graphs={str(case.graphs).lower()}"]
        if case.held_out:
            arguments += ["--set", f"eval_steps={case.steps // 2}"]
        take = partial(StageProcess, "train", arguments, run.log("train"), LEASE, run.path)
        with _environment(self._ftq_environment(case)), take(take_standby=lambda: standby) as stage:
            facts["from_standby"] = stage.stood_by
            while stage.running and time.monotonic() < until:
                for report in stage.reports(timeout=0.2):
                    _take(report, facts, time.monotonic() - began)
            for report in stage.last_reports():
                _take(report, facts, time.monotonic() - began)
        facts["told"] = [line for line in lines_of(run.log("train")) if TOLD.match(line)]
        if plan := facts.get("plan"):
            self.records.insert(0, plan | {"worker": WORKER, "model": case.model, "documents_hash": DOCUMENTS})
        if case.held_out and facts.get("tokens_per_s"):
            facts["evaluation"] = evaluation(run, facts["tokens_per_s"])
        return facts | {"error_of_prediction": {name: one["error"] for name, one in compare(facts.get("plan")).items()}}

    def _run(self, case: Case) -> RunDir:
        """A run that knows what those before it have shown."""
        path = self.work / "runs" / f"{case.model}-{slug(case.name)}"
        shutil.rmtree(path, ignore_errors=True)
        train, valid = lines_of(self.examples), []
        if case.held_out:
            valid = train[:: case.held_out]
            del train[:: case.held_out]
        run = prepared(path, self.work / case.model, train, valid)
        records = sorted(self.records, key=lambda record: bool(record["model"] != case.model))
        begun = starts(records, WORKER, case.model, DOCUMENTS)
        Handover(corrections=corrections(records, WORKER, case.model), starts=begun).write(run)
        return run


def slug(name: str) -> str:
    """A case's name as a file's."""
    return name.replace(" ", "-").replace(",", "").replace("'", "")


def lines_of(path: Path) -> list[str]:
    """A file's lines, each with its end."""
    with path.open(encoding="utf-8") as file:
        return list(file)


def prepared(path: Path, model: Path, train: list[str], valid: list[str]) -> RunDir:
    """A run with its dataset, as prepare would leave it; an example is a line of JSON."""
    run = make_run(path, {"model": str(model), "documents": "documents"})
    run.dataset.mkdir()
    (run.dataset / "train.jsonl").write_text("".join(train), encoding="utf-8")
    (run.dataset / "valid.jsonl").write_text("".join(valid), encoding="utf-8")
    rows.write(run.dataset, model, STOP)
    write_json(run.dataset / "report.json", {"stop": STOP, "max_seq_length": 2048})
    return run


def evaluation(run: RunDir, tokens_per_s: float) -> dict[str, Any]:
    """How long each look at the held out examples took, in seconds; the last one's share of an epoch's time."""
    from safetensors.numpy import load_file

    metrics = read_jsonl(run.checkpoints / "1" / run.metrics.name)  # of the first attempt, which nobody has accepted
    seconds = [line["valid_seconds"] for line in metrics if "valid_seconds" in line]
    training = float(load_file(run.dataset / rows.FILE)["train_lengths"].sum()) / tokens_per_s
    return {"seconds": seconds, "share": round(seconds[-1] / (seconds[-1] + training), 4)}


def _take(report: dict[str, Any], facts: dict[str, Any], seconds: float) -> None:
    event = report.pop("event")
    if event == "plan":
        facts.setdefault("plan", {}).update({key: value for key, value in report.items() if value != ""})
        if "measured" in report:
            facts["tokens_per_s"] = report["measured"]["tokens_per_second"]
            facts["peak_gib"] = round((report["measured"]["peak"] or 0) / GIB, 2)
    elif event == "progress" and report.get("step"):
        facts.setdefault("seconds_to_first_step", round(seconds, 2))
    elif event == "error":
        facts["error"] = report["message"]


def _finish_peer(started: Started) -> dict[str, Any]:
    process = started.process
    assert process
    started.lock.close()
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    lines = [line.removeprefix("RESULT ") for line in output.splitlines() if line.startswith("RESULT ")]
    if not lines:
        return {"error": f"no result, exit code {process.returncode}"}
    found = json.loads(lines[-1])
    return {
        "tokens_per_s": found.get("tokens_per_s"), "peak_gib": found.get("train_peak_gib"), "error": found["error"],
        "seconds_to_first_step": found["seconds"].get("ready"), "tokens_per_step": found.get("tokens_per_step"),
        "result": found,
    }  # fmt: skip


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def matrix_flops() -> float | None:
    """FLOP/s of a large bfloat16 matrix product on this GPU, in a process of its own."""
    code = (
        "from worker.stages.engine.device import flops; import torch; "
        "print(flops('cuda', 'bfloat16', 8192) if torch.cuda.is_available() else '')"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout.split()
    return float(said[-1]) if said else None


def table(results: list[dict[str, Any]]) -> str:
    lines = ["| model | what | tokens/s | ftq's later run is ahead by | peak GiB | prediction off by: memory, time "
             "| first step after |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    base = {row["model"]: row.get("tokens_per_s") for row in results if row["case"] == "ftq, later run"}
    for row in results:
        speed, ours = row.get("tokens_per_s"), base.get(row["model"])
        ratio = f"{ours / speed:.2f} x" if speed and ours else ""
        off = ", ".join(f"{error:+.1%}" for error in row.get("error_of_prediction", {}).values())
        lines.append(
            f"| {row['model']} | {row['case']} | {f'{speed:,.0f}' if speed else row.get('error') or ''} | {ratio} | "
            f"{row.get('peak_gib') or ''} | {off} | {row.get('seconds_to_first_step') or ''} |"
        )
    return "\n".join(lines)


def arithmetic(results: list[dict[str, Any]], flops: float, weights: dict[str, int]) -> str:
    """How much of the card's arithmetic the training itself needs: 4 FLOPs a weight and token."""
    return "\n".join(
        f"{row['model']}, {row['case']}: {4 * weights[row['model']] * row['tokens_per_s'] / flops:.0%} of "
        f"{flops / 1e12:.0f} TFLOP/s"
        for row in results
        if row.get("tokens_per_s") and row["case"].startswith("ftq")
    )


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.train_gpu", description=__doc__)
    arguments.add_argument("work", type=Path)
    arguments.add_argument("--models", nargs="+", default=["phi-3.5-mini", "llama-3.1-8b"])
    arguments.add_argument("--rows", type=int, default=20000)
    arguments.add_argument("--only", nargs="+", help="names of cases")
    arguments.add_argument("--card", type=float, help="GiB of memory, as if the card had no more")
    arguments.add_argument("--ahead", type=int, default=1, help="cases that import while one trains")
    arguments.add_argument("--seconds", type=float, default=math.inf, help="start no case later than that")
    arguments.add_argument("--json", type=Path, help="where the raw results go")
    given = arguments.parse_args()
    bench = Bench(
        given.work.resolve(), given.work.resolve() / f"rows-{given.rows}.jsonl", given.work.resolve() / "caches"
    )
    (bench.work / "logs").mkdir(exist_ok=True)
    waiting = [case for model in given.models for case in cases(model) if not given.only or case.name in given.only]
    waiting = [replace(case, limit=case.limit or given.card) for case in waiting]
    found: dict[str, Any] = {
        "matrix_flops": matrix_flops(), "results": [],
        "parameters": {model: parameters(bench.work / model) for model in given.models},
    }  # fmt: skip
    started: list[Started] = []
    began = time.monotonic()
    while started or waiting:
        while waiting and len(started) <= given.ahead:
            started.append(bench.start(waiting.pop(0)))
        if time.monotonic() - began > given.seconds:
            break
        result = bench.finish(started.pop(0))
        found["results"].append(result)
        short = {key: value for key, value in result.items() if key not in ("result", "plan", "told")}
        print(json.dumps(short), flush=True)
        if given.json:
            given.json.write_text(json.dumps(found, indent=1) + "\n")
    for left in started:
        left.end()
    print(table(found["results"]))
    if found["matrix_flops"]:
        print(arithmetic(found["results"], found["matrix_flops"], found["parameters"]))


if __name__ == "__main__":
    main()
