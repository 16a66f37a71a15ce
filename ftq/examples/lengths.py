"""Tokens of examples: exact where the model's tokenizer lies on this machine, else guessed from their bytes."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from typing import Any, Generic, TypeVar

from ftq.examples.prompt import START, after_start, completion, prompt
from ftq.examples.split import Example
from ftq.settings import cache_dir, hub_folder
from ftq.spec import models

BYTES_PER_TOKEN = 4.4  # of text in UTF-8, weighed as below: 4.2 bytes of English prose, by the catalogue's tokenizers
DIGITS, SIGNS = b"0123456789", string.punctuation.encode()
DIGIT, SIGN = 4, 3  # bytes that one weighs: tables of numbers have three times the tokens of prose
TOKENIZER = "tokenizer.json"
WORDS, LONG = 2**17, 40  # words that are remembered, and characters of the longest of them
SINGLE = re.compile(r"(?<=\S) (?! )")  # begins a gap; in the midst of one nothing is cut
# What may stand before and after a space.
BEFORE, AFTER = (
    (":", "?,", ").,", "5", "a", "é,"),
    ("a", "B's", "7", "12 kg", "`x`", "...", "é", "\u0301", "泵", "🔧", "\\n", "\na", "\n\n7", "\t", "<b>"),
)

T = TypeVar("T")


@dataclass(frozen=True)
class Guess:
    """Tokens by the weight of a row."""

    bytes_per_token: float = BYTES_PER_TOKEN
    exact: bool = False
    is_native: bool = False

    def one(self, example: Example) -> int:
        return int(weight_of(example) / self.bytes_per_token) + 1

    def each(self, examples: Sequence[Example]) -> list[int]:
        return list(map(self.one, examples))


class Exact:
    """Tokens by the model's own tokenizer: start, prompt, answer and stop, as prepare counts them.

    `is_native`: the tokenizer does it all; else most is done in Python, which remembers words.
    """

    exact = True

    def __init__(self, tokenizer: Any) -> None:
        tokenizer.encode_special_tokens = True  # those written out in a document are plain text
        tokenizer.no_truncation()
        tokenizer.no_padding()
        bare = tokenizer.encode("a", add_special_tokens=False).ids
        self._beside = tokenizer.encode("a").ids.index(bare[0]) + 1  # the start, and the stop token
        self._inner = tokenizer
        self._start = len(tokenizer.encode(START, add_special_tokens=False).ids) + self._beside
        self._words = Words[int](self._counted, sum) if cuts_at_spaces(tokenizer) else None
        self.is_native = self._words is None

    def one(self, example: Example) -> int:
        return self.each([example])[0]

    def each(self, examples: Sequence[Example]) -> list[int]:
        """All at once; what no row had before on every core."""
        if self._words is None:
            return [count + self._beside for count in self._counted(list(map(_text, examples)))]
        rows = [
            after_start(example["instruction"], example["input"]) + completion(example["output"], "")
            for example in examples
        ]
        return [self._start + count for count in self._words.of(rows)]

    def _counted(self, texts: list[str]) -> list[int]:
        return [len(row) for row in self._inner.encode_batch_fast(texts, add_special_tokens=False)]


class Words(Generic[T]):
    """What a tokenizer that cuts at spaces makes of texts. Each word is encoded once: rows have most in common."""

    def __init__(self, encode: Callable[[list[str]], Iterable[T]], join: Callable[[Iterable[T]], T]) -> None:
        self._encode, self._join = encode, join
        self._known = dict[str, T]()

    def of(self, texts: Iterable[str]) -> list[T]:
        """Each text begins with a single space and with a word."""
        rows = [_words(text[1:]) for text in texts]
        fresh = set(chain.from_iterable(rows)).difference(self._known)
        self._known.update(zip(fresh, self._encode([f" {word}" for word in fresh]), strict=True))
        joined = [self._join(map(self._known.__getitem__, row)) for row in rows]
        self._forget(fresh)
        return joined

    def _forget(self, fresh: set[str]) -> None:
        if len(self._known) > WORDS:
            self._known.clear()
        else:
            for word in fresh:
                if len(word) > LONG:
                    del self._known[word]


def _words(text: str) -> list[str]:
    is_plain = text.isprintable() and "  " not in text  # no white space but single spaces
    return text.split(" ") if is_plain else SINGLE.split(text)


def cuts_at_spaces(tokenizer: Any) -> bool:
    """Whether no token and no merge goes over a single space, so that what stands before it can be encoded alone."""
    if any(map(_takes_spaces, tokenizer.get_added_tokens_decoder().values())):
        return False
    stages = json.loads(tokenizer.pre_tokenizer.__getstate__()) if tokenizer.pre_tokenizer else {}
    if not any(map(_cuts, stages.get("pretokenizers", [stages]))):
        return False
    pairs = [(before, f" {after}") for before, after in product(BEFORE, AFTER)]
    whole, *parts = (
        [row.ids for row in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        for texts in (["".join(pair) for pair in pairs], *map(list, zip(*pairs, strict=True)))
    )
    return whole == [before + after for before, after in zip(*parts, strict=True)]


def _takes_spaces(added: Any) -> bool:
    """Whether a token of its own that a text may hold takes spaces behind it, or has some inside."""
    return not added.special and (
        added.lstrip or added.rstrip or (" " in added.content[1:] and added.content.strip(" "))
    )


def _cuts(stage: dict[str, Any]) -> bool:
    """Whether it is GPT-2's way to find words, or one of those made after it."""
    if stage.get("type") == "ByteLevel":
        return bool(stage.get("use_regex", True))
    return stage.get("type") == "Split" and "\\s+(?!\\S)" in str(stage.get("pattern", {}).get("Regex", ""))


Counter = Guess | Exact


def counter_of(model: str, bytes_per_token: Callable[[], float] = lambda: BYTES_PER_TOKEN) -> Counter:
    """The model's tokenizer if it is here and can be read, else a guess; an empty name means any model."""
    with suppress(Exception):  # no such package, or what tokenizers raises: plain Exception
        path = _tokenizer(model)
        if path is not None:
            from tokenizers import Tokenizer

            return Exact(Tokenizer.from_file(str(path)))
    return Guess(bytes_per_token())


def _tokenizer(model: str) -> Path | None:
    known = models.find(model)
    local = Path(model).expanduser() / TOKENIZER
    if known is None and local.is_file():
        return local
    if known is models.ALIASES[models.PACKAGED]:
        cached = sorted(cache_dir().glob(f"{models.PACKAGED}-[0-9]*/{TOKENIZER}"))
        if cached:
            return cached[-1]
    name = known.hub_id if known else model
    folder = hub_folder(name)
    if not (folder / "refs" / "main").is_file():
        return None
    path = folder / "snapshots" / (folder / "refs" / "main").read_text(encoding="utf-8").strip() / TOKENIZER
    return path if path.is_file() else None


def weight_of(example: Example) -> int:
    """UTF-8 bytes of the row, without its stop token. Digits and signs, often tokens of their own, weigh more."""
    text = _text(example).encode(errors="replace")
    digits, signs = (len(text) - len(text.translate(None, some)) for some in (DIGITS, SIGNS))
    return len(text) + (DIGIT - 1) * digits + (SIGN - 1) * signs


def _text(example: Example) -> str:
    return prompt(example["instruction"], example["input"]) + completion(example["output"], "")
