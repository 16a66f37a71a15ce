"""Each kind of failure has its policy."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from worker.policy import Decision, decide, explain, need_less_memory
from worker.stages.runtime import STOPPED

SPEC = {"batch_size": 2, "gradient_accumulation_steps": 4, "gradient_checkpointing": "unsloth", "load_in_4bit": "auto"}


def error(kind: str) -> dict[str, str]:
    return {"kind": kind, "message": "it broke", "hint": "do this"}


@pytest.mark.parametrize("kind", ["user", "bug"])
def test_the_users_data_and_our_bugs_are_never_retried(kind: str) -> None:
    assert decide("train", error(kind), SPEC, None, 1, 3) == Decision(False, "", error(kind))


def test_a_lost_process_is_retried_until_it_brought_nothing_too_often() -> None:
    assert decide("train", error("lost"), SPEC, None, 2, 3) == Decision(True, "retried: it broke", error("lost"))
    final = {"kind": "lost", "message": "it broke (3 attempts)", "hint": "do this"}
    assert decide("train", error("lost"), SPEC, None, 3, 3) == Decision(False, "", final)
    assert decide("train", error("lost"), SPEC, None, 1, 1).retry is False


def test_memory_is_adapted_step_by_step_and_earlier_changes_are_kept() -> None:
    spec = {**SPEC, "gradient_checkpointing": False, "load_in_4bit": False}
    changes: dict[str, Any] | None = None
    reasons = []
    while (decision := decide("train", error("memory"), spec, changes, 1, 3)).retry:
        changes = decision.changes
        reasons.append(decision.reason)
    assert reasons == [
        "retried with less memory: batch_size=1, gradient_accumulation_steps=8",
        "retried with less memory: gradient_checkpointing=unsloth",
        "retried with less memory: load_in_4bit=True",
    ]
    assert changes == {
        "batch_size": 1, "gradient_accumulation_steps": 8, "gradient_checkpointing": "unsloth", "load_in_4bit": True,
    }  # fmt: skip
    assert decision == Decision(False, "", error("memory"))


def test_memory_too_is_given_up_after_the_most_attempts() -> None:
    final = {"kind": "memory", "message": "it broke (3 attempts)", "hint": "do this"}
    assert decide("train", error("memory"), SPEC, None, 3, 3) == Decision(False, "", final)


@pytest.mark.parametrize("batch", range(2, 17))
@pytest.mark.parametrize("accumulation", [1, 3, 4])
def test_the_effective_batch_is_kept_whatever_the_numbers(batch: int, accumulation: int) -> None:
    smaller = need_less_memory({**SPEC, "batch_size": batch, "gradient_accumulation_steps": accumulation})
    assert smaller is not None
    assert smaller["batch_size"] < batch
    assert smaller["batch_size"] * smaller["gradient_accumulation_steps"] == batch * accumulation


def explained(exit_code: int, reported: dict[str, str] | None = None, out_of_memory: bool = False) -> tuple[str, str]:
    found = explain("abc", "train", exit_code, reported, out_of_memory)
    assert set(found) == {"kind", "message", "hint"}
    if not reported:
        assert "`ftq logs abc --stage train` has the full log." in found["hint"]
    return found["kind"], found["message"]


def test_how_a_process_ended_is_explained() -> None:
    assert explained(1, error("user")) == ("user", "it broke")
    assert explained(-signal.SIGKILL, error("memory"), out_of_memory=True) == ("memory", "it broke")
    assert explained(-signal.SIGKILL, None, out_of_memory=True) == (
        "memory", "train was killed by the system: the machine's or container's memory limit was reached",
    )  # fmt: skip
    assert explained(-signal.SIGKILL) == ("lost", "train was killed by signal 9: a memory limit, or somebody's kill")
    for number, how in [
        (signal.SIGABRT, "inside native code (llama.cpp, CUDA): SIGABRT"),
        (signal.SIGSEGV, "inside native code (llama.cpp, CUDA): SIGSEGV"),
        (signal.SIGUSR1, "by a signal: SIGUSR1"),
    ]:
        assert explained(-number) == ("bug", f"train ended {how}")
    for code in (STOPPED, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP):
        why = "train was told to stop by somebody else: a shutdown, or its supervisor was silent for a lease"
        assert explained(code) == ("lost", why)
    assert explained(3) == ("bug", "train ended with exit code 3 and said nothing")
    assert explained(3, None, out_of_memory=True)[0] == "bug"  # somebody else's memory


def test_a_stage_that_has_no_batch_is_not_told_to_make_it_smaller() -> None:
    assert decide("export", error("memory"), SPEC, None, 1, 3) == Decision(False, "", error("memory"))
