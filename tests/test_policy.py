"""Each kind of failure has its policy."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any

import pytest

from ftq.errors import RunError
from ftq.store.records import Stage
from worker.attempt.policy import Decision, decide, explain, need_less_memory
from worker.stages import STOPPED

SPEC = {"batch_size": "auto", "gradient_accumulation_steps": "auto", "gradient_checkpointing": "auto",
        "load_in_4bit": "auto", "engine": "auto", "gpus": 1}  # fmt: skip
PLAN = {"engine": "unsloth", "gpu": True, "batch_size": 4, "gradient_accumulation_steps": 2,
        "gradient_checkpointing": False, "load_in_4bit": False}  # fmt: skip
NOTHING: dict[str, Any] = dict.fromkeys(Stage.__dataclass_fields__)


def error(kind: str) -> RunError:
    return RunError(kind, "it broke", "do this")


def at(tries: int = 1, plan: dict[str, Any] | None = None, changes: dict[str, Any] | None = None) -> Stage:
    return Stage(**{**NOTHING, "name": "train", "tries": tries, "plan": plan, "changes": changes})


@pytest.mark.parametrize("by_kernel", [True, False])
@pytest.mark.parametrize("kind", ["user", "bug"])
def test_the_users_data_and_our_bugs_are_never_retried(kind: str, by_kernel: bool) -> None:
    decision = decide("train", error(kind), SPEC, at(plan=PLAN), 3, by_kernel=by_kernel)
    assert decision == Decision(False, "", error(kind))


def adapted(
    spec: dict[str, Any], plan: dict[str, Any] | None, by_kernel: bool = False, **first: Any
) -> tuple[list[str], dict[str, Any] | None]:
    """(what each attempt was retried with, all changes), until nothing is left to try."""
    changes, reasons = first or None, []
    while (decision := decide("train", error("memory"), spec, at(9, plan, changes), 3, by_kernel=by_kernel)).retry:
        changes = decision.changes
        reasons.append(decision.reason.removeprefix("retried with less memory: "))
    assert not decision.retry and decision.error.kind == "memory"
    return reasons, changes


NOT_THE_MACHINES = [PLAN, {**PLAN, "batch_size": 64}, None]


@pytest.mark.parametrize("plan", NOT_THE_MACHINES)
@pytest.mark.parametrize("stage", ["train", "export"])
def test_killed_for_the_machine_s_memory_a_run_keeps_its_options_and_is_tried_so_often(
    stage: str, plan: dict[str, Any] | None
) -> None:
    tries = [decide(stage, error("memory"), SPEC, at(number, plan), 3, by_kernel=True) for number in (1, 2, 3)]
    assert [(decision.retry, decision.changes) for decision in tries] == [(True, None), (True, None), (False, None)]
    assert tries[0].reason == "retried with the same options (attempt 1 of 3), none needs less: it broke"
    assert tries[2].error == replace(error("memory"), message="it broke, 3 times in a row; no other option needs less")


def test_a_training_on_the_processor_that_was_killed_for_the_machine_s_memory_is_adapted_once() -> None:
    plan = {**PLAN, "gpu": False, "engine": "trl", "batch_size": 64, "gradient_accumulation_steps": 1}
    least = {"batch_size": 1, "gradient_accumulation_steps": 64, "gradient_checkpointing": True}
    assert adapted(SPEC, plan, by_kernel=True) == (
        ["batch_size=1, gradient_accumulation_steps=64, gradient_checkpointing=True"], least,
    )  # fmt: skip


def test_memory_is_adapted_step_by_step_and_earlier_changes_are_kept() -> None:
    assert adapted(SPEC, PLAN) == (
        [
            "batch_size=2, gradient_accumulation_steps=4", "batch_size=1, gradient_accumulation_steps=8",
            "gradient_checkpointing=unsloth", "load_in_4bit=True",
        ],
        {"batch_size": 1, "gradient_accumulation_steps": 8, "gradient_checkpointing": "unsloth", "load_in_4bit": True},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ({"engine": "trl"}, ["gradient_checkpointing=True", "load_in_4bit=True"]),
        ({"gpu": False}, ["gradient_checkpointing=unsloth"]),
        ({"gradient_checkpointing": "unsloth"}, ["load_in_4bit=True"]),
        ({"gradient_checkpointing": True, "load_in_4bit": True}, []),
    ],
)
def test_what_is_left_to_try_depends_on_engine_and_card(plan: dict[str, Any], expected: list[str]) -> None:
    assert adapted(SPEC, {**PLAN, "batch_size": 1, "gradient_accumulation_steps": 8, **plan})[0] == expected


def test_a_process_that_died_before_it_had_a_plan_leaves_the_numbers_of_the_spec() -> None:
    numbers = {"batch_size": 2, "gradient_accumulation_steps": 4, "gradient_checkpointing": True, "load_in_4bit": True}
    assert adapted({**SPEC, **numbers}, None)[0] == ["batch_size=1, gradient_accumulation_steps=8"]
    assert adapted(SPEC, None) == ([], None)
    assert adapted(SPEC, None, batch_size=2, gradient_accumulation_steps=4)[0] == [
        "batch_size=1, gradient_accumulation_steps=8"
    ]


@pytest.mark.parametrize("batch", range(2, 17))
@pytest.mark.parametrize(("accumulation", "gpus"), [(1, 1), (3, 1), (4, 1), (4, 2), (8, 4), (3, 3)])
def test_the_effective_batch_is_kept_and_shared_out_evenly(batch: int, accumulation: int, gpus: int) -> None:
    plan = {**PLAN, "batch_size": batch, "gradient_accumulation_steps": accumulation}
    smaller = need_less_memory({**SPEC, "gpus": gpus}, plan, {})
    assert smaller is not None
    assert smaller["batch_size"] < batch
    assert smaller["batch_size"] * smaller["gradient_accumulation_steps"] == batch * accumulation
    assert smaller["gradient_accumulation_steps"] % gpus == 0


def explained(exit_code: int, reported: RunError | None = None, out_of_memory: bool = False) -> tuple[str, str]:
    found = explain("train", exit_code, reported, out_of_memory)
    if not reported:
        assert "`ftq logs RUN --stage train` has the full log." in found.hint
    return found.kind, found.message


def test_how_a_process_ended_is_explained() -> None:
    assert explained(1, error("user")) == ("user", "it broke")
    assert explained(-signal.SIGKILL, error("memory"), out_of_memory=True) == ("memory", "it broke")
    assert explained(-signal.SIGKILL, None, out_of_memory=True) == (
        "memory", "train was killed by the system: the machine's or container's memory limit was reached",
    )  # fmt: skip
    assert explained(-signal.SIGKILL) == ("lost", "train was killed by signal 9: a memory limit, or kill -9")
    for number, how in [
        (signal.SIGABRT, "inside native code (llama.cpp, CUDA): SIGABRT"),
        (signal.SIGSEGV, "inside native code (llama.cpp, CUDA): SIGSEGV"),
        (signal.SIGBUS, "inside native code (llama.cpp, CUDA): SIGBUS"),
        (
            signal.SIGILL,
            "inside native code (llama.cpp, CUDA): SIGILL: the processor lacks an instruction that it was built with",
        ),
        (signal.SIGUSR1, "by a signal: SIGUSR1"),
        (40, "by a signal: signal 40"),
    ]:
        assert explained(-number) == ("bug", f"train ended {how}")
    for code in (STOPPED, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP):
        why = "train was stopped from outside: a shutdown, or its supervisor was silent for a whole lease"
        assert explained(code) == ("lost", why)
    assert explained(3) == ("bug", "train ended with exit code 3 and said nothing")
    assert explained(3, None, out_of_memory=True)[0] == "bug"  # somebody else's memory


def test_a_stage_that_has_no_batch_is_not_told_to_make_it_smaller() -> None:
    assert decide("export", error("memory"), SPEC, at(plan=PLAN), 3, by_kernel=False).retry is False
