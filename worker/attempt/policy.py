"""What follows from a failure of the run itself, by its kind. Losses are handled by ftq.store.attempts."""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from typing import Any

from ftq.errors import RunError
from ftq.store.records import Stage
from worker.machine.crash import NATIVE, signal_name
from worker.stages import STOPPED

ADAPTED = ("batch_size", "gradient_accumulation_steps", "gradient_checkpointing", "load_in_4bit")

# Why a stage was asked to stop -> (event, message)
STOPS = {
    "cancel": ("cancelled", "stopped: cancelled by the user"),
    "pause": ("handed_back", "stopped for a pause; what was done is kept"),
    "drain": ("handed_back", "handed back: its worker was asked to stop"),
    "bucket": ("handed_back", "handed back before it began: its worker waits for the bucket, and others don't"),
}


@dataclass(frozen=True)
class Decision:
    """Try again (because of `reason`, perhaps with `changes` of options) or fail for good with `error`."""

    retry: bool
    reason: str
    error: RunError
    changes: dict[str, Any] | None = None


def decide(
    stage: str, error: RunError, spec: dict[str, Any], current: Stage, max_attempts: int, *, by_kernel: bool
) -> Decision:
    """Decide about a failure that isn't a loss (`RunStore.lose`). `by_kernel`: the process died without an error.

    `current.tries` counts the useless attempts in a row, this one included. An adapted attempt doesn't count: each
    adaptation needs less memory than the one before, so their number is limited anyway.
    """
    if error.kind != "memory":
        return Decision(False, "", error)
    plan, changes, smaller = current.plan or {}, current.changes or {}, None
    if stage == "train":
        smaller = (need_less_main_memory if by_kernel else need_less_memory)(spec, plan, changes)
    if smaller:
        options = ", ".join(f"{name}={value}" for name, value in smaller.items())
        return Decision(True, f"retried with less memory: {options}", error, {**changes, **smaller})
    if by_kernel and current.tries < max_attempts:  # what took the memory may have been another process
        count = f"attempt {current.tries} of {max_attempts}"
        return Decision(True, f"retried with the same options ({count}), none needs less: {error.message}", error)
    if by_kernel:
        message = f"{error.message}, {current.tries} times in a row; no other option needs less"
        error = replace(error, message=message)
    return Decision(False, "", error)


def need_less_memory(spec: dict[str, Any], plan: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any] | None:
    """The next adaptation: a smaller micro-batch, checkpointing, then 4 bit. None if nothing is left to try.

    The effective batch stays the same. `plan` has what the train stage chose where the spec says auto. If the process
    died before it reported its plan, the spec's values are used, and `auto` can't be made smaller.
    """
    how = {**spec, **{name: plan[name] for name in ADAPTED if name in plan}, **changes}
    if smaller := _smaller_batch(how["batch_size"], how["gradient_accumulation_steps"], how.get("gpus", 1)):
        return smaller
    if how["gradient_checkpointing"] is False:
        return {"gradient_checkpointing": True if "trl" in (plan.get("engine"), spec.get("engine")) else "unsloth"}
    if how["load_in_4bit"] is False and plan.get("gpu", True):
        return {"load_in_4bit": True} | ({"load_in_fp8": False} if spec.get("load_in_fp8") is True else {})
    return None


def need_less_main_memory(spec: dict[str, Any], plan: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any] | None:
    """All adaptations at once, for a process that the kernel killed for lack of main memory. None if nothing helps.

    On a GPU the micro-batch, checkpointing and 4 bit save only the card's memory, so they stay as they are.
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
    """Half of the micro-batch or less, and more accumulation in return. All GPUs get the same number of examples."""
    if isinstance(batch, str) or isinstance(accumulation, str):
        return None
    examples = batch * accumulation
    for size in range(batch // 2, 0, -1):
        if batch % size == 0 and (accumulation % gpus or examples // size % gpus == 0):
            return {"batch_size": size, "gradient_accumulation_steps": examples // size}
    return None


def explain(stage: str, exit_code: int, reported: RunError | None, out_of_memory: bool) -> RunError:
    """The error that the process reported, or one made from its exit code."""
    if reported:
        return reported
    logs = f"`ftq logs RUN --stage {stage}` has the full log."
    if exit_code == -signal.SIGKILL and out_of_memory:
        message = f"{stage} was killed by the system: the machine's or container's memory limit was reached"
        return RunError("memory", message, f"Give the worker more memory, or use a smaller model. {logs}")
    if exit_code == -signal.SIGKILL:
        message = f"{stage} was killed by signal 9: a memory limit, or kill -9"
        return RunError("lost", message, logs)
    if exit_code == STOPPED or -exit_code in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        message = f"{stage} was stopped from outside: a shutdown, or its supervisor was silent for a whole lease"
        return RunError("lost", message, logs)
    if exit_code < 0:
        what = "inside native code (llama.cpp, CUDA)" if -exit_code in NATIVE else "by a signal"
        return RunError("bug", f"{stage} ended {what}: {signal_name(-exit_code)}", logs)
    return RunError("bug", f"{stage} ended with exit code {exit_code} and said nothing", logs)
