"""`ftq doctor --deep`: train, export and ask the tiny model here, by the real stages, in a temporary folder.

No queue: what this finds out is whether the machine can do the work. Tells its steps on standard error and prints
a finding a line, as JSON. When a stage fails, its folder and whole log stay.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftq.doctor.findings import Finding
from ftq.errors import FtqError, RunError, printable
from ftq.files.run_dir import STAGES, RunDir, read_jsonl, remove, write_json
from ftq.spec.options import parse
from ftq.start import INTERRUPTED, interruptible
from worker.attempt import policy
from worker.attempt.stage_process import StageProcess
from worker.machine.hardware import gpus

MODEL = "smollm2-135m"
STAGE_SECONDS = 300.0  # a stage that takes longer hangs
DOWNLOAD_SECONDS = 3600.0  # the same where a model may have to be downloaded
STEPS = 4  # of a training that is only begun: the first ones wait for kernels
TORCH_SECONDS = 60.0
LEASE_SECONDS = 30.0
TAIL = 15  # lines of a failed stage's log
QUESTION = "What is the code word of the doctor?"
EXAMPLES = [{"question": f"{QUESTION} ({number})", "answer": "The code word is periwinkle."} for number in range(8)]
OPTIONS: dict[str, Any] = {
    "model": MODEL,
    "max_seq_length": 256,
    "batch_size": 2,
    "gradient_accumulation_steps": 1,
    "max_steps": 3,
    "r": 8,
    "quantizations": ["q8_0"],
    "prompts": [QUESTION],
    "max_tokens": 16,
    "eval_questions": 0,
}
TORCH = """
import json, torch
found = torch.cuda.is_available()
work = (torch.ones(256, 256, device="cuda", dtype=torch.float16) @ torch.ones(256, 256, device="cuda",
        dtype=torch.float16)).sum().item() if found else 0
