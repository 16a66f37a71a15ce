"""Text to tokens, for training and for counting: one tokenisation, so that both agree.

`tokenizer.json` is read by the tokenizers library itself: no torch, loaded in a fraction of a second.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from ftq.errors import UserError
from ftq.examples.prompt import completion, prompt

IGNORED = -100  # the label of a token that the loss leaves out


class Tokens:
    """A checkpoint's tokenizer. Special tokens written out in a document count as plain text."""

    def __init__(self, model_dir: Path) -> None:
        self._inner = _load(model_dir)
        self._inner.encode_special_tokens = True
        self._inner.no_truncation()  # as whoever saved the tokenizer last may have left them on
        self._inner.no_padding()
        self._start = _start_of_text(self._inner)

    def id_of(self, token: str) -> int | None:
        """The id of a single token, or None."""
        found: int | None = self._inner.token_to_id(token)
        return found

    def text_of(self, token_id: int) -> str | None:
        found: str | None = self._inner.id_to_token(token_id)
        return found

    def decode(self, ids: list[int]) -> str:
        text: str = self._inner.decode(ids)
        return text

    def prompt(self, instruction: str, input: str = "") -> list[int]:
        """What the model gets to see before it answers, with the start token if it has one."""
        return self._start + self._encode(prompt(instruction, input))

    def row(self, example: dict[str, str], stop: str) -> tuple[list[int], list[int]]:
        """(input_ids, labels) of an example; the last of both is always the stop token."""
        return self.rows([example], stop)[0]

    def rows(self, examples: list[dict[str, str]], stop: str) -> list[tuple[list[int], list[int]]]:
        """`row` of each example; the tokenizer takes them all at once and uses every core."""
        asked = [prompt(example["instruction"], example["input"]) for example in examples]
        answers = [completion(example["output"], "") for example in examples]
        whole = self._encode_all([a + b for a, b in zip(asked, answers, strict=True)])
        end, rows = self._id(stop), []
        for before, both, text in zip(self._encode_all(asked), whole, answers, strict=True):
            # the answer's tokens as they are after the prompt: some tokenizers add a space to a text's start
            same = both[: len(before)] == before
            answer = [*(both[len(before) :] if same else self._encode(text)), end]
            ids = self._start + before + answer
            rows.append((ids, [IGNORED] * (len(ids) - len(answer)) + answer))
        return rows

    def _id(self, token: str) -> int:
        found = self.id_of(token)
        if found is None:
            raise UserError(f"stop token {token} is not a token of this model", "Choose another base model.")
        return found

    def _encode_all(self, texts: list[str]) -> list[list[int]]:
        return [found.ids for found in self._inner.encode_batch_fast(texts, add_special_tokens=False)]

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._inner.encode(text, add_special_tokens=False).ids
        return ids


@lru_cache(maxsize=2)
def _load(model_dir: Path) -> Any:
    from tokenizers import Tokenizer

    if (model_dir / "tokenizer.json").is_file():
        try:
            return Tokenizer.from_file(str(model_dir / "tokenizer.json"))
        except Exception as error:  # tokenizers raises plain Exception
            raise UserError(f"{model_dir}/tokenizer.json: can't be read ({error})", "Get the model again.") from None
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            model_dir, local_files_only=True, trust_remote_code=False
        ).backend_tokenizer
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"model {model_dir}: no usable tokenizer in it ({error})", "It needs tokenizer.json.") from None


def _start_of_text(inner: Any) -> list[int]:
    """The tokens that the tokenizer puts before every text (a BOS, or nothing)."""
    bare = inner.encode("a", add_special_tokens=False).ids
    whole: list[int] = inner.encode("a").ids
    return whole[: whole.index(bare[0])]
