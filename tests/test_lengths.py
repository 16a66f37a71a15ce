"""Rows are encoded word by word, and have the tokens that they have as a whole."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ftq.check.survey import BATCH, counted
from ftq.examples.lengths import Exact, Guess, counter_of, cuts_at_spaces
from ftq.examples.prompt import completion, prompt
from ftq.examples.split import Example
from tests.tiny import make_tiny_model

# How families find words: GPT-2's own way, Llama 3's and Qwen's, OpenAI's later one.
LLAMA = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
LATER = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{M}]*[\p{Ll}\p{Lo}\p{M}]+(?i:'s|'t|'ll)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{M}]+|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SIGNS = [
    *'   \n\t.,!(`_-/"',
    "\r\n",
    "a",
    "word",
    "Über",
    "5",
    "12",
    "'s",
    "é",
    "\u0301",
    "泵",
    "🔧",
    "\u00a0",
    "\u2003",
    "<b>",
]


def _tokenizer(regex: str, digits: bool = False) -> Any:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    single = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    if regex:
        words = pre_tokenizers.Split(Regex(regex), "isolated")
        cut = [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    else:
        cut = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*single, *cut])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_texts(400), trainer)
    return tokenizer


def _texts(count: int) -> list[str]:
    drawn = random.Random(1)
    return ["".join(drawn.choices(SIGNS, k=drawn.randrange(30))) for _ in range(count)]


@pytest.mark.parametrize(("regex", "digits"), [("", False), ("", True), (LLAMA, False), (LATER, False)])
def test_words_come_to_the_tokens_of_the_row(regex: str, digits: bool) -> None:
    tokenizer = _tokenizer(regex, digits)
    assert cuts_at_spaces(tokenizer)
    counter, texts = Exact(tokenizer), _texts(3000)
    rows = [
        {"instruction": one, "input": two, "output": three}
        for one, two, three in zip(texts[::3], texts[1::3], texts[2::3], strict=True)
    ]
    whole = [prompt(row["instruction"], row["input"]) + completion(row["output"], "") for row in rows]
    expected = [len(tokenizer.encode(text).ids) + 1 for text in whole]
    assert counter.each(rows) == expected
    assert [counter.one(row) for row in rows[:50]] == expected[:50]


@pytest.mark.parametrize("settings", [{"rstrip": True}, {"lstrip": True}, {}])
def test_a_token_with_spaces_keeps_rows_whole(settings: dict[str, bool]) -> None:
    """One that takes the space behind it would be another without it."""
    from tokenizers import AddedToken

    tokenizer = _tokenizer("")
    tokenizer.add_tokens([AddedToken("<b>" if settings else "a word", **settings)])
    assert not cuts_at_spaces(tokenizer)


def test_only_a_tokenizer_counts_beside_what_python_does() -> None:
    from tokenizers import AddedToken

    whole = _tokenizer("")
    whole.add_tokens([AddedToken("a word")])
    rows = [{"instruction": f"Is a word {number}?", "input": "", "output": "Yes."} for number in range(3 * BATCH)]
    for counter, beside in ((Guess(), False), (Exact(_tokenizer("")), False), (Exact(whole), True)):
        places = set[bool]()

        def count(batch: Sequence[Example], counter: Exact | Guess = counter, places: set[bool] = places) -> list[int]:
            places.add(threading.current_thread() is not threading.main_thread())
            return counter.each(batch)

        batches = list(counted(rows, count, counter.is_native))
        assert [row for batch, _ in batches for row in batch] == rows
        assert [tokens for _, counts in batches for tokens in counts] == counter.each(rows)
        assert places == {beside}


@pytest.mark.parametrize("text", [
    "| Part | Weight |\n|---|---|\n" + "".join(f"| part {number} | {number % 977} kg |\n" for number in range(2_000)),
    Path(__file__).parents[1].joinpath("docs", "documents.md").read_text(),
])  # fmt: skip
def test_tokens_of_numbers_and_of_prose_are_guessed_alike(text: str, tmp_path: Path) -> None:
    """Prose by its bytes alone would make a third of the tokens that a table of numbers has."""
    row = {"instruction": "Explain it.", "input": "", "output": text}
    counter = counter_of(str(make_tiny_model(tmp_path / "tiny")))
    assert counter.exact
    assert Guess().one(row) == pytest.approx(counter.one(row), rel=0.3)
