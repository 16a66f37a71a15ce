"""What follows from a failure of the run itself, by its kind. What follows from a loss, ftq.store.attempts decides."""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from typing import Any

from ftq.errors import RunError
from ftq.store.records import Stage
from worker.stages import STOPPED

ADAPTED = ("batch_size", "gradient_accumulation_steps", "gradient_checkpointing", "load_in_4bit")

# Why a stage was asked to stop -> (event, message)
STOPS = {
    "cancel": ("cancelled", "stopped: cancelled by the user"),
    "pause": ("handed_back", "stopped for a pause; what was done is kept"),
    "drain": ("handed_back", "handed back: its worker was told to stop"),
}


@dataclass(frozen=True)
class Decision:
    """Try again (`reason`, perhaps with `changes` of options) or fail for good with `error`."""

    retry: bool
    reason: str
    error: RunError
    changes: dict[str, Any] | None = None


def decide(
    stage: str, error: RunError, spec: dict[str, Any], current: Stage, max_attempts: int, *, by_kernel: bool
) -> Decision:
    """What follows from a failure that isn't a loss (`RunStore.lose`). `by_kernel`: the process told nothing itself.

    `current.tries` counts the attempts in a row that brought nothing, this one included. An adaptation isn't such an
    attempt: each needs less than the one before, so they end by themselves.
    """
    if error.kind != "memory":
        return Decision(False, "", error)
    plan, changes, smaller = current.plan or {}, current.changes or {}, None
    if stage == "train":
        smaller = (need_less_main_memory if by_kernel else need_less_memory)(spec, plan, changes)
    if smaller:
        shown = ", ".join(f"{name}={value}" for name, value in smaller.items())
        return Decision(True, f"retried with less memory: {shown}", error, {**changes, **smaller})
    if by_kernel and current.tries < max_attempts:  # what took the memory may have been another process
        count = f"attempt {current.tries} of {max_attempts}"
        return Decision(True, f"retried with the same options ({count}), none needs less: {error.message}", error)
    if by_kernel:
        message = f"{error.message}, {current.tries} times in a row; no other option needs less"
        error = replace(error, message=message)
    return Decision(False, "", error)


def need_less_memory(spec: dict[str, Any], plan: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any] | None:
    """What to try next, the effective batch kept: smaller micro-batch, checkpointing, 4 bit. None: no more.

    `plan` is what the train stage chose where the spec says auto. A process that died before it could tell leaves the
    spec's own numbers; an auto among them can't be made smaller.
    """
    how = {**spec, **{name: plan[name] for name in ADAPTED if name in plan}, **changes}
    if smaller := _smaller_batch(how["batch_size"], how["gradient_accumulation_steps"], how.get("gpus", 1)):
        return smaller
    if how["gradient_checkpointing"] is False:
        return {"gradient_checkpointing": True if "trl" in (plan.get("engine"), spec.get("engine")) else "unsloth"}
    if how["load_in_4bit"] is False and plan.get("gpu", True):
        return {"load_in_4bit": True}
    return None


def need_less_main_memory(spec: dict[str, Any], plan: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any] | None:
    """The same where the kernel killed the process for the machine's memory, but all at once. None: nothing helps.

    On a GPU the micro-batch, checkpointing and 4 bit spare only the card's memory, and so they stay as they were asked.
    """
    if plan.get("gpu", True):
        return None
    how = {**spec, **{name: plan[name] for name in ADAPTED if name in plan}, **changes}
    least = dict[str, Any]()
    while smaller := _smaller_batch(how["batch_size"], how["gradient_accumulation_steps"], how.get("gpus", 1)):
        least |= smaller
        how |= smaller
    if how["gradient_checkpointing"] is False:
        least["gradient_checkpointing"] = True
    return least or None


def _smaller_batch(batch: int | str, accumulation: int | str, gpus: int) -> dict[str, Any] | None:
    """About half of the micro-batch and as much more accumulation, which the GPUs share out evenly."""
    if isinstance(batch, str) or isinstance(accumulation, str):
        return None
    examples = batch * accumulation
    for size in range(batch // 2, 0, -1):
        if batch % size == 0 and (accumulation % gpus or examples // size % gpus == 0):
            return {"batch_size": size, "gradient_accumulation_steps": examples // size}
    return None


def explain(run_id: str, stage: str, exit_code: int, reported: RunError | None, out_of_memory: bool) -> RunError:
    """The failure that the process reported, or what its end says."""
    if reported:
        return reported
    logs = f"`ftq logs {run_id} --stage {stage}` has the full log."
    if exit_code == -signal.SIGKILL and out_of_memory:
        message = f"{stage} was killed by the system: the machine's or container's memory limit was reached"
        return RunError("memory", message, f"Give the worker more memory, or use a smaller model. {logs}")
    if exit_code == -signal.SIGKILL:
        message = f"{stage} was killed by signal 9: a memory limit, or somebody's kill"
        return RunError("lost", message, logs)
    if exit_code == STOPPED or -exit_code in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        message = f"{stage} was told to stop by somebody else: a shutdown, or its supervisor was silent for a lease"
        return RunError("lost", message, logs)
    if exit_code < 0:
        name = signal.Signals(-exit_code).name
        what = (
            "inside native code (llama.cpp, CUDA)" if -exit_code in (signal.SIGABRT, signal.SIGSEGV) else "by a signal"
        )
        return RunError("bug", f"{stage} ended {what}: {name}", logs)
    return RunError("bug", f"{stage} ended with exit code {exit_code} and said nothing", logs)
