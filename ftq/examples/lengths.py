"""Tokens of examples: exact where the model's tokenizer lies on this machine, else guessed from their bytes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftq.examples.prompt import completion, prompt
from ftq.examples.split import Example
from ftq.settings import cache_dir, hub_cache
from ftq.spec import models

BYTES_PER_TOKEN = 4.2  # of English text in UTF-8, by the tokenizers of the catalogue's models
TOKENIZER = "tokenizer.json"
PACKAGED = "smollm2-135m"  # a worker keeps it in ftq's own cache


@dataclass(frozen=True)
class Guess:
    """Tokens by the bytes of a row."""

    bytes_per_token: float = BYTES_PER_TOKEN
    exact: bool = False

    def one(self, example: Example) -> int:
        return int(bytes_of(example) / self.bytes_per_token) + 1

    def each(self, examples: Sequence[Example]) -> list[int]:
        return list(map(self.one, examples))


class Exact:
    """Tokens by the model's own tokenizer: start, prompt, answer and stop, as prepare counts them."""

    exact = True

    def __init__(self, tokenizer: Any) -> None:
        tokenizer.encode_special_tokens = True  # those written out in a document are plain text
        tokenizer.no_truncation()
        tokenizer.no_padding()
        bare = tokenizer.encode("a", add_special_tokens=False).ids
        self._beside = tokenizer.encode("a").ids.index(bare[0]) + 1  # the start, and the stop token
        self._inner = tokenizer

    def one(self, example: Example) -> int:
        return self.each([example])[0]

    def each(self, examples: Sequence[Example]) -> list[int]:
        """All at once, on every core."""
        rows = self._inner.encode_batch_fast(list(map(_text, examples)), add_special_tokens=False)
        return [len(row.ids) + self._beside for row in rows]


Counter = Guess | Exact


def counter_of(model: str) -> Counter:
    """The model's tokenizer if it is here and can be read; an empty name means any model."""
    with suppress(Exception):  # no such package, or what tokenizers raises: plain Exception
        path = _tokenizer(model)
        if path is not None:
            from tokenizers import Tokenizer

            return Exact(Tokenizer.from_file(str(path)))
    return Guess()


def _tokenizer(model: str) -> Path | None:
    known = models.find(model)
    local = Path(model).expanduser() / TOKENIZER
    if known is None and local.is_file():
        return local
    if known is models.ALIASES[PACKAGED]:
        cached = sorted(cache_dir().glob(f"{PACKAGED}-[0-9]*/{TOKENIZER}"))
        if cached:
            return cached[-1]
    name = known.hub_id if known else model
    folder = hub_cache() / f"models--{name.replace('/', '--')}"
    if not (folder / "refs" / "main").is_file():
        return None
    path = folder / "snapshots" / (folder / "refs" / "main").read_text(encoding="utf-8").strip() / TOKENIZER
    return path if path.is_file() else None


def bytes_of(example: Example) -> int:
    """UTF-8 bytes of the row, without its stop token."""
    return len(_text(example).encode(errors="replace"))


def _text(example: Example) -> str:
    return prompt(example["instruction"], example["input"]) + completion(example["output"], "")
