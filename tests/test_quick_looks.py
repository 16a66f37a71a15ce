"""Where a quick look saves a pattern's time, both say the same of whatever text comes."""

from __future__ import annotations

import random
import re

import pytest

from ftq.facts.checks import ELSEWHERE, leads_elsewhere
from ftq.facts.inline import MARKS, TOKEN, inline
from ftq.facts.rules.defaults import BRACKETED, STATED, _may_state
from ftq.facts.text import blobs, heading
from ftq.facts.text.signs import END_IN_ASCII, END_OF_SENTENCE, Runs
from ftq.questions.row import Lots, order

PIECES = [
    *map(chr, range(128)), "the ", "This section ", "this page", "above", "below ", "next ", "default ", "by default, ",
    "Defaults to `7`", "standard: 5", "valor padrão: 3", "-----BEGIN KEY-----", "e.g. ", "A. b", "? ", '!" ', ".) A",
    "`--wait`", "**bold**", "[a](b)", "&amp;", "{#id}", "{.c a=1}", "<a id='x'></a>", " # ", ":tada: ", "é", "ÄÖ泵。",
    "\u017f", "\u0130", "\u212a", "…", "\u2028", "\ud800", "a" * 210, "Zm9v" * 60, "\n" * 3, "(default: x)",
]  # fmt: skip


def texts(seed: int) -> list[str]:
    drawn = random.Random(seed)
    is_ascii = [piece for piece in PIECES if piece.isascii()]
    return ["".join(drawn.choices(some, k=drawn.randrange(40))) for some in (is_ascii, PIECES) for _ in range(400)]


@pytest.mark.parametrize("sign", [r"\w", r"[\w.-]", r"[^\W\d_]"])
def test_runs_are_what_a_pattern_finds(sign: str) -> None:
    found = Runs(sign)
    for text in texts(1):
        assert found(text) == re.findall(f"(?:{sign})+", text.lower())


def test_sentences_of_ascii_end_where_all_do() -> None:
    for text in filter(str.isascii, texts(2)):
        ends = [[match.span() for match in pattern.finditer(text)] for pattern in (END_IN_ASCII, END_OF_SENTENCE)]
        assert ends[0] == ends[1]


def test_a_look_for_signs_passes_over_nothing() -> None:
    for text in texts(3):
        assert leads_elsewhere(text) == (ELSEWHERE.search(text) is not None)
        assert _may_state(text) or STATED.search(text) is BRACKETED.search(text) is None
        assert TOKEN.search(text) is None or any(chr(mark) in text for mark in MARKS)
        if TOKEN.search(text) is None:
            assert inline(text).text == text


def test_headings_are_as_without_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = list(map(heading.undecorated, texts(4)))
    monkeypatch.setattr(heading, "_DECORATION", [""])
    assert quick == list(map(heading.undecorated, texts(4)))


def test_blobs_are_as_where_the_look_finds_something() -> None:
    word, empty = f" {'a' * blobs.LONG}", [""] * blobs.PLENTY
    for text in texts(5):
        kept, lost = blobs.without_blobs(text)
        assert blobs.without_blobs(text + word) == (kept + word, lost)
        lines, more = blobs.without_dumps(text.split("\n"), False)
        assert blobs.without_dumps([*text.split("\n"), *empty], False) == ([*lines, *empty], more)


def test_a_lot_after_another_is_one_of_both() -> None:
    assert Lots(7, "a")("b\0c") == Lots(7, "a").after("b")("c") == order(7, "a", "b", "c")
