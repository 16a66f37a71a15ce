"""Records that ask the same and answer differently."""

from __future__ import annotations

import re

from ftq.facts.checks import words
from ftq.questions.conflicts import VALUE, asked, asked_hash
from ftq.questions.row import Contradiction, Stated

MOST = 100_000  # questions that are remembered
SHOWN = 120  # characters of an answer
NUMBER = re.compile(r"\d(?:[\d.,]*\d)?")


class Answers:
    """`add` records; `contradictions` are those of them with other numbers, or other words where both are short."""

    def __init__(self) -> None:
        self.left_out = 0  # records that weren't compared
        self._first: dict[int, Stated] = {}
        self._found: dict[int, tuple[str, list[Stated]]] = {}

    def add(self, question: str, answer: str, where: str) -> None:
        key = asked_hash(question)
        stated = Stated(answer[:SHOWN], where, 0)
        first = self._first.get(key)
        if first is None:
            if len(self._first) < MOST:
                self._first[key] = stated
            else:
                self.left_out += 1
        elif _differ(first.value, stated.value):
            self._found.setdefault(key, (question, [first]))[1].append(stated)

    @property
    def contradictions(self) -> tuple[Contradiction, ...]:
        return tuple(Contradiction(question, "answer", tuple(stated)) for question, stated in self._found.values())


def _differ(one: str, other: str) -> bool:
    """Whether both can't be right; two long answers may say the same in other words."""
    numbers, others = (set(NUMBER.findall(text)) for text in (one, other))
    if numbers and others:
        return not (numbers <= others or others <= numbers)
    if max(words(one), words(other)) > VALUE:
        return False
    these, those = (set(asked(text).split()) for text in (one, other))
    return not (these <= those or those <= these)
