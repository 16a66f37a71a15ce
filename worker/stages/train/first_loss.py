"""Whether the base model is a language model at all: the loss of the first rows, before anything is changed.

A fresh adapter adds nothing, so the first step's loss is that of the base model. In nats, of SmolLM2-135M with its
49,152 tokens (guessing: 10.8), on answers in three languages and on base64: 2.0 to 5.8; with a random output layer
11.2, all random 11.0, with the vocabulary of another model 12.3 to 13.8.
"""

from __future__ import annotations

import math
from typing import Any

import transformers

from ftq.errors import UserError
from worker.stages.process import ranks
from worker.stages.process.main import Report

SUSPECT = 0.9  # of guessing
WORSE = 1.0  # than guessing: sure of the wrong tokens, which no random model of up to 4,096 columns is
HINT = "Take all of the model's files from one place, weights and tokenizer: most likely they belong to two models."
UNSOUND = (
    "That is not the learning rate: the weights were damaged since prepare read them (get their files again), are too "
    "large for dtype=float16 (take bfloat16 or float32), or this machine computes wrongly (`ftq doctor --deep`)."
)


class FirstLoss(transformers.TrainerCallback):
    """Adds up the first step's loss, and judges it before the step is made."""

    def __init__(self, report: Report) -> None:
        self._report, self._sum = report, 0.0

    def add(self, step: int, loss: Any) -> None:
        """Count a micro-batch's share of the loss of the step after `step`."""
        if step == 0:
            self._sum = self._sum + loss

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step == 0:
            loss = ranks.mean(float(self._sum))  # a rank's share is of the tokens of all, times the number of ranks
            judge(loss, int(model.config.get_text_config().vocab_size), self._report)


def judge(loss: float, vocabulary: int, report: Report) -> None:
    """UserError for a loss that is no number or far worse than guessing; a warning for one that is hardly better."""
    if not math.isfinite(loss):
        raise UserError(f"before the first step the base model's loss is {loss}: nothing was learned yet", UNSOUND)
    guessing = math.log(vocabulary)
    said = (
        f"before the first step the base model's loss is {loss:.1f}: guessing one of {vocabulary:,} tokens gives "
        f"{guessing:.1f}, a language model 2 to 6"
    )
    if loss > guessing + WORSE:
        raise UserError(said, HINT)
    if loss > SUSPECT * guessing:
        report.event("warning", f"{said}. Its weights are random, or not its own: the run will teach it little. {HINT}")
