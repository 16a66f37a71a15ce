"""A plan beside what was measured: the error of the prediction, and what the next one learns from it.

The record of a run's plan is what the train stage reports and the store keeps: Plan's values, the card, "predicted"
({"peak", "seconds", "step_seconds", "starting", "began", "corrected", "bound", "fills"}) and, at the end, "measured"
({"seconds", "steps", "peak", "step_seconds", "starting", "played", ...}). Sizes are bytes, times seconds of the
training loop. The store adds whose it is: "worker", "model", "documents_hash".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ftq.plan.card import BOTH, FIRST, HOST, PLAYED, Card, Correction, Start, Way
from ftq.plan.duration import Loop, Step
from ftq.plan.plan import Plan

# Ratios beyond are an accident, not a property of the card, or of the host, of whose speed less is known before.
CARDS, HOSTS = (0.5, 2.0), (0.25, 4.0)
STEPS = 5  # a shorter run says nothing about the time of a step


def corrected(plan: Plan, card: Card, step: Step, peak: int, fills: bool) -> Plan:
    """The plan with its predicted peak and time: what the formulas say, corrected by what earlier runs have shown."""
    known = card.factors(plan.measured_as, step.played, fills)
    return replace(
        plan,
        peak=int(peak * known.peak),
        step_seconds=step.seconds(known.card, known.host),
        derived=(peak, step.seconds()),
        bound=step.bound,
        fills=fills,
    )


def record(plan: Plan, card: Card, loop: Loop) -> dict[str, Any]:
    """The plan's record as it starts: with the card, the predicted seconds, and the correction that is in them."""
    value = plan.to_json()
    peak, step_seconds = plan.derived
    corrected = {"peak": plan.peak / (peak or plan.peak), "seconds": plan.step_seconds / (step_seconds or 1.0)}
    corrected = {name: round(factor, 4) for name, factor in corrected.items()}
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


def corrections(records: Iterable[dict[str, Any] | None], worker: str = "", model: str = "") -> tuple[Correction, ...]:
    """What the runs with these records have shown, in their order, for a run of this model on this worker."""
    return tuple(known for one in records if (known := correction(one, worker, model)))


def starts(
    records: Iterable[dict[str, Any] | None], worker: str, model: str, documents_hash: str | None
) -> tuple[Start, ...]:
    """How the runs with these records began, for a run of this model and these documents on this worker."""
    told = [(one, *_both(one)) for one in records if one and one.get("engine")]
    return tuple(
        Start(
            _way(one),
            predicted.get("began", FIRST),
            measured.get("starting"),
            here=_is_here(one, worker),
            alike=_alike(one, model, documents_hash),
        )
        for one, predicted, measured in told
    )


def correction(record: dict[str, Any] | None, worker: str = "", model: str = "") -> Correction | None:
    """measured / predicted, without the correction that was in the prediction; None if nothing was measured."""
    predicted, measured = _both(record)
    if record is None or not predicted or not measured:
        return None
    before, bound = predicted.get("corrected") or {}, predicted.get("bound", BOTH)
    alike = bool(model) and record.get("model") == model
    step_seconds = measured.get("step_seconds") if measured.get("steps", 0) >= STEPS else None
    if bound == PLAYED and not measured.get("played", 1) and not alike:
        step_seconds = None  # its steps couldn't be recorded: of those that can be it tells nothing
    bounds = HOSTS if bound in (HOST, PLAYED) else CARDS
    peak = _ratio(measured.get("peak"), predicted.get("peak"), before.get("peak", 1.0), CARDS)
    seconds = _ratio(step_seconds, predicted.get("step_seconds"), before.get("seconds", 1.0), bounds)
    if peak is None and seconds is None:
        return None
    return Correction(_way(record), peak, seconds, bound, predicted.get("fills"), _is_here(record, worker), alike)


def _way(record: dict[str, Any]) -> Way:
    return Plan.from_json({"gpu": False, "dtype": "", **record}).measured_as


def _is_here(record: dict[str, Any], worker: str) -> bool:
    return bool(worker) and record.get("worker") == worker


def _alike(record: dict[str, Any], model: str, documents_hash: str | None) -> str:
    if record.get("model") != model:
        return ""
    return "rows" if documents_hash and record.get("documents_hash") == documents_hash else "model"


def compare(record: dict[str, Any] | None) -> dict[str, dict[str, float]]:
    """{"peak", "seconds", "starting": {"predicted", "measured", "error"}} for what was measured.

    An error of 0.1 is 10 % more than predicted. A resumed run is measured, and compared, from where it went on:
    with the time to start, and its share of the steps and evaluations.
    """
    predicted, measured = _both(record)
    if record is None or not predicted or not measured:
        return {}
    steps, starting = record.get("steps") or 0, predicted.get("starting") or 0.0
    share = min(1.0, measured.get("steps", 0) / steps) if steps else 1.0
    seconds = round(starting + share * (predicted["seconds"] - starting), 1)
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


def _ratio(
    measured: float | None, predicted: float | None, corrected: float, bounds: tuple[float, float]
) -> float | None:
    if not measured or not predicted:
        return None
    least, most = bounds
    return round(min(most, max(least, measured / predicted * corrected)), 4)
