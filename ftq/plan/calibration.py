"""A plan beside what was measured: the error of the prediction, and what the next one learns from it.

The record of a run's plan is what the train stage reports and the store keeps: Plan's values, the card, "predicted"
({"peak", "seconds", "step_seconds", "corrected"}) and, at the end, "measured" ({"seconds", "steps", "peak",
"step_seconds", ...}). Sizes are bytes, times seconds of the training loop.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ftq.plan.card import Card, Correction
from ftq.plan.plan import Plan

LEAST, MOST = 0.5, 2.0  # a ratio beyond is an accident, not a property of the card
STEPS = 5  # a shorter run says nothing about the time of a step


def record(plan: Plan, card: Card, seconds: float) -> dict[str, Any]:
    """The plan's record as it starts: with the card, the predicted seconds, and the correction that is in them."""
    known = card.correction(plan.engine, plan.load_in_4bit, plan.gradient_checkpointing)
    value = plan.to_json()
    corrected = {"peak": known.peak, "seconds": known.seconds}
    predicted = {**value["predicted"], "seconds": round(seconds, 1), "corrected": corrected}
    return {
        **value,
        "card": card.name,
        "card_memory": card.memory,
        "card_flops": card.flops,
        "predicted": predicted,
    }


def corrections(records: Iterable[dict[str, Any] | None]) -> tuple[Correction, ...]:
    """What the runs with these records have shown, in their order."""
    return tuple(known for one in records if (known := correction(one)))


def correction(record: dict[str, Any] | None) -> Correction | None:
    """measured / predicted, without the correction that was in the prediction; None if nothing was measured."""
    predicted, measured = _both(record)
    if record is None or not predicted or not measured:
        return None
    before = predicted.get("corrected") or {}
    step_seconds = measured.get("step_seconds") if measured.get("steps", 0) >= STEPS else None
    peak = _ratio(measured.get("peak"), predicted.get("peak"), before.get("peak", 1.0))
    seconds = _ratio(step_seconds, predicted.get("step_seconds"), before.get("seconds", 1.0))
    if peak is None and seconds is None:
        return None
    way = (record["engine"], record["load_in_4bit"], bool(record["gradient_checkpointing"]))
    return Correction(*way, peak or 1.0, seconds or 1.0)


def compare(record: dict[str, Any] | None) -> dict[str, dict[str, float]]:
    """{"peak" and "seconds": {"predicted", "measured", "error"}} for what was measured.

    An error of 0.1 is 10 % more than predicted. A resumed run is measured, and compared, from where it went on.
    """
    predicted, measured = _both(record)
    if record is None or not predicted or not measured:
        return {}
    missed = max(0, (record.get("steps") or 0) - measured.get("steps", 0))
    seconds = predicted["seconds"] - missed * predicted.get("step_seconds", 0)
    return {
        name: {"predicted": value, "measured": measured[name], "error": round(measured[name] / value - 1, 4)}
        for name, value in {"peak": predicted.get("peak"), "seconds": seconds}.items()
        if value and measured.get(name)
    }


def _both(record: dict[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """(predicted, measured)."""
    return (record or {}).get("predicted") or {}, (record or {}).get("measured") or {}


def _ratio(measured: float | None, predicted: float | None, corrected: float) -> float | None:
    if not measured or not predicted:
        return None
    return round(min(MOST, max(LEAST, measured / predicted * corrected)), 4)
