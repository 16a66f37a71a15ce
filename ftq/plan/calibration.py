"""A plan beside what was measured: the error of the prediction, and what the next one learns from it.

The record of a run's plan is what the train stage reports and the store keeps: Plan's values, the card, "predicted"
({"peak", "seconds", "step_seconds", "starting", "began", "corrected"}) and, at the end, "measured" ({"seconds",
"steps", "peak", "step_seconds", "starting", ...}). Sizes are bytes, times seconds of the training loop. The store adds
whose it is: "worker", "model", "documents_hash".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ftq.plan.card import FIRST, Card, Correction, Start
from ftq.plan.duration import Loop
from ftq.plan.plan import Plan

LEAST, MOST = 0.5, 2.0  # a ratio beyond is an accident, not a property of the card
STEPS = 5  # a shorter run says nothing about the time of a step


def record(plan: Plan, card: Card, loop: Loop) -> dict[str, Any]:
    """The plan's record as it starts: with the card, the predicted seconds, and the correction that is in them."""
    known = card.correction(plan.measured_as)
    value = plan.to_json()
    corrected = {"peak": known.peak, "seconds": known.seconds}
    seconds = {"seconds": round(loop.seconds, 1), "starting": round(loop.starting, 2), "began": loop.began}
    predicted = {**value["predicted"], **seconds, "corrected": corrected}
    return {
        **value,
        "card": card.name,
        "card_memory": card.memory,
        "card_flops": card.flops,
        "card_fp8": card.fp8,
        "predicted": predicted,
    }


def corrections(records: Iterable[dict[str, Any] | None]) -> tuple[Correction, ...]:
    """What the runs with these records have shown, in their order."""
    return tuple(known for one in records if (known := correction(one)))


def starts(
    records: Iterable[dict[str, Any] | None], worker: str, model: str, documents_hash: str | None
) -> tuple[Start, ...]:
    """How the runs with these records began, for a run of this model and these documents on this worker."""
    told = [(one, *_both(one)) for one in records if one and one.get("engine")]
    return tuple(
        Start(
            one["engine"],
            bool(one.get("load_in_4bit")),
            bool(one.get("gradient_checkpointing")),
            predicted.get("began", FIRST),
            measured.get("starting"),
            here=bool(worker) and one.get("worker") == worker,
            alike=_alike(one, model, documents_hash),
            load_in_fp8=bool(one.get("load_in_fp8")),
        )
        for one, predicted, measured in told
    )


def _alike(record: dict[str, Any], model: str, documents_hash: str | None) -> str:
    if record.get("model") != model:
        return ""
    return "rows" if documents_hash and record.get("documents_hash") == documents_hash else "model"


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
    return Correction(*way, peak or 1.0, seconds or 1.0, bool(record.get("load_in_fp8")))


def compare(record: dict[str, Any] | None) -> dict[str, dict[str, float]]:
    """{"peak", "seconds", "starting": {"predicted", "measured", "error"}} for what was measured.

    An error of 0.1 is 10 % more than predicted. A resumed run is measured, and compared, from where it went on.
    """
    predicted, measured = _both(record)
    if record is None or not predicted or not measured:
        return {}
    missed = max(0, (record.get("steps") or 0) - measured.get("steps", 0))
    seconds = predicted["seconds"] - missed * predicted.get("step_seconds", 0)
    return {
        name: {"predicted": value, "measured": measured[name], "error": round(measured[name] / value - 1, 4)}
        for name, value in {
            "peak": predicted.get("peak"),
            "seconds": seconds,
            "starting": predicted.get("starting"),
        }.items()
        if value and measured.get(name)
    }


def _both(record: dict[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """(predicted, measured)."""
    return (record or {}).get("predicted") or {}, (record or {}).get("measured") or {}


def _ratio(measured: float | None, predicted: float | None, corrected: float) -> float | None:
    if not measured or not predicted:
        return None
    return round(min(MOST, max(LEAST, measured / predicted * corrected)), 4)
