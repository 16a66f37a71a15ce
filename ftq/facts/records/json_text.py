"""JSON with all that stands in it: numbers as they are written, keys that stand twice."""

from __future__ import annotations

import json
from typing import Any

EXACT = 19  # digits


class Number(float):
    """A number that Python would write in another way: it is told as the file writes it, however many digits it has."""

    __slots__ = ("text",)

    def __new__(cls, text: str) -> Number:
        number = super().__new__(cls, text)
        number.text = text
        return number

    text: str

    def __str__(self) -> str:
        return self.text


class Twice(dict[str, Any]):
    """An object in which a key stands twice with different values. The last one counts, as json does it."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.keys_twice = frozenset(key for key, value in pairs if not _is_same(self[key], value))


def _is_same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and bool(one == other))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs) and (twice := Twice(pairs)).keys_twice:
        return twice
    return value


def _whole(text: str) -> int | Number:
    return int(text) if len(text) < EXACT and text != "-0" else Number(text)


def _broken(text: str) -> float:
    number = float(text)
    return number if len(text) < EXACT and repr(number) == text else Number(text)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_whole, parse_float=_broken, parse_constant=lambda name: None
)


def decode(text: str) -> Any:
    """The value. NaN and Infinity are no JSON and count as null. Raises json.JSONDecodeError, RecursionError."""
    return _DECODER.decode(text)
