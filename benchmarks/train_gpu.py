"""How fast ftq's train stage is on a GPU, beside the trainers people use, in one run on one machine.

    python -m benchmarks.train_gpu WORK_DIR [--models phi-3.5-mini llama-3.1-8b] [--only NAME ...] [--json FILE]

WORK_DIR holds what `benchmarks/peers` made: a folder for each model, rows-N.jsonl, and in lf/ and axolotl/ the
packages of those peers. Every case is a process of its own. While one has the GPU the next does its imports; the GPU
itself is one's alone. ftq's cases are started as its supervisor does it, from a standby: their clock runs from the
message to the process, the peers' from their own start.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftq.artifacts import RunDir, write_json
from worker.process import StageProcess
from worker.standby import Standby

STEPS = 24
LEASE = 3600.0
PATIENCE = 240.0  # seconds for one case
STOP = "<|im_end|>"  # of the tokenizer that every model here has
GIB = 2**30


@dataclass(frozen=True)
class Case:
    """`module` is a peer's runner, or empty for ftq. `limit`: GiB of memory, as if the card had no more."""

    name: str
    model: str
    module: str = ""
    options: tuple[str, ...] = ()
    limit: float | None = None
    path: tuple[str, ...] = ()  # folders of WORK_DIR that go before the others on PYTHONPATH


PACKED = ("--bs", "8", "--ga", "1", "--packing")
SIXTEEN, FOUR = ("--no-four", "--ckpt", "none"), ("--ckpt", "unsloth")


def cases(model: str) -> list[Case]:
    """In the order in which they run: ftq's first one finds no compiled kernels, the second those of the first."""
    return [
        Case("ftq, first run", model),
        Case("ftq, later run", model),
        Case("unsloth 16 bit", model, "unsloth_script", (*PACKED, *SIXTEEN)),
        Case("unsloth 4 bit", model, "unsloth_script", (*PACKED, *FOUR)),
        Case("llama-factory 16 bit", model, "llamafactory", (*PACKED, *SIXTEEN, "--kernels"), path=("lf", "bnb")),
        Case("llama-factory 4 bit", model, "llamafactory", (*PACKED, "--kernels"), path=("lf", "bnb")),
        Case("axolotl 16 bit", model, "axolotl", (*PACKED, *SIXTEEN), path=("axolotl",)),
        Case("axolotl 4 bit", model, "axolotl", PACKED, path=("axolotl",)),
        Case("plain trl 16 bit", model, "plain", (*PACKED, "--no-four", "--ckpt", "true")),
        Case("plain trl 4 bit", model, "plain", ("--bs", "2", "--ga", "4")),
        Case("ftq in 24 GiB", model, limit=24),
        Case("unsloth in 24 GiB", model, "unsloth_script", (*PACKED, "--no-four", "--ckpt", "unsloth"), limit=24),
        Case("ftq in 8 GiB", model, limit=8),
        Case("unsloth in 8 GiB", model, "unsloth_script", (*PACKED, *FOUR), limit=8),
        Case("ftq in 6 GiB", model, limit=6),
    ]


@dataclass
class Started:
    """A case whose process imports, or waits for its turn."""

    case: Case
    standby: Standby | None = None
    process: subprocess.Popen[str] | None = None
    lock: Any = None
    facts: dict[str, Any] = field(default_factory=dict)


