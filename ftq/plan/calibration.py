"""A plan beside what was measured: the error of the prediction, and what the next one learns from it.

A plan is what the train stage reported and the store keeps: {"engine", "load_in_4bit", "gradient_checkpointing",
"steps", "predicted": {"peak", "seconds", "step_seconds", "corrected"}, "measured": {"seconds", "steps", "peak",
"step_seconds"}, ...}. Sizes are bytes, times seconds of the training loop.
"""

from __future__ import annotations

from typing import Any

from ftq.plan.estimate import Correction

LEAST, MOST = 0.5, 2.0  # a ratio beyond is an accident, not a property of the card
STEPS = 5  # a shorter training says nothing about the time of a step


def correction(plan: dict[str, Any] | None) -> Correction | None:
    """measured / predicted, without the correction that was in the prediction; None if nothing was measured."""
    predicted, measured = _both(plan)
    if plan is None or not predicted or not measured:
        return None
    before = predicted.get("corrected") or {}
    peak = _ratio(measured.get("peak"), predicted.get("peak"), before.get("peak", 1.0))
    seconds = _ratio(_step_seconds(measured), predicted.get("step_seconds"), before.get("seconds", 1.0))
    if peak is None and seconds is None:
        return None
    return Correction(plan["engine"], plan["load_in_4bit"], bool(plan["gradient_checkpointing"]),
                      peak or 1.0, seconds or 1.0)  # fmt: skip


def compare(plan: dict[str, Any] | None) -> dict[str, dict[str, float]]:
    """{"peak" and "seconds": {"predicted", "measured", "error"}} for what was measured; an error of 0.1 is 10 % more
    than predicted. A resumed training is measured, and compared, from where it went on."""
    predicted, measured = _both(plan)
    if plan is None or not predicted or not measured:
        return {}
    missed = (plan.get("steps") or 0) - measured.get("steps", 0)
    expected = {"peak": predicted.get("peak"),
                "seconds": predicted["seconds"] - max(0, missed) * predicted.get("step_seconds", 0)}  # fmt: skip
    return {
        name: {"predicted": value, "measured": measured[name], "error": round(measured[name] / value - 1, 4)}
        for name, value in expected.items()
        if value and measured.get(name)
    }


def _both(plan: dict[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    return (plan or {}).get("predicted") or {}, (plan or {}).get("measured") or {}


def _step_seconds(measured: dict[str, Any]) -> float | None:
    """Seconds of a step once the kernels are compiled."""
    return measured.get("step_seconds") if measured.get("steps", 0) >= STEPS else None


def _ratio(measured: float | None, predicted: float | None, corrected: float) -> float | None:
    if not measured or not predicted:
        return None
    return round(min(MOST, max(LEAST, measured / predicted * corrected)), 4)
