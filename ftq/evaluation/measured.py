"""What earlier stages have measured: the validation loss in metrics.jsonl, perplexity and KL in export.json."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ftq.files.run_dir import RunDir, read_jsonl


def validation_loss(run: RunDir, keep_best: bool = False) -> float | None:
    """The exported adapter's, in nats a token: the last one measured, or the best where that was kept."""
    losses = (
        [line["valid_loss"] for line in read_jsonl(run.metrics) if "valid_loss" in line] if _is(run.metrics) else []
    )
    return (min(losses) if keep_best else losses[-1]) if losses else None


def as_trained(run: RunDir, spec: dict[str, Any]) -> dict[str, Any]:
    """The options with the peak of the learning rate, where that was `auto`: what to change is said of a number."""
    rates = (
        [line["learning_rate"] for line in read_jsonl(run.metrics) if "learning_rate" in line]
        if _is(run.metrics)
        else []
    )
    return {**spec, "learning_rate": max(rates)} if spec.get("learning_rate") == "auto" and rates else spec


def of_files(run: RunDir) -> dict[str, dict[str, float | None]]:
    """{quantisation: {"perplexity", "kl"}} as the export has measured them; empty if it hasn't."""
    path = run.path / "export.json"
    files = json.loads(path.read_text(encoding="utf-8")).get("ggufs", []) if _is(path) else []
    return {one["type"]: {"perplexity": _number(one.get("perplexity")),
                          "kl": _number((one.get("against_f16") or {}).get("kl"))} for one in files}  # fmt: skip


def _is(path: Path) -> bool:
    return path.is_file()


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
