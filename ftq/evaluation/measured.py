"""What earlier stages have measured: the validation loss in metrics.jsonl, perplexity and KL in export.json."""

from __future__ import annotations

from typing import Any

from ftq.files.export_report import ExportReport
from ftq.files.run_dir import RunDir, read_jsonl


def validation_loss(run: RunDir, keep_best: bool = False) -> float | None:
    """The exported adapter's, in nats a token: the last one measured, or the best where that was kept."""
    losses = _values(run, "valid_loss")
    return (min(losses) if keep_best else losses[-1]) if losses else None


def as_trained(run: RunDir, spec: dict[str, Any]) -> dict[str, Any]:
    """The options with the peak of the learning rate, where that was `auto`: what to change is said of a number."""
    rates = _values(run, "learning_rate") if spec.get("learning_rate") == "auto" else []
    return {**spec, "learning_rate": max(rates)} if rates else spec


def of_files(run: RunDir) -> dict[str, dict[str, float | None]]:
    """{quantisation: {"perplexity", "kl"}} as the export has measured them; empty if it hasn't."""
    if not run.export.is_file():
        return {}
    return {one.type: {"perplexity": one.perplexity, "kl": one.kl} for one in ExportReport.read(run.path).ggufs}


def _values(run: RunDir, name: str) -> list[float]:
    """One of the numbers of metrics.jsonl, in the order of the steps that have it."""
    lines = read_jsonl(run.metrics) if run.metrics.is_file() else ()
    return [line[name] for line in lines if name in line]
