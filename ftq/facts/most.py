"""So many facts at most: they lie in memory until all documents are read, and so do the questions on them.

Sections are drawn, by their names: those whose lot is too high to be among the facts that are kept need no rules.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from hashlib import blake2b

from ftq.facts.fact import Fact

MOST = 45_000  # about 220 MB with their questions
LINES = (".jsonl", ".ndjson")
EVERY = 2**64  # no lot is higher


class Facts:
    """Facts in their order. Of more than MOST those of some sections are kept, of each document its share."""

    def __init__(self, most: int = MOST) -> None:
        self.left_out = Counter[str]()  # of each file
        self._most = most
        self._kept: list[Fact] = []  # as long as there is room
        self._drawn: list[tuple[int, int, int, Fact]] = []  # after that, a heap: the highest lots are the next to go
        self._number = 0

    def add(self, facts: Iterable[Fact]) -> None:
        for fact in facts:
            if not self._drawn and len(self._kept) < self._most:
                self._kept.append(fact)
                continue
            if not self._drawn:
                self._drawn = list(map(self._entry, self._kept))
                heapq.heapify(self._drawn)
                self._kept = []
            lost = fact
            if -lot(fact.file, *_section(fact)) >= self._drawn[0][0]:
                *_, lost = heapq.heappushpop(self._drawn, self._entry(fact))
            self.left_out[lost.file] += 1

    def _entry(self, fact: Fact) -> tuple[int, int, int, Fact]:
        """Of one section each fact has a lot of its own."""
        self._number += 1
        return -lot(fact.file, *_section(fact)), -lot(fact.key), self._number, fact

    @property
    def limit(self) -> int:
        """The highest lot of a section whose facts may still be kept."""
        return -self._drawn[0][0] if self._drawn else EVERY

    def all(self) -> list[Fact]:
        return self._kept or [fact for *_, fact in sorted(self._drawn, key=lambda entry: entry[2])]


class Limits:
    """The limit for one group of documents after another, as it was when all but the last `lag` before it were read.

    So it is the same on however many cores they are read.
    """

    def __init__(self, limit: Callable[[], int], lag: int) -> None:
        self._limit, self._lag, self._before, self._given = limit, lag, list[int](), 0

    def note(self) -> None:
        """One more group has been read, and what it gives been taken."""
        self._before.append(self._limit())

    def next(self) -> int:
        self._given += 1
        return self._before[self._given - self._lag - 2] if self._given > self._lag + 1 else EVERY


@lru_cache(1024)
def lot(file: str, *names: str) -> int:
    """A section's, by its headings. Always the same, so that the same documents give the same facts."""
    return int.from_bytes(blake2b("\0".join((file, *names)).encode("utf-8", "replace"), digest_size=8).digest())


def _section(fact: Fact) -> tuple[str, ...]:
    """Of JSON its object; each line of JSON Lines has sections of its own."""
    if fact.rule == "J":
        return (*fact.path, fact.subject)
    return (str(fact.line), *fact.path) if fact.file.lower().endswith(LINES) else fact.path
