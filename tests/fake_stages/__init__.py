"""Stages that take no time but are real processes under the real runtime: for tests of the queue.

What one should do beside its work stands in the documents: behave.json, {"train": {"1": "kill"}} = attempt 1 of train
dies by SIGKILL in the middle. Known: kill, abort, exit, user, memory, hang, bug; and wait, until it is asked to stop or
there is a file `go` beside behave.json.

For the drill: FTQ_STAGE_SECONDS is how long a stage other than train takes; with FTQ_JOURNAL each start, step and end
is a line in that file, and what a stage makes says which attempt made it (`made_by`).
"""

import json
import os
import signal
import time
from pathlib import Path

from ftq.errors import OutOfMemory, UserError
from ftq.files.run_dir import RunDir, write_jsonl
from ftq.spec.options import RunSpec
from worker.stages.process.main import Report

STEP_SECONDS = 0.05
STAGE_SECONDS = float(os.environ.get("FTQ_STAGE_SECONDS", "0"))
JOURNAL = os.environ.get("FTQ_JOURNAL")


def attempt_of(out: Path) -> int:
    return int(out.name.split(".")[1])


def journal(run: RunDir, out: Path, event: str, step: int | None = None) -> None:
    """One write to a file opened to append: lines of several processes never mix."""
    if JOURNAL:
        row = {"at": time.time(), "run": run.path.name, "stage": out.name.split(".")[0], "attempt": attempt_of(out),
               "pid": os.getpid(), "event": event, "step": step}  # fmt: skip
        with open(JOURNAL, "ab", buffering=0) as file:
            file.write(json.dumps(row).encode() + b"\n")


def made_by(run: RunDir, out: Path, folder: Path) -> None:
    """The end of a stage: what it made says which attempt it was."""
    if JOURNAL:
        folder.mkdir(exist_ok=True)
        (folder / "made_by").write_text(str(attempt_of(out)))
    journal(run, out, "end")


def begin(run: RunDir, out: Path) -> None:
    journal(run, out, "start")
    time.sleep(STAGE_SECONDS)


def misbehave(run: RunDir, out: Path, stage: str, report: Report) -> None:
    wishes = run.documents / "behave.json"
    wish = json.loads(wishes.read_text()).get(stage, {}).get(str(attempt_of(out))) if wishes.exists() else None
    if wish == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if wish == "abort":
        os.abort()
    if wish == "exit":
        os._exit(3)
    if wish == "user":
        raise UserError("the documents are in Klingon", "Translate them.", "training")
    if wish == "memory":
        raise OutOfMemory("CUDA out of memory")
    if wish == "hang":
        time.sleep(3600)
    while wish == "wait" and not report.stop_requested and not (run.documents / "go").exists():
        time.sleep(0.02)
    if wish == "bug":
        raise RuntimeError("this is a bug")


def prepare(run: RunDir, out: Path, spec: RunSpec, report: Report) -> None:
    begin(run, out)
    misbehave(run, out, "prepare", report)
    (out / "dataset").mkdir()
    write_jsonl(out / "dataset" / "train.jsonl", [{"instruction": "a", "input": "", "output": "b"}])
    made_by(run, out, out / "dataset")


def train(run: RunDir, out: Path, spec: RunSpec, report: Report) -> None:
    """Steps of a twentieth of a second, a checkpoint each `save_steps`; its adapter is the list of its steps."""
    report.stop_on_sigterm()
    journal(run, out, "start")
    batch, accumulation = _batch(spec)
    report.plan("", batch_size=batch, gradient_accumulation_steps=accumulation, gpu=False, engine="trl",
                gradient_checkpointing=False, load_in_4bit=False)  # fmt: skip
    saves = run.checkpoints / str(attempt_of(out))
    steps = _resume(run, report)
    total = spec.max_steps or (2 * int(spec.epochs) if spec.epoch_adapters else 4)
    while len(steps) < total and not report.stop_requested:
        time.sleep(STEP_SECONDS)
        steps.append(len(steps) + 1)
        journal(run, out, "step", len(steps))
        left = (total - len(steps)) * STEP_SECONDS
        report.progress(
            100 * len(steps) / total, step=len(steps), total_steps=total, loss=1 / len(steps), eta_seconds=left
        )
        if len(steps) * 2 >= total:
            misbehave(run, out, "train", report)
        if spec.save_steps == "auto" or len(steps) % spec.save_steps == 0:
            _save(saves, steps, report)
    if report.stop_requested:
        _save(saves, steps, report)
        return
    (out / "adapter").mkdir()
    (out / "adapter" / "steps.json").write_text(json.dumps({"steps": steps, "batch_size": batch}))
    write_jsonl(out / "metrics.jsonl", [{"step": step} | _measured(spec, step) for step in steps])
    for step in range(2, total + 1, 2)[-spec.epoch_adapters :] if spec.epoch_adapters else ():
        (out / "epochs" / str(step)).mkdir(parents=True)
    report.plan("", trained_tokens=100 * total)
    made_by(run, out, out / "adapter")


def _measured(spec: RunSpec, step: int) -> dict[str, float]:
    """What a job's metrics have; the other runs need none, and no picture of them."""
    return {"train_loss": 1 / step, "valid_loss": 0.5} if spec.epoch_adapters else {}


def _batch(spec: RunSpec) -> tuple[int, int]:
    """What `auto` is here."""
    batch = 2 if spec.batch_size == "auto" else spec.batch_size
    return batch, 4 if spec.gradient_accumulation_steps == "auto" else spec.gradient_accumulation_steps


def _resume(run: RunDir, report: Report) -> list[int]:
    saved = sorted(run.checkpoints.glob("*/*.json"), key=lambda path: int(path.stem))
    steps: list[int] = json.loads(saved[-1].read_text()) if saved else []
    if steps:
        report.event("resumed", f"resumed from step {len(steps)}", step=len(steps))
    return steps


def _save(saves: Path, steps: list[int], report: Report) -> None:
    saves.mkdir(parents=True, exist_ok=True)
    beside = saves / "partial"
    beside.write_text(json.dumps(steps))
    beside.rename(saves / f"{len(steps)}.json")
    report.event("checkpoint", f"checkpoint at step {len(steps)}", step=len(steps))


def export(run: RunDir, out: Path, spec: RunSpec, report: Report) -> None:
    begin(run, out)
    misbehave(run, out, "export", report)
    for adapter in run.epochs.glob("*"):
        (out / f"checkpoint-{adapter.name}.gguf").write_bytes(b"GGUF")
    for quantization in spec.quantizations:
        (out / f"model-{quantization}.gguf").write_bytes(b"GGUF" + (run.adapter / "steps.json").read_bytes())
    made_by(run, out, out / "merged")


def infer(run: RunDir, out: Path, spec: RunSpec, report: Report) -> None:
    begin(run, out)
    misbehave(run, out, "infer", report)
    write_jsonl(out / "answers.jsonl", [{"prompt": prompt, "answer": "yes"} for prompt in spec.prompts])
    journal(run, out, "end")


def evaluate(run: RunDir, out: Path, spec: RunSpec, report: Report) -> None:
    begin(run, out)
    misbehave(run, out, "evaluate", report)
    (out / "eval.json").write_text("{}")
    journal(run, out, "end")
