"""Where code that stands in a line ends: at the next run of as many backticks."""

from __future__ import annotations

import re
from functools import cached_property

BLOCK = re.compile(r"\n[ \t>]*(?:[-*+][ \t]|\d{1,9}[.)][ \t]|#{1,6}[ \t]|\||<!--)")  # begins an item, a heading, a row


class Ticks:
    """Of one text, asked from its start to its end: so all questions together take the time of one look."""

    def __init__(self, text: str) -> None:
        self.text = text

    def closing(self, size: int, after: int) -> int:
        """Where the run of `size` backticks begins that closes code from `after` on; -1 if there is none."""
        starts = self._starts.get(size, [])
        while starts and starts[-1] < after:
            starts.pop()
        if not starts or BLOCK.search(self.text, after, starts[-1]):
            return -1
        return starts[-1]

    @cached_property
    def _starts(self) -> dict[int, list[int]]:
        """The last first."""
        starts: dict[int, list[int]] = {}
        for run in re.finditer("`+", self.text):
            starts.setdefault(len(run[0]), []).append(run.start())
        for found in starts.values():
            found.reverse()
        return starts