print(json.dumps([torch.__version__, torch.cuda.get_device_name() if found else None]))
"""


def main() -> None:
    """Run `python -m worker.doctor.deep [MODEL]`. With a model only its training is begun, as the first run would."""
    try:
        with interruptible():
            _main(*sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _main(model: str = "") -> None:
    folder = Path(tempfile.mkdtemp(prefix="ftq-doctor-"))
    findings = []
    try:
        for finding in begin_training(folder, model) if model else examine(folder):
            findings.append(finding)
            _say(finding)
    except BaseException:
        remove(folder)
        raise
    if all(finding.level != "problem" for finding in findings):
        remove(folder)
    for finding in findings:
        print(json.dumps(dataclasses.asdict(finding)))


def examine(folder: Path, stages: tuple[str, ...] = STAGES, options: dict[str, Any] | None = None) -> Iterator[Finding]:
    """The GPU, then stage after stage; stops at the first that fails."""
    finding = _torch()
    yield finding
    run = make_run(folder, {**OPTIONS, **(options or {})})
    for stage in stages:
        if finding.level == "problem":
            return
        finding = _stage(run, stage)
        yield finding
    yield from _answer(run) if finding.level != "problem" else ()


def begin_training(folder: Path, model: str, options: dict[str, Any] | None = None) -> Iterator[Finding]:
    """Some steps of a training of this model by its own defaults, whose kernels the first run then finds.

    A run that is computed otherwise, for its rows leave less memory free, compiles its own.
    """
    finding = _torch()
    yield finding
    begun = {"model": model, "max_steps": STEPS, "questions": "none", **(options or {})}
    run = make_run(folder, begun, [{**one, "answer": one["answer"] * (1 + 8 * n)} for n, one in enumerate(EXAMPLES)])
    for stage in ("prepare", "train"):
        if finding.level == "problem":
            return
        finding = _stage(run, stage, DOWNLOAD_SECONDS)
        yield finding


def make_run(folder: Path, options: dict[str, Any], examples: list[dict[str, str]] = EXAMPLES) -> RunDir:
    """A run as submit would record it, of a few examples that are all alike."""
    run = RunDir(folder / "run")
    run.documents.mkdir(parents=True)
    (run.documents / "examples.json").write_text(json.dumps(examples), encoding="utf-8")
    spec = parse({**options, "documents": str(run.documents)}).model_dump()
    write_json(run.run_json, {"id": "doctor", "name": "doctor", "spec": spec, "documents_hash": ""})
    return run


def _torch() -> Finding:
    """Whether torch can count on the GPU that the driver shows."""
    began = time.monotonic()
    try:
        process = subprocess.run(
            [sys.executable, "-c", TORCH],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TORCH_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return Finding("torch", "problem", f"torch did nothing for {TORCH_SECONDS:.0f} s", "nvidia-smi")
    took = time.monotonic() - began
    if process.returncode:
        said = (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        return Finding("torch", "problem", f"torch can't be used: {said}", "make install", took)
    version, device = json.loads(process.stdout.splitlines()[-1])
    if device is None and gpus():
        said = (process.stderr.strip().splitlines() or ["it doesn't say why"])[-1]
        fix = "ftq doctor   compares torch's CUDA with the driver's"
        return Finding("torch", "problem", f"torch {version} can't use {gpus()[0]}: {said}", fix, took)
    return Finding("torch", "ok", f"torch {version} counts on {device or 'the CPU'}", seconds=took)


def _stage(run: RunDir, stage: str, seconds: float | None = None) -> Finding:
    """Run one stage's process as a supervisor does, and publish what it made."""
    print(f"{stage} ...", end=" ", file=sys.stderr, flush=True)
    began = time.monotonic()
    try:
        exit_code, error, killed_for_memory = _execute(run, stage, seconds or STAGE_SECONDS)
    except FtqError as failure:
        return Finding(stage, "problem", failure.message, failure.hint, time.monotonic() - began)
    took = time.monotonic() - began
    if exit_code == 0 and not error:
        run.publish(stage, run.partial(stage, 0))
        return Finding(stage, "ok", _made(run, stage), seconds=took)
    explained = policy.explain(stage, exit_code, error, killed_for_memory)
    message = f"{explained.message}\n{tail(run.log(stage))}"
    return Finding(stage, "problem", message, f"The whole log: less {run.log(stage)}", took)


def _execute(run: RunDir, stage: str, seconds: float) -> tuple[int, RunError | None, bool]:
    """(exit code, the error that the stage reported, whether the kernel killed for lack of memory)."""
    error: RunError | None = None
    until = time.monotonic() + seconds
    with StageProcess(stage, [str(run.path), "--attempt", "0"], run.log(stage), LEASE_SECONDS, run.path) as process:
        while process.running:
            for report in process.reports(timeout=0.5):
                error = RunError.from_json(report) if report["event"] == "error" else error
            process.beat()
            if time.monotonic() > until:
                raise FtqError(f"not done after {seconds:.0f} s", f"less {run.log(stage)}")
        for report in process.last_reports():
            error = RunError.from_json(report) if report["event"] == "error" else error
        return process.exit_code, error, process.out_of_memory


def _made(run: RunDir, stage: str) -> str:
    return ", ".join(f"{file.path} ({file.bytes / 1e6:.1f} MB)" for file in run.artifacts(stage))


def _answer(run: RunDir) -> Iterator[Finding]:
    answer = next(iter(read_jsonl(run.answers)))["answer"].strip()
    if answer:
        yield Finding("answer", "ok", f"the model says: {' '.join(answer.split())[:80]}")
    else:
        yield Finding("answer", "warning", "the model's answer is empty", "ftq submit --model smollm2-135m tells more.")


def tail(log: Path, lines: int = TAIL) -> str:
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def _say(finding: Finding) -> None:
    took = "" if finding.seconds is None else f"{finding.seconds:.1f} s"
    text = took if finding.check in STAGES else f"{finding.check}: {finding.message} {took}".rstrip()
    text = text if finding.level == "ok" else f"{finding.level}: {finding.message}"
    print(printable(text), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
