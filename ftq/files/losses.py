"""What became of a training run's loss, by its metrics.jsonl: whether the run has diverged, or may have."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from ftq.files.run_dir import read_jsonl
from ftq.words import loss as shown

LAST = 3  # lines that end a run: all of them have to be bad, for a single step may be
ROSE = 1.0  # nats a token above the first loss: two batches of the same rows differ by less
WORSE = 1.0  # nats a token above what guessing gives: only a model that is sure of the wrong tokens is there


@dataclass(frozen=True)
class Rise:
    """A loss that stays above the first one. Losses are in nats a token, as those of the optimiser's steps."""

    first: float
    first_step: int
    last: float
    last_step: int
    lowest: float  # of the last lines, and of the last validation

    def is_certain(self, vocabulary: int) -> bool:
        """Whether the model is worse than one that guesses each of so many tokens: nothing of it can be used."""
        return self.lowest > math.log(vocabulary) + WORSE

    def __str__(self) -> str:
        """Its loss rose from 2.310 (step 1) to 16.700 (step 57)."""
        first, last = shown(self.first), shown(self.last)
        return f"its loss rose from {first} (step {self.first_step}) to {last} (step {self.last_step})"


def rise(metrics: Path) -> Rise | None:
    """The rise that the run ended with; None if it ended with none, or there is too little to tell."""
    try:
        lines = [line for line in read_jsonl(metrics) if "train_loss" in line]
    except (OSError, json.JSONDecodeError):
        return None
    if len(lines) <= LAST:
        return None
    first, ends = lines[0], lines[-LAST:]
    validated = [line["valid_loss"] for line in lines if "valid_loss" in line]
    lowest = min([line["train_loss"] for line in ends] + validated[-1:])
    if not lowest > first["train_loss"] + ROSE:
        return None
    return Rise(first["train_loss"], first["step"], ends[-1]["train_loss"], ends[-1]["step"], lowest)
