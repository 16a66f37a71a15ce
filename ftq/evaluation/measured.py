"""What earlier stages have measured: the validation loss in metrics.jsonl, perplexity and KL in export.json."""

from __future__ import annotations

from typing import Any

from ftq.files.export_report import ExportReport
from ftq.files.run_dir import RunDir, read_jsonl
from ftq.spec.options import RunSpec


def validation_loss(run: RunDir, keep_best: bool = False) -> float | None:
    """The exported adapter's, in nats a token: the last one measured, or the best where that was kept."""
    losses = _values(_metrics(run), "valid_loss")
    return (min(losses) if keep_best else losses[-1]) if losses else None


def as_trained(run: RunDir, spec: dict[str, Any]) -> dict[str, Any]:
    """The options with the peak of the learning rate, where that was `auto`: what to change is said of a number.

    With `steps`, how many were made, and `usual_steps`, how many the usual passes over the dataset take.
    """
    lines = _metrics(run)
    rates = _values(lines, "learning_rate") if spec.get("learning_rate") == "auto" else []
    rate = {"learning_rate": max(rates)} if rates else {}
    steps, epochs = _values(lines, "step")[-1:], _values(lines, "epoch")[-1:]
    usual = max(RunSpec.model_fields["epochs"].default, float(spec.get("epochs") or 0))
    made = {"steps": int(steps[0]), "usual_steps": round(steps[0] / epochs[0] * usual)} if epochs and epochs[0] else {}
    return {**spec, **rate, **made}


def of_files(run: RunDir) -> dict[str, dict[str, float | None]]:
    """{quantisation: {"perplexity", "kl"}} as the export has measured them; empty if it hasn't."""
    if not run.export.is_file():
        return {}
    return {one.type: {"perplexity": one.perplexity, "kl": one.kl} for one in ExportReport.read(run.path).ggufs}


def _metrics(run: RunDir) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; none before the training has begun."""
    return list(read_jsonl(run.metrics)) if run.metrics.is_file() else []


def _values(lines: list[dict[str, Any]], name: str) -> list[float]:
    """One of their numbers, in the order of the steps that have it."""
    return [line[name] for line in lines if name in line]
