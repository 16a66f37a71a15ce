"""What goes in and comes out: options, rows, the report; the order that a seed gives."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from hashlib import blake2b
from typing import Any, NamedTuple

from ftq.facts.fact import ALL


@dataclass(frozen=True)
class Options:
    language: str = ""  # of wordings.toml; empty: that of the facts' text
    topic: str = ""  # what the documents are about, put into half of the questions
    exposures: int = 12  # how often a training meets each fact: wordings times epochs
    epochs: int = 4
    refusals: float = 0.03  # share of rows on what the documents don't say
    rules: frozenset[str] = ALL
    seed: int = 0
    fact_rows: int = 24  # at most
    answer_share: float = 0.03  # of rows with one same answer
    cloze_share: float = 0.15  # of tokens
    valid_every: int = 20  # facts, of which one has another wording in valid
    valid_least: int = 20  # wordings in valid, where there are so many that train has no use for

    @cached_property
    def section_rows(self) -> int:
        """At most, once each of its facts has two: thirty facts' wordings."""
        return 30 * self.wordings

    @cached_property
    def wordings(self) -> int:
        """Of each fact."""
        return min(self.fact_rows // 2, max(1, -(-self.exposures // max(1, self.epochs))))


class Row(NamedTuple):
    instruction: str
    input: str
    output: str
    source: str
    rule: str
    fact: str  # its key
    value: str = ""  # the answer's core: what any right answer says
    document: str = ""


@dataclass(frozen=True)
class Stated:
    """`line` is 0 where `file` says the record too."""

    value: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.value} ({self.file}:{self.line})" if self.line else f"{self.value} ({self.file})"


@dataclass(frozen=True)
class Contradiction:
    """Files that say different things about one attribute of one subject."""

    subject: str
    attribute: str
    stated: tuple[Stated, ...]

    def __str__(self) -> str:
        return f"{self.subject}, {self.attribute}: {', '.join(map(str, self.stated))}"

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Contradiction:
        """From what dataclasses.asdict made of it, as JSON keeps it."""
        stated = tuple(Stated(**one) for one in value["stated"])
        return cls(value["subject"], value["attribute"], stated)


@dataclass(frozen=True)
class Report:
    language: str
    facts: int
    rows: dict[str, int]  # of each rule
    contradictions: tuple[Contradiction, ...]
    few: tuple[str, ...]  # keys of facts that are met less than five times
    left_out: dict[str, int] = field(default_factory=dict)  # rows by reason
    left_out_of: dict[str, dict[str, int]] = field(default_factory=dict)  # by reason and place: a file, its heading

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Report:
        """From what dataclasses.asdict made of it, as JSON keeps it."""
        known = {one.name for one in fields(cls)}
        contradictions = tuple(map(Contradiction.from_json, value["contradictions"]))
        kept = {name: given for name, given in value.items() if name in known}
        return cls(**{**kept, "few": tuple(value["few"]), "contradictions": contradictions})


def order(seed: int, *parts: str) -> bytes:
    """What sorts in an order that only the seed decides."""
    return blake2b(_bytes("\0".join((str(seed), *parts))), digest_size=8).digest()


def _bytes(text: str) -> bytes:
    return text.encode() if text.isascii() else text.encode("utf-8", "replace")


class Lots:
    """`Lots(seed, a)(b)` is `order(seed, a, b)`, for many b."""

    def __init__(self, seed: int, *parts: str) -> None:
        self._start = blake2b(_bytes("\0".join((str(seed), *parts, ""))), digest_size=8)

    def __call__(self, part: str) -> bytes:
        lot = self._start.copy()
        lot.update(part.encode() if part.isascii() else part.encode("utf-8", "replace"))
        return lot.digest()

    def after(self, part: str) -> Lots:
        """`Lots(seed, a).after(b)(c)` is `order(seed, a, b, c)`."""
        lots = object.__new__(Lots)
        lots._start = self._start.copy()
        lots._start.update(_bytes(f"{part}\0"))
        return lots
