"""Texts that are nearly the same: by MinHash over groups of three words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftq.facts.text import signs

if TYPE_CHECKING:
    from rensa import RMinHash, RMinHashLSH

ALIKE = 0.8  # of their groups of words in common
LEAST = 30  # words: shorter texts are alike by chance
MOST = 30_000  # texts that are remembered
PERMUTATIONS, BANDS = 64, 16


class Near:
    """Remembers texts, and says which an earlier one nearly repeats."""

    def __init__(self) -> None:
        self.left_out = 0  # texts that came when no more could be remembered
        self._index: RMinHashLSH | None = None
        self._sketches: list[RMinHash] = []
        self._names: list[str] = []

    def earlier(self, text: str, name: str) -> str:
        """The name of an earlier text that is nearly the same; empty if there is none. Then it is remembered."""
        words = signs.words(text)
        if len(words) < LEAST:
            return ""
        from rensa import RMinHash, RMinHashLSH

        index = self._index = self._index or RMinHashLSH(ALIKE, PERMUTATIONS, BANDS)
        sketch = RMinHash(PERMUTATIONS, 1)
        sketch.update([" ".join(group) for group in zip(words, words[1:], words[2:], strict=False)])
        for number in index.query(sketch):
            if sketch.jaccard(self._sketches[int(number)]) >= ALIKE:
                return self._names[int(number)]
        if len(self._names) >= MOST:
            self.left_out += 1
            return ""
        index.insert(len(self._names), sketch)
        self._sketches.append(sketch)
        self._names.append(name)
        return ""
