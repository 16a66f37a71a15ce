"""Answers by the adapter on its base model, without an export."""

from __future__ import annotations

import time
from typing import Any

from worker.llama.answer import Answer, Question
from worker.stages.model.tokens import Tokens


class AdapterAnswerer:
    """`model` is the base model with the adapter on it, `stop` the token that ends an answer."""

    def __init__(self, model: Any, tokens: Tokens, stop: str) -> None:
        self._model, self._tokens, self._stop = model, tokens, tokens.id_of(stop)

    def answer(self, question: Question) -> Answer:
        """Greedy at temperature 0; ends at the stop token or after max_tokens."""
        import torch

        began = time.monotonic()
        asked = self._tokens.prompt(question.text, question.input)
        ids = torch.tensor([asked], device=self._model.device)
        if question.temperature:
            torch.manual_seed(question.seed or 0)
            sampling = {"do_sample": True, "temperature": question.temperature, "top_k": 40}
        else:
            sampling = {"do_sample": False}
        sequences = self._model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=question.max_tokens,
            eos_token_id=self._stop,
            pad_token_id=self._stop,
            **sampling,
        )
        written = sequences[0, len(asked) :].tolist()
        stopped = bool(written) and written[-1] == self._stop
        written = written[:-1] if stopped else written
        seconds = round(time.monotonic() - began, 3)
        return Answer(question.text, self._tokens.decode(written).strip(), stopped, len(written), seconds, seconds)
