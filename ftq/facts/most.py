"""So many facts at most: they lie in memory until all documents are read, and so do the questions on them."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b

from ftq.facts.fact import Fact

MOST = 45_000  # about 220 MB with their questions


class Facts:
    """Facts in their order. Of more than MOST a sample is kept that has of each document its share."""

    def __init__(self, most: int = MOST) -> None:
        self.left_out = Counter[str]()  # of each file
        self._most, self._number = most, 0
        self._kept: list[tuple[int, int, Fact]] = []  # once it is full, a heap: the highest lot is the next to go

    def add(self, facts: Iterable[Fact]) -> None:
        for fact in facts:
            self._number += 1
            entry = (-_lot(fact), self._number, fact)
            if len(self._kept) < self._most:
                self._kept.append(entry)
                if len(self._kept) == self._most:
                    heapq.heapify(self._kept)
            else:
                *_, lost = heapq.heappushpop(self._kept, entry)
                self.left_out[lost.file] += 1

    def all(self) -> list[Fact]:
        return [fact for _, _, fact in sorted(self._kept, key=lambda entry: entry[1])]


def _lot(fact: Fact) -> int:
    """Always the same for a fact, so that the same documents give the same facts."""
    return int.from_bytes(blake2b(fact.key.encode("utf-8", "replace"), digest_size=8).digest())
