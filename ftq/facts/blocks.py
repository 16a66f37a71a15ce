"""What a document is made of, with the line of each part."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from functools import cached_property

from ftq.facts.inline import Inline, Sentence, inline, sentences

TEXT = 20_000  # characters; a longer paragraph is data


@dataclass
class Paragraph:
    line: int
    raw: str
    references: Container[str] = ()

    @cached_property
    def inline(self) -> Inline:
        return inline(self.raw, self.references) if len(self.raw) <= TEXT else Inline("")

    @cached_property
    def sentences(self) -> list[Sentence]:
        return sentences(self.inline.text, self.line)


@dataclass
class Code:
    line: int  # of its first line of text
    info: str
    lines: list[str]


@dataclass
class Table:
    line: int
    header: list[Paragraph]
    rows: list[list[Paragraph]]


@dataclass
class Definitions:
    line: int
    terms: list[tuple[Paragraph, Paragraph]]


@dataclass
class Item:
    line: int
    blocks: list[Block]

    @property
    def text(self) -> Paragraph | None:
        """The paragraph that the item begins with."""
        first = self.blocks[0] if self.blocks else None
        return first if isinstance(first, Paragraph) else None


@dataclass
class Bullets:
    line: int
    items: list[Item]


Block = Paragraph | Code | Table | Definitions | Bullets


@dataclass
class Section:
    """`path` holds the headings around it with its own, outermost first."""

    path: tuple[str, ...]
    line: int
    level: int = 0
    blocks: list[Block] = field(default_factory=list)

    @property
    def heading(self) -> str:
        return self.path[-1] if self.path else ""


@dataclass
class Document:
    sections: list[Section]
    front: str
