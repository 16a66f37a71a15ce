"""The one place where sentences are cut. One pass, and a look at a few characters beside each full stop."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

from ftq.facts.checks import known_words
from ftq.facts.text.signs import END_IN_ASCII, END_OF_SENTENCE

SHORT, LAST = known_words("abbreviations"), known_words("last_abbreviations")
BOUNDS = frozenset({"max.", "min."})  # behind a figure they may end a sentence
OPEN = re.compile(r"(?:[^\W\d_]\.){2,}|[^\W\d_]{1,15}str\.")  # `U.S.`, `Hauptstr.`: may end one, as those of LAST
LETTER = re.compile(r"[^\W\d_]\.")
JOINS = re.compile(r"[-–—/(]")  # the days of `Mon.-Fri.`
WORD = re.compile(r"\w*")
BEFORE_ORDINALS, AFTER_ORDINALS = known_words("before_ordinals"), known_words("after_ordinals")
NEAR = 16  # characters beside a full stop that tell whose it is


class Sentence(NamedTuple):
    text: str
    line: int


def sentences(text: str, line: int) -> list[Sentence]:
    """Cut plain text at its full stops, not inside code and not after abbreviations."""
    cuts, ticks, done = [0], 0, 0
    ends = END_IN_ASCII if text.isascii() else END_OF_SENTENCE
    for match in ends.finditer(text):
        ticks += text.count("`", done, match.start())
        done = match.start()
        near = text[max(0, match.start() - NEAR) : match.end()]
        if ticks % 2 == 0 and not _goes_on(near.split(), text[match.end() : match.end() + NEAR]):
            cuts.append(match.end())
    cuts.append(len(text))
    found = []
    for start, end in pairwise(cuts):
        piece = text[start:end]
        if words := piece.split():
            found.append(Sentence(" ".join(words), line))
        line += piece.count("\n")
    return found


def _goes_on(before: list[str], following: str) -> bool:
    """Whether the full stop is an abbreviation's, an initial's or a number's; some end a sentence before a capital."""
    if not before or before[-1][-1] != ".":
        return False
    word = JOINS.split(before[-1])[-1]
    if LETTER.fullmatch(word):
        return _is_of_letters(word, before[-2:-1], following)
    if word[:-1].isdigit():
        return len(word) < 4 and _is_ordinal(before[-2:-1], following)
    forms, is_capital = {word, word.lower()}, following[:1].isupper()
    if not forms.isdisjoint(BOUNDS):
        return not (is_capital and any(sign.isdigit() for sign in "".join(before)))
    is_last = not forms.isdisjoint(LAST) or OPEN.fullmatch(word) is not None
    return not forms.isdisjoint(SHORT) or (is_last and not is_capital)


def _is_of_letters(word: str, before: list[str], following: str) -> bool:
    """An initial, or a letter of several that are one abbreviation: `z. B.`, `p. ex.`, `9 p. m.`"""
    if word[0].isupper() and word.isascii():
        return True
    if word in SHORT or LETTER.match(following):
        return True
    both = f"{before[0]}{word}".lower() if before and LETTER.fullmatch(before[0]) else ""
    return bool(both) and (both in SHORT or not following[:1].isupper())


def _is_ordinal(before: list[str], following: str) -> bool:
    """`jeden 1. Samstag`, `am 21. März`: in German a figure with a full stop is the first, the second."""
    after = WORD.match(following)
    is_named = after is not None and after[0].lower() in AFTER_ORDINALS
    return is_named or (following[:1].isupper() and bool(before) and before[0].lower() in BEFORE_ORDINALS)
