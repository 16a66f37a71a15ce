"""What `ftq submit --dry-run` says, as lines of words."""

from __future__ import annotations

from typing import Any

from ftq.files.run_dir import STAGES
from ftq.files.snapshot import Snapshot
from ftq.plan.forecast import Forecast
from ftq.plan.plan import Plan
from ftq.store.records import queue_of
from ftq.words import duration, plural, size


def told(spec: dict[str, Any], documents: Snapshot, forecast: Forecast) -> list[tuple[str, str]]:
    """(what, how much) in lines: what a submit would do, and what it would take. `~` is what is estimated."""
    return [*_documents(spec, documents), *_training(forecast), *_disk(forecast)]


def _documents(spec: dict[str, Any], documents: Snapshot) -> list[tuple[str, str]]:
    stages = " -> ".join(f"{stage} ({queue_of(stage, spec)})" for stage in STAGES)
    others = f" ({documents.others})" if documents.others else ""
    source = f"{plural(documents.files, 'document')} ({size(documents.bytes)}) from {spec['documents']}{others}"
    skipped = [("", f"skipped: {text}") for text in documents.skipped]
    return [("model", spec["model"]), ("documents", source), *skipped, ("stages", stages)]


def _training(forecast: Forecast) -> list[tuple[str, str]]:
    dataset, plan, place = forecast.dataset, forecast.plan, forecast.place
    rows, about = dataset.train, "" if dataset.counted else "~"
    held_out = f", and {about}{dataset.held_out:,} held out" if dataset.held_out else ""
    examples = f"{about}{rows.examples:,} with {about}{rows.tokens:,} tokens, {about}{rows.longest:,} in the longest"
    lines = [("examples", examples + held_out)]
    if plan is None or place is None:
        return lines
    lines += [("card", f"{place.card.name} ({place.said})"), ("plan", _plan(plan)), ("LoRA", str(forecast.recipe))]
    lines += [("memory", f"~{plan.peak / 2**30:.1f} of {place.card.memory / 2**30:.1f} GiB")]
    if forecast.loop is None:
        return lines
    total, start = duration(forecast.loop.seconds), duration(forecast.loop.starting)
    return [*lines, ("time", f"~{total} of training, ~{start} of it to start")]


def _plan(plan: Plan) -> str:
    at_once = f"{plan.batch_size} of them at once" if plan.gradient_accumulation_steps > 1 else "all at once"
    if not plan.gpu and plan.gradient_accumulation_steps > 1:
        at_once += " (on a CPU more are no faster, whatever the memory)"
    gpus = f" on each of {plan.gpus} GPUs" if plan.gpus > 1 else ""
    saving = "checkpointing" if plan.gradient_checkpointing else "no checkpointing"
    return f"~{plan.steps:,} steps of {plan.examples_in_step} examples, {at_once}{gpus}, {plan.base} base, {saving}"


def _disk(forecast: Forecast) -> list[tuple[str, str]]:
    if forecast.disk is None or forecast.gguf is None:
        return []
    needed = {
        "download": "to download unless the worker has it",
        "checkpoints": "checkpoints while it trains",
        "export": "needed for the export",
    }
    kept = {"adapter": "adapter", "merged": "merged model", **{name: name for name in forecast.gguf}}
    sizes = {**forecast.disk, **forecast.gguf}
    return [
        (row, "~" + ", ".join(f"{size(sizes[name])} {word}" for name, word in words.items() if sizes[name]))
        for row, words in (("disk", needed), ("kept", kept))
    ]
