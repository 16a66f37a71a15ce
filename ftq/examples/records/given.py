"""What reading a document gives: candidates for examples, what it states, what was left out, what to know of it."""

from __future__ import annotations

from dataclasses import dataclass

from ftq.facts import Cut, Fact


@dataclass(frozen=True)
class Candidate:
    """An example as the document has it, however long. `blocks` make its answer: between them it may best be cut."""

    document: str
    where: str
    instruction: str
    input: str
    blocks: tuple[str, ...]
    source: str
    path: tuple[str, ...] = ()  # the headings above a section, outermost first
    turns: str = ""  # of a chat, as ftq.examples.json_records writes them
    is_record: bool = False  # no section of a text


@dataclass(frozen=True)
class LeftOut:
    """A record, or the whole document where `where` is empty, and why it gives nothing.

    `count` is that of records of which only this one, the last, is named.
    """

    document: str
    where: str
    reason: str
    count: int = 1


@dataclass(frozen=True)
class Stated:
    """What a document states, what limits left out of that, and all its words: they tell what no document says."""

    document: str
    facts: list[Fact]
    words: set[str]
    cuts: tuple[Cut, ...] = ()


@dataclass(frozen=True)
class Note:
    """What a reader should know of a document that is used: pages that were skipped, an encoding that was guessed."""

    document: str
    text: str


Read = Candidate | LeftOut | Stated | Note
