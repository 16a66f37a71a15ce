"""Counts real tokens and takes the time inside whatever trainer is built on transformers' Trainer.

Imports torch and transformers: a runner imports it only after its peer, because Unsloth wants to come first.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import TrainerCallback

GIB = 2**30


class Meter(TrainerCallback):
    """Its speed is that of the second half of the steps; the first half warms up and compiles."""

    def __init__(self, steps: int) -> None:
        self.half = steps // 2
        self.created = time.time()
        self.at: dict[str, float] = {}
        self.tokens: list[Any] = []  # one scalar on the device for each forward pass: looking at it would stall
        self.before_half = 0  # forward passes
        self.last_step = 0
        self.how = ""
        self.loss: float | None = None
        self.padding: int | None = None
        self.trainable = 0
        self.peaks: dict[str, float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        self.padding = model.config.get_text_config().pad_token_id
        model.register_forward_pre_hook(self._see, with_kwargs=True)
        self._stamp("begin")
        self._peak("load")

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.half:
            self._stamp("half")
            self.before_half = len(self.tokens)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.last_step = state.global_step
        if state.global_step == 1:
            self._stamp("first")
        if state.global_step == state.max_steps:
            self._stamp("end")
            self._peak("train")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.loss = (logs or {}).get("loss", self.loss)

    def seconds(self) -> dict[str, float]:
        """load: from the lock to the first step, rows tokenised; first_step: the first optimiser step."""
        begin, first = self.at.get("begin"), self.at.get("first")
        spans = {"load": (self.created, begin), "first_step": (begin, first)}
        return {name: end - start for name, (start, end) in spans.items() if start and end}

    def numbers(self) -> dict[str, Any]:
        """Speed, memory (GiB) and what was trained; without a speed if the training didn't get to its end."""
        gpu = torch.cuda.is_available()
        found = {
            "steps_done": self.last_step, "loss": self.loss, "trainable": self.trainable, "counted_by": self.how,
            "gpu": torch.cuda.get_device_name() if gpu else "cpu", **self.peaks,
        }  # fmt: skip
        if "end" not in self.at:
            return {**found, "tokens_per_s": None}
        steps = self.last_step - self.half
        tokens, spent = int(sum(self.tokens[self.before_half :])), self.at["end"] - self.at["half"]
        return {
            **found, "tokens_per_s": round(tokens / spent, 1), "step_s": round(spent / steps, 3),
            "tokens_per_step": round(tokens / steps),
        }  # fmt: skip

    def _see(self, module: Any, positional: Any, named: dict[str, Any]) -> None:
        ids = named["input_ids"] if "input_ids" in named else positional[0]
        self.how, count = _real(ids, named, self.padding)
        self.tokens.append(count)

    def _stamp(self, name: str) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.at[name] = time.time()

    def _peak(self, name: str) -> None:
        if torch.cuda.is_available():
            self.peaks[f"{name}_peak_gib"] = round(torch.cuda.max_memory_allocated() / GIB, 2)
            self.peaks[f"{name}_reserved_gib"] = round(torch.cuda.max_memory_reserved() / GIB, 2)
            torch.cuda.reset_peak_memory_stats()


def _real(ids: Any, named: dict[str, Any], padding: int | None) -> tuple[str, Any]:
    """(how it was counted, tokens in this batch that aren't padding).

    A mask of the rows' own shape counts its non-zeros (packers number the rows in it); one of two positions each
    counts its diagonal, as a real token sees itself. Without a mask the padding
    token tells, as it is not the stop token here.
    """
    mask = named.get("attention_mask")
    if isinstance(mask, torch.Tensor) and mask.shape == ids.shape:
        return "mask", (mask != 0).sum()
    if isinstance(mask, torch.Tensor) and mask.dim() == 4:
        diagonal = mask.diagonal(dim1=-2, dim2=-1)
        return "diagonal", (diagonal if mask.dtype == torch.bool else diagonal == 0).sum()
    if padding is None:
        return "all", ids.numel()
    return "not padding", (ids != padding).sum()
