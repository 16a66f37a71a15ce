"""A question that a sentence answers."""

from __future__ import annotations

from typing import NamedTuple


class Asked(NamedTuple):
    question: str
    answer: str
    form: str
