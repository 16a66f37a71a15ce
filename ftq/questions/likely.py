"""The language of documents without sentences: tables of names and figures, by their headers and cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice

from ftq.facts.fact import Fact
from ftq.facts.text.signs import letters
from ftq.questions.wordings import (
    FEWEST,
    FIRST,
    NEUTRAL,
    PLAINLY,
    SAMPLE,
    Spoken,
    is_latin,
    language_of,
    spoken_in,
    telling,
)

USUAL = "en"  # where nothing speaks for another one


def spoken_or_likely(facts: Sequence[Fact], code: str = "") -> Spoken:
    """As `spoken_in`; where sentences and values tell no language, the likeliest one instead of neutral wordings."""
    spoken = spoken_in(facts, code)
    if code or _is_sure(facts, spoken.most.code):
        return spoken
    likely = _likely(facts)
    return spoken if likely == NEUTRAL else spoken_in(facts, "" if spoken.most.code == NEUTRAL else likely, likely)


def _is_sure(facts: Sequence[Fact], code: str) -> bool:
    """Whether more than one word tells it: `Den Haag` alone makes a list of addresses no German one."""
    text = " ".join(f"{fact.sentence} {fact.value}" for fact in islice(facts, FIRST))[:SAMPLE]
    return code != NEUTRAL and (not is_latin(text) or len(telling()[code] & {*letters(text)}) >= PLAINLY)


def _likely(facts: Sequence[Fact]) -> str:
    """By the sentences that there are, the words of headings and headers, then those of cells; English where they are
    of no language.

    `*` where enough sentences tell none, and for another alphabet.
    """
    some = list(islice(facts, FIRST))
    said = " ".join(fact.sentence for fact in some)[:SAMPLE]
    if len({*letters(said)}) >= FEWEST:
        return language_of(said)
    names = " ".join({name: None for fact in some for name in (*fact.path, fact.kind, fact.caption, fact.attribute)})
    cells = " ".join(f"{fact.subject} {fact.value}" for fact in some)
    if not is_latin(f"{names} {cells}"):
        return NEUTRAL
    if told := _told(names) or _told(f"{names} {cells}"):
        return told
    return USUAL if names.isascii() else NEUTRAL


def _told(text: str) -> str:
    """The language that most of its telling words are of; empty where these are few or of two languages."""
    words = {*letters(text[:SAMPLE])}
    counts = Counter({code: len(words & known) for code, known in telling().items()})
    (best, count), (_, second) = counts.most_common(2)
    return best if count >= PLAINLY and count > second else ""
