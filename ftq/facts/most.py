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
        self._kept: list[Fact] = []  # as long as there is room
        self._drawn: list[tuple[int, int, Fact]] = []  # after that, a heap: the highest lot is the next to go

    def add(self, facts: Iterable[Fact]) -> None:
        for fact in facts:
            if not self._drawn and len(self._kept) < self._most:
                self._kept.append(fact)
                continue
            if not self._drawn:
                self._drawn = [(-_lot(one), number, one) for number, one in enumerate(self._kept)]
                heapq.heapify(self._drawn)
                self._number, self._kept = len(self._drawn), []
            self._number += 1
            *_, lost = heapq.heappushpop(self._drawn, (-_lot(fact), self._number, fact))
            self.left_out[lost.file] += 1

    def all(self) -> list[Fact]:
        return self._kept or [fact for _, _, fact in sorted(self._drawn, key=lambda entry: entry[1])]


def _lot(fact: Fact) -> int:
    """Always the same for a fact, so that the same documents give the same facts."""
    return int.from_bytes(blake2b(fact.key.encode("utf-8", "replace"), digest_size=8).digest())
