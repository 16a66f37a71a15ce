"""Who answers: a GGUF in llama.cpp, an adapter on its base model, or a base model through its own chat template."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftq.errors import UserError
from ftq.prompt import prompt

Answer = dict[str, Any]  # prompt, answer, stopped (by itself, not by max_tokens), tokens, seconds
Written = tuple[str, int, bool]  # text, tokens, stopped


class GgufAnswerer:
    """A GGUF in llama.cpp. The prompt is tokenised as text: nothing in it counts as a special token."""

    def __init__(self, file: Path, context: int) -> None:
        self._llm = _open(file, context)

    def tokens(self, question: str, input: str = "") -> list[int]:
        found: list[int] = self._llm.tokenize(prompt(question, input).encode(), add_bos=True, special=False)
        return found

    def answer(self, question: str, max_tokens: int, temperature: float) -> Answer:
        """Greedy at temperature 0; ends at the stop token or after max_tokens."""
        asked = self.tokens(question)
        _check_length(len(asked), self._llm.n_ctx())
        return _timed(question, lambda: self._write(asked, max_tokens, temperature))

    def close(self) -> None:
        self._llm.close()

    def _write(self, asked: list[int], max_tokens: int, temperature: float) -> Written:
        import llama_cpp

        vocabulary = llama_cpp.llama_model_get_vocab(self._llm.model)
        room = min(max_tokens, self._llm.n_ctx() - len(asked))
        written: list[int] = []
        for token in self._llm.generate(asked, temp=temperature, top_k=40 if temperature else 1):
            if llama_cpp.llama_vocab_is_eog(vocabulary, token):
                return self._text(written), len(written), True
            written.append(token)
            if len(written) >= room:
                break
        return self._text(written), len(written), False

    def _text(self, tokens: list[int]) -> str:
        data: bytes = self._llm.detokenize(tokens)
        return data.decode("utf-8", errors="replace")


class AdapterAnswerer:
    """The adapter on the base model, by Unsloth where it can be used and by transformers otherwise."""

    def __init__(self, model: Any, tokens: Any, stop: str) -> None:
        self._model, self._tokens, self._stop = model, tokens, tokens.id_of(stop)

    def answer(self, question: str, max_tokens: int, temperature: float) -> Answer:
        asked = self._tokens.prompt(question)
        return _timed(question, lambda: self._write(asked, max_tokens, temperature))

    def close(self) -> None:
        del self._model

    def _write(self, asked: list[int], max_tokens: int, temperature: float) -> Written:
        import torch

        ids = torch.tensor([asked], device=self._model.device)
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 40} if temperature else {"do_sample": False}
        made = self._model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_tokens,
            eos_token_id=self._stop, pad_token_id=self._stop, **sampling,
        )  # fmt: skip
        written = made[0, len(asked) :].tolist()
        stopped = bool(written) and written[-1] == self._stop
        written = written[:-1] if stopped else written
        return self._tokens.decode(written), len(written), stopped


class ChatAnswerer:
    """A GGUF asked through the chat template that it carries, as its makers meant it to be."""

    def __init__(self, file: Path, context: int = 2048) -> None:
        self._llm = _open(file, context)

    def answer(self, question: str, max_tokens: int, temperature: float) -> Answer:
        return _timed(question, lambda: self._write(question, max_tokens, temperature))

    def close(self) -> None:
        self._llm.close()

    def _write(self, question: str, max_tokens: int, temperature: float) -> Written:
        made = self._llm.create_chat_completion(
            [{"role": "user", "content": question}], temperature=temperature, max_tokens=max_tokens
        )
        choice = made["choices"][0]
        return choice["message"]["content"], made["usage"]["completion_tokens"], choice["finish_reason"] == "stop"


def _open(file: Path, context: int) -> Any:
    import llama_cpp

    return llama_cpp.Llama(model_path=str(file), n_ctx=context, n_gpu_layers=-1, verbose=False)


def _check_length(tokens: int, context: int) -> None:
    if tokens >= context:
        raise UserError(f"the question has {tokens} tokens, the model reads at most {context}", "Ask a shorter one.")


def _timed(question: str, write: Callable[[], Written]) -> Answer:
    start = time.monotonic()
    text, tokens, stopped = write()
    return {"prompt": question, "answer": text.strip(), "stopped": stopped, "tokens": tokens,
            "seconds": round(time.monotonic() - start, 3)}  # fmt: skip