class Bench:
    def __init__(self, work: Path, rows: Path, caches: Path) -> None:
        self.work, self.rows, self.caches = work, rows, caches

    def start(self, case: Case) -> Started:
        """Let it do everything that needs no GPU to itself."""
        if not case.module:
            with _environment(self._ftq_environment(case)):
                return Started(case, standby=Standby(self.work / "logs" / "standby.log", LEASE))
        path = self.work / "locks" / case.name.replace(" ", "-")
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        limit = () if case.limit is None else ("--limit-gib", str(case.limit))
        command = [sys.executable, "-m", f"benchmarks.peers.{case.module}", str(self.work / case.model), str(self.rows),
                   *case.options, *limit, "--steps", str(STEPS), "--gpu-lock", str(path)]  # fmt: skip
        before = [str(self.work / name) for name in case.path]
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join([*before, os.environ.get("PYTHONPATH", ""), os.getcwd()]),
            "DISABLE_VERSION_CHECK": "1", "AXOLOTL_DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        log = (self.work / "logs" / f"{case.model}-{path.name}.log").open("w")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        return Started(case, process=process, lock=lock)

    def finish(self, started: Started) -> dict[str, Any]:
        """Give it the GPU and wait for its result."""
        case = started.case
        facts = self._finish_ftq(started) if started.standby else _finish_peer(started)
        return {"case": case.name, "model": case.model, "limit_gib": case.limit, **facts}

    def _ftq_environment(self, case: Case) -> dict[str, str]:
        return {
            "FTQ_CACHE": str(self.caches / case.model),
            "FTQ_MEMORY_GB": "" if case.limit is None else str(case.limit),
        }

    def _finish_ftq(self, started: Started) -> dict[str, Any]:
        case, standby = started.case, started.standby
        assert standby
        run = self._run(case)
        until = time.monotonic() + PATIENCE
        while not standby.ready and standby.alive and time.monotonic() < until:
            time.sleep(0.1)
        facts: dict[str, Any] = {"steps": STEPS}
        began = time.monotonic()
        arguments = [str(run.path), "--attempt", "1", "--set", f"max_steps={STEPS}"]
        with StageProcess("train", arguments, run.log("train"), LEASE, run.path, take_standby=lambda: standby) as stage:
            facts["from_standby"] = stage.stood_by
            while stage.running and time.monotonic() < until:
                for report in stage.reports(timeout=0.2):
                    _take(report, facts, time.monotonic() - began)
            for report in stage.last_reports():
                _take(report, facts, time.monotonic() - began)
        return facts

    def _run(self, case: Case) -> RunDir:
        """A run with its dataset, as prepare would leave it."""
        run = RunDir(self.work / "runs" / f"{case.model}-{case.name.replace(' ', '-').replace(',', '')}")
        shutil.rmtree(run.path, ignore_errors=True)
        run.dataset.mkdir(parents=True)
        shutil.copyfile(self.rows, run.dataset / "train.jsonl")
        (run.dataset / "valid.jsonl").write_text("")
        write_json(run.dataset / "report.json", {"stop": STOP, "max_seq_length": 2048})
        spec = {"model": str(self.work / case.model), "documents": "documents"}
        write_json(run.path / "run.json", {"id": "bench", "name": "bench", "spec": spec, "documents_hash": ""})
        return run


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
    code = ("from worker.stages import train_plan as t; import torch; "
            "print(t._flops('cuda', 'bfloat16', 8192) if torch.cuda.is_available() else '')")  # fmt: skip
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout.split()
    return float(said[-1]) if said else None


def table(results: list[dict[str, Any]]) -> str:
    lines = ["| model | what | tokens/s | of ftq's first run | peak GiB | predicted | first step after |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    base = {row["model"]: row.get("tokens_per_s") for row in results if row["case"] == "ftq, first run"}
    for row in results:
        speed, ours = row.get("tokens_per_s"), base.get(row["model"])
        ratio = f"{speed / ours:.2f}" if speed and ours else ""
        predicted = row.get("plan", {}).get("predicted", {}).get("peak")
        lines.append(
            f"| {row['model']} | {row['case']} | {f'{speed:,.0f}' if speed else row.get('error') or ''} | {ratio} | "
            f"{row.get('peak_gib') or ''} | {f'{predicted / GIB:.2f}' if predicted else ''} | "
            f"{row.get('seconds_to_first_step') or ''} |"
        )
    return "\n".join(lines)


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.train_gpu", description=__doc__)
    arguments.add_argument("work", type=Path)
    arguments.add_argument("--models", nargs="+", default=["phi-3.5-mini", "llama-3.1-8b"])
    arguments.add_argument("--rows", type=int, default=20000)
    arguments.add_argument("--only", nargs="+", help="names of cases")
    arguments.add_argument("--json", type=Path, help="where the raw results go")
    given = arguments.parse_args()
    bench = Bench(
        given.work.resolve(), given.work.resolve() / f"rows-{given.rows}.jsonl", given.work.resolve() / "caches"
    )
    (bench.work / "logs").mkdir(exist_ok=True)
    wanted = [case for model in given.models for case in cases(model) if not given.only or case.name in given.only]
    results: list[dict[str, Any]] = []
    following = bench.start(wanted[0])
    for at, _ in enumerate(wanted):
        current = following
        if at + 1 < len(wanted):
            following = bench.start(wanted[at + 1])
        results.append(bench.finish(current))
        print(json.dumps({key: value for key, value in results[-1].items() if key != "result"}), flush=True)
        if given.json:
            given.json.write_text(json.dumps({"matrix_flops": None, "results": results}, indent=1) + "\n")
    flops = matrix_flops()
    if given.json:
        given.json.write_text(json.dumps({"matrix_flops": flops, "results": results}, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
