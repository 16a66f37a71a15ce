"""What is known of a document while it is read: what it states, and what was left out of that."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby

from ftq.examples.records.given import Stated
from ftq.facts import Cut, Fact, New, facts_in, facts_in_front
from ftq.facts.blocks import Section
from ftq.facts.most import EVERY, Facts, lot
from ftq.facts.structure import Document, has_text
from ftq.facts.text import mdx

FACT, SECTION = "fact", "section"  # what a limit leaves out
OPEN = "sentence with a variable of a template"
VARIABLE = re.compile(r"\{\{[^{}\n]{0,200}\}\}")
CODE = re.compile(r"`[^`\n]{0,500}`")


@dataclass
class Known:
    """What is known of a document while its text, or one text after another, is read."""

    name: str
    rules: frozenset[str]
    limit: int
    line: int = 0  # of the text that is read, where that is a line of JSON Lines
    unasked: set[tuple[str, ...]] = field(default_factory=set)  # sections that no rule has looked at
    facts: Facts = field(default_factory=Facts)
    cuts: list[Cut] = field(default_factory=list)
    is_new: New = field(default_factory=New)
    open: set[int] = field(default_factory=set)  # lines that say what only a template knows

    def sections(self, text: Document, line: int = 0) -> Iterator[tuple[int, tuple[str, ...], tuple[str, ...]]]:
        """(line, headings above it, blocks) of each section with text. What they state is kept; `line` is that of the
        whole text where lines of it are none of the file."""
        self.line, cuts = line, [Cut(self.name, at, what, count) for at, what, count in text.lost]
        for start, parts in groupby(text.sections(), key=lambda section: section.line):
            blocks: list[str] = []
            for section in parts:
                blocks += section.texts
                self._add(facts_in(section, self.name, self.rules, cuts), line)
            if has_text(blocks):
                yield start, tuple(heading.replace("`", "") for heading in section.headings), tuple(blocks)
        self._add(facts_in_front(text, self.name, self.rules, cuts), line)
        self.cuts += [replace(cut, line=line) for cut in cuts] if line else cuts

    def is_asked(self, section: Section) -> bool:
        """Whether questions on the section may be kept."""
        names = (str(self.line), *section.path) if self.line else section.path
        if self.limit == EVERY or lot(self.name, *names) <= self.limit:
            return True
        self.unasked.add(names)
        return False

    def _add(self, facts: Iterable[Fact], line: int) -> None:
        fresh = filter(self.is_new, filter(self._is_known, facts))
        self.facts.add((replace(fact, line=line) for fact in fresh) if line else fresh)

    def _is_known(self, fact: Fact) -> bool:
        """Whether all that it says stands in the file; code is what it is."""
        said = f"{fact.value}\n{fact.subject}\n{fact.sentence}"
        if mdx.INSTEAD in said:
            return False
        if fact.relation == "command" or "{{" not in said or VARIABLE.search(CODE.sub("", said)) is None:
            return True
        self.open.add(fact.line)
        return False

    def stated(self, words: Callable[[], set[str]]) -> Iterator[Stated]:
        cuts = (*self.cuts, *(Cut(self.name, 0, FACT, number) for number in self.facts.left_out.values()))
        if self.open:
            cuts = (*cuts, Cut(self.name, min(self.open), OPEN, len(self.open)))
        if self.unasked:
            cuts = (*cuts, Cut(self.name, 0, SECTION, len(self.unasked)))
        if self.rules or cuts:
            yield Stated(self.name, self.facts.all(), words() if self.rules else set(), cuts)
