"""A line of code that sets something, with the comments on it.

No parser of a format: an example has gaps (`...`), and its comments and lines are needed.
"""

from __future__ import annotations

import re
from typing import NamedTuple

COMMENTS = 6  # lines of a comment at most
COMMENT = re.compile(r"\s*(?:#|;|//)+\s?(?P<text>.*)")
BESIDE = re.compile(r"(?:^|\s)(?:#|//)\s?(?P<text>.*)$")
QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
DECORATION = " #;-=/*"


class Setting(NamedTuple):
    """`path` leads to it; `value` is empty where other lines hold it.

    `above` is the comment that stands right above it, a line each, and `beside` the one behind it. `is_first`: what
    follows at once is set at the same place, so that the comment above may be on both. `is_off`: it stands in a
    comment. `is_listed`: in one of several items.
    """

    line: int
    path: tuple[str, ...]
    sign: str
    value: str
    above: tuple[str, ...] = ()
    beside: str = ""
    is_first: bool = False
    is_off: bool = False
    is_listed: bool = False


class Above:
    """The comment above a line, while the lines are read."""

    def __init__(self) -> None:
        self._lines, self._is_code = list[str](), False

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, text: str) -> None:
        self._is_code |= text.startswith("- ")  # an item that is switched off
        self._lines.append(text.strip(DECORATION))

    def take(self) -> tuple[str, ...]:
        """The comment; the next line has none of it."""
        lines = () if self._is_code or len(self._lines) > COMMENTS else tuple(filter(None, self._lines))
        self._lines, self._is_code = [], False
        return lines


def parted(text: str) -> tuple[str, str]:
    """(the value, the comment behind it). In quotes a # begins none."""
    quoted = QUOTED.match(text)
    beside = BESIDE.search(text, quoted.end() if quoted else 0)
    return (text[: beside.start()].strip(), beside["text"].strip()) if beside else (text.strip(), "")
