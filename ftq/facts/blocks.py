"""What a document is made of, with the line of each part."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from ftq.facts.checks import known_words
from ftq.facts.inline import Inline, inline
from ftq.facts.sentences.split import Sentence, sentences
from ftq.facts.text.signs import letters

TEXT = 20_000  # characters; a longer paragraph is data
SAID = "paragraph of a chat or a log"  # of which nothing is asked
SENTENCE = 8  # characters of the shortest one
LOG_BEGINS = frozenset("[0123456789\u200e")
_DATE, _TIME = r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}", r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:\s?[AaPp]\.?[Mm]\.?)?"
LOG = re.compile(
    rf"\u200e?(?:\[?{_DATE}(?:T|,?\s){_TIME}[\]Z]?\s?(?:[-–]\s)?\S|"  # WhatsApp, Telegram, programs
    rf"\[{_TIME}\]\s?\S|{_TIME}\s<[@+~&%\s]?[\w\[\]\\`^{{}}|-]{{1,30}}>\s)"  # IRC
)
NUMBERED = re.compile(r"^(?:\d{1,3}(?:\.\d{1,3}){0,4}[.)]|\d{1,3}(?:\.\d{1,3}){1,4}|Step \d{1,3}[.:])\s+(?=\S)")
SUFFERED = re.compile(  # how it begins what goes wrong; no Italian `I cani`
    r"(?:It|They|There|My)\b|I (?:am|can|can['’]t|cannot|could|did|didn['’]t|don['’]t|forgot|get|have|lost|see)\b"
)
TROUBLES = known_words("troubles")
LEAD_IN = re.compile(r"(\*{1,3}|_{1,3})(?![\s*_])([^*_]{1,200}[.!])\1\s+(?=\S)")


@dataclass
class Paragraph:
    line: int
    raw: str
    references: Container[str] = ()
    is_aside: bool = False  # in a note, a warning, an example

    @cached_property
    def inline(self) -> Inline:
        return Inline("") if is_data(self) or is_log(self) or is_rest(self) else inline(self.raw, self.references)

    @cached_property
    def sentences(self) -> list[Sentence]:
        return sentences(self.inline.text, self.line)

    @cached_property
    def lead_in(self) -> str:
        """The sentence in bold or italics that it begins with: `**It flickers.** The bulb is loose.` Else empty."""
        match = LEAD_IN.match(self.raw) if self.raw[:1] in "*_" else None
        text = inline(match[2], self.references).flat if match else ""
        return text if " " in text and len(self.sentences) > 1 and self.sentences[0].text == text else ""


@dataclass
class Cell(Paragraph):
    """Of a table: `items` are what it lists, `lead` is its other text."""

    lead: str = ""
    items: tuple[str, ...] = ()


def is_data(paragraph: Paragraph) -> bool:
    """Whether it is too long to be read as sentences."""
    return len(paragraph.raw) > TEXT


def is_rest(paragraph: Paragraph) -> bool:
    """Whether its lines are rows of a long table, which is read in stretches: the header is in an earlier one."""
    raw = paragraph.raw
    return raw[:2] == "| " and raw[-1:] == "|" and raw.count("\n") == raw.count("|\n|")


def is_log(paragraph: Paragraph) -> bool:
    """Whether its lines are what somebody said or a program did at a time: they are no sentences of a document."""
    raw = paragraph.raw
    if raw[:1] not in LOG_BEGINS or "\n" not in raw or LOG.match(raw) is None:  # nearly all
        return False
    lines = raw.split("\n")
    stamped = sum(LOG.match(line) is not None for line in lines)
    return stamped > 1 and 2 * stamped >= len(lines)


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
    caption: str = ""


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
    """`headings` are those around it with its own, outermost first. `texts` are its blocks as the file has them.

    `cuts` tells what a limit left out of its blocks: (line, what, how many).
    """

    headings: tuple[str, ...]
    line: int
    level: int = 0
    blocks: list[Block] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    cuts: list[tuple[int, str, int]] = field(default_factory=list)

    @cached_property
    def path(self) -> tuple[str, ...]:
        """The headings without their numbers."""
        return tuple(filter(None, (NUMBERED.sub("", heading, count=1) for heading in self.headings)))

    @property
    def heading(self) -> str:
        return self.path[-1] if self.path else ""

    @cached_property
    def paragraphs(self) -> list[Paragraph]:
        """The paragraphs that can hold a sentence; those of lists too."""
        return list(_paragraphs(self.blocks))

    @cached_property
    def is_on_troubles(self) -> bool:
        """Whether what its paragraphs begin with in bold may go wrong: by its headings, or by one of those."""
        words = [word for heading in self.headings for word in letters(heading)]
        return not TROUBLES.isdisjoint(words) or any(SUFFERED.match(one.lead_in) for one in self.paragraphs)

    @cached_property
    def first(self) -> Paragraph | None:
        """The section's first paragraph: of its text, if it has more than notes."""
        own = [block for block in self.blocks if isinstance(block, Paragraph)]
        return next((block for block in own if not block.is_aside), own[0] if own else None)

    @cached_property
    def code(self) -> Code | None:
        """The section's first code."""
        return next((block for block in self.blocks if isinstance(block, Code)), None)


def _paragraphs(blocks: list[Block]) -> Iterator[Paragraph]:
    for block in blocks:
        if isinstance(block, Paragraph):
            if len(block.raw) >= SENTENCE:
                yield block
        elif isinstance(block, Bullets):
            for item in block.items:
                yield from _paragraphs(item.blocks)
