"""A finding: what is wrong with documents, where, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """`places` are the first ones, of `count`."""

    level: Level
    message: str
    fix: str
    places: tuple[str, ...] = ()
    count: int = 0


def told(level: Level, message: str, fix: str, places: tuple[str, ...]) -> Finding:
    """A finding with all its places."""
    return Finding(level, message, fix, places, len(places))
