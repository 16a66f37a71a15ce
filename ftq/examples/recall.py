"""Where an example goes, and how many questions of valid can tell whether a model has learned its documents."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence, Set
from enum import StrEnum

from ftq.examples.split import Example
from ftq.facts.fact import SILENT
from ftq.questions.conflicts import asked_hash

LONGEST = 60  # words of an answer: a longer one is a text to write, not a question to answer


class Part(StrEnum):
    """Where an example goes. DRAWN: its content decides."""

    TRAIN = "train"
    VALID = "valid"
    DRAWN = "drawn"


def share(example: Example, seed: int, part: Part = Part.DRAWN) -> float:
    """A number from 0 to 1 that stays the same for the same example and seed; beyond it where the part is given."""
    if part is not Part.DRAWN:
        return 2.0 if part is Part.TRAIN else -1.0
    content = "\x1f".join([str(seed), example["instruction"], example["input"], example["output"]])
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big") / 2**64


def held_out(shares: Sequence[float], fraction: float) -> set[int]:
    """Which examples are for validation: those with a small share, so that a new document moves no other example.

    None may be drawn of few examples. If there are enough for one, the nearest to it is held out.
    """
    valid = [number for number, share in enumerate(shares) if share < fraction]
    if len(valid) == len(shares):
        valid = valid[1:]
    if not valid and fraction * len(shares) >= 1 and min(shares) <= 1:
        valid = [min(range(len(shares)), key=shares.__getitem__)]
    return set(valid)


class Recall:
    """`see` the examples in their order; `count` says how many questions of valid have an answer that train has too.

    Of a record that is drawn only the answer's hash is kept: there may be millions.
    """

    def __init__(self, seed: int) -> None:
        self.shares = array("d")  # of each example
        self._seed, self._sure = seed, 0
        self._taught, self._drawn, self._numbers = array("q"), array("q"), array("q")

    def see(self, example: Example, part: Part) -> None:
        self.shares.append(2.0 if part is Part.TRAIN else share(example, self._seed, part))
        answer = example["output"]
        if (len(answer) > 2 * LONGEST and len(answer.split()) > LONGEST) or example.get("rule") == SILENT:
            return
        if part is Part.VALID:
            self._sure += 1
            return
        if part is Part.TRAIN and "rule" in example and not self._drawn:
            return  # rows on facts come after all documents, of which none asks for what they teach
        (self._taught if part is Part.TRAIN else self._drawn).append(asked_hash(answer))
        if part is Part.DRAWN:
            self._numbers.append(len(self.shares) - 1)

    def valid(self, fraction: float) -> set[int]:
        """The numbers of the examples that are held out."""
        return held_out(self.shares, fraction)

    def count(self, valid: Set[int]) -> int:
        """`valid` has the numbers of the examples that were held out."""
        drawn = [answer for number, answer in zip(self._numbers, self._drawn, strict=True) if number in valid]
        wanted = set(drawn)
        taught = wanted.intersection(self._taught)
        taught.update(
            answer
            for number, answer in zip(self._numbers, self._drawn, strict=True)
            if answer in wanted and number not in valid
        )
        return self._sure + sum(answer in taught for answer in drawn)
