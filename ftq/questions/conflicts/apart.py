"""Do two places speak of two things? By the names of their files, their headings, what stands above their tables."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import lru_cache

from ftq.facts.checks import EMPTY, known_phrases, known_words
from ftq.facts.fact import Fact
from ftq.facts.place import PARTS

GENERAL = EMPTY | PARTS | known_phrases("general")  # headings that many documents have
COPIES, VOLUMES, SHOWING = known_words("copies"), known_words("volumes"), known_words("showing")
TOKEN = re.compile(r"[^\W\d_]+|\d+")
NUMBERING = re.compile(r"^(?:\d{1,3}[.)]\s*)+|[\s:.!?]+$")
DATED = re.compile(r"(?<!\d)(?:(?:19|20)\d\d(?:\D?\d\d\D?\d\d)?|\d+\.\d+(?:\.\d+)*)(?!\d)")  # a year, a date, a version
# A name that means one thing wherever it stands: `FTQ_LEASE_SECONDS`, `till_2`, `a.b`; no `port` and no `--force`.
OWN_NAME = re.compile(r"`?[A-Za-z][\w]*(?:[_.][\w]+)+(?:\(\))?`?")
SHARED = 2  # values that differ, from which on two tables look like those of two things
Where = tuple[str, tuple[str, ...], str]


def where(fact: Fact) -> Where:
    """Where a fact stands; equal for facts of one table."""
    return fact.file, fact.path, fact.caption


class Tables:
    """How many values two places state differently."""

    def __init__(self, stated: Iterable[tuple[object, Fact, str]]) -> None:
        self._values: dict[Where, dict[object, str]] = defaultdict(dict)
        for key, fact, value in stated:
            self._values[where(fact)][key] = value

    def differ(self, one: Fact, other: Fact) -> bool:
        """Whether most of what both places state differs, and that is more than a slip."""
        mine, others = self._values[where(one)], self._values[where(other)]
        shared = [key for key in mine if key in others]
        different = sum(mine[key] != others[key] for key in shared)
        return different >= SHARED and 2 * different > len(shared)


def are_apart(one: Fact, other: Fact, tables: Tables) -> bool:
    """Whether something around two facts tells that they speak of two things."""
    mine, others = _telling(one.caption), _telling(other.caption)
    if mine - others and others - mine:
        return True
    if one.file != other.file and (
        _are_files_apart(one.file, other.file) or (_are_named(one.file, other.file) and tables.differ(one, other))
    ):
        return True
    own, theirs = _names(one.path, one.subject), _names(other.path, other.subject)
    if not (own - theirs and theirs - own):
        return False
    if _dates(" ".join(own - theirs)) != _dates(" ".join(theirs - own)):
        return True
    return OWN_NAME.fullmatch(one.subject) is None or tables.differ(one, other)


@lru_cache(2**12)
def _names(path: tuple[str, ...], subject: str) -> frozenset[str]:
    """What the headings name, but for what many documents have."""
    return frozenset(map(_plain, path)) - GENERAL - {_plain(subject), ""}


@lru_cache(2**12)
def _telling(caption: str) -> frozenset[str]:
    """The words of what stands above a table that tell of what it is."""
    return frozenset(word for word in TOKEN.findall(caption.lower()) if len(word) > 2 or word.isdigit()) - SHOWING


@lru_cache(2**12)
def _plain(text: str) -> str:
    return NUMBERING.sub("", " ".join(text.replace("`", "").lower().split()))


def _dates(text: str) -> list[str]:
    return DATED.findall(text)


@lru_cache(2**12)
def _are_files_apart(one: str, other: str) -> bool:
    """`2023-report.md` and `2024-report.md`, `rates-de.md` and `rates-fr.md`, `android/setup.md` and `mac/setup.md`."""
    stem, others = _stem(one), _stem(other)
    if (dates := _dates(stem)) and (other_dates := _dates(others)) and dates != other_dates:
        return True
    parts, other_parts = stem.split("/"), others.split("/")
    different = [pair for pair in zip(parts, other_parts, strict=False) if pair[0] != pair[1]]
    if len(parts) != len(other_parts) or len(different) != 1:
        return False
    names = [Counter(TOKEN.findall(part.lower())) for part in different[0]]
    mine, yours, both = names[0] - names[1], names[1] - names[0], names[0] & names[1]
    if mine.total() != 1 or yours.total() != 1 or not COPIES.isdisjoint([*mine, *yours]):
        return False  # `manual-old.md`
    if all(map(str.isdigit, (*mine, *yours))):
        return any(word.isalpha() and word not in VOLUMES for word in both)  # no `part-2.md`
    return bool(both) or parts[-1] == other_parts[-1]


@lru_cache(2**12)
def _are_named(one: str, other: str) -> bool:
    """`germany.md` and `france.md`, whose names may tell what their tables are of: no `guide.md`, no `a.md`."""
    mine, theirs = (
        frozenset(word for word in TOKEN.findall(_stem(file).lower()) if len(word) > 2) for file in (one, other)
    )
    known = GENERAL | COPIES | VOLUMES
    return bool(mine - theirs - known and theirs - mine - known)


def _stem(file: str) -> str:
    """With its folders, without its suffix."""
    stem, _, suffix = file.rpartition(".")
    return stem if stem and "/" not in suffix else file
