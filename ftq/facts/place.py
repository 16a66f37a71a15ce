"""A section, as the rules see it, and the facts that are made there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from ftq.facts.blocks import Section
from ftq.facts.checks import EMPTY, RECENT, is_readable, is_subject, known_phrases, leads_on, points, words
from ftq.facts.fact import Cut, Fact
from ftq.facts.sentences.split import Sentence
from ftq.facts.text.signs import QUESTIONS, UNSPACED

MORE = re.compile(
    r"(?:See|Refer to|For (?:more|further|details|a full)|Learn more|Read more|Siehe|Voir|Véase|Zie|См\.)\b"
)
SHOWS = re.compile(r"(?:Here(?:['’]s| is| are)|The following (?:example|code|table|list))\b")
EXPORTED = re.compile(  # Notion's ids, Confluence's numbers; no dates
    r"(?<=[^\W_])[ _-](?:[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|"
    r"(?<=_)(?!(?:19|20)\d{6}$)\d{6,12})(?:_all)?$"
)
PARTS = known_phrases("parts")
ANSWER = 50  # words of a text that answers; it ends with a whole sentence


@dataclass(frozen=True)
class Place:
    file: str
    section: Section
    cuts: list[Cut] = field(default_factory=list)
    caption: str = ""  # above the table that is read

    def cut(self, line: int, what: str, count: int) -> None:
        """Note what a limit leaves out."""
        if count > 0:
            self.cuts.append(Cut(self.file, line, what, count))

    @property
    def owner(self) -> str:
        """Whose figures a section has: the nearest heading's that names a thing, else the file's."""
        headings = (heading.strip(" :") for heading in reversed(self.section.path))
        named = (one for one in headings if one.lower() not in EMPTY | PARTS and is_subject(one, longest=8))
        return next(named, "") or stem_of(self.file).replace("-", " ").replace("_", " ")

    def fact(
        self,
        rule: str,
        relation: str,
        subject: str,
        value: str,
        line: int,
        sentence: str = "",
        attribute: str = "",
        kind: str = "",
    ) -> Fact:
        path = self.section.path
        return Fact(subject, relation, value, sentence, path, self.file, line, rule, attribute, kind, self.caption)


Rule = Callable[[Place], Iterator[Fact]]


def answer(sentences: list[Sentence], most: int = 2, longest: int = ANSWER) -> str:
    """The first sentences, as many as are short enough and can be read without what follows."""
    taken: list[str] = []
    for sentence in sentences[:most]:
        if (
            MORE.match(sentence.text)
            or leads_on(sentence.text)
            or SHOWS.match(sentence.text)
            or words(" ".join([*taken, sentence.text])) > longest
            or not is_readable(sentence.text)
        ):
            break
        taken.append(sentence.text)
    text = "".join(f"{part} " if part[-1] not in UNSPACED else part for part in taken).rstrip()
    return text if words(text) >= 3 and not (len(taken) == 1 and points(text) and words(text) < 5) else ""


def stem_of(file: str) -> str:
    """What a file is called, without its suffix and without the id that a wiki's export puts behind its title."""
    stem = file.rpartition("/")[2]
    stem = stem.rpartition(".")[0] or stem
    return EXPORTED.sub("", stem) or stem


def place_of(fact: Fact) -> str:
    """The nearest heading that names something else than the fact's subject, else the file's name.

    Of an example the two headings that it stands under: `Quick start` alone may be on every page.
    """
    if fact.relation == "set":
        return ", ".join(fact.path[-2:]) or stem_of(fact.file)
    return _place(fact.path, fact.file, fact.subject)


def around(fact: Fact) -> tuple[str, ...]:
    """The headings around a fact, without the one that is its subject."""
    return fact.path[:-1] if fact.path and _is_same(fact.path[-1], fact.subject) else fact.path


@lru_cache(RECENT)
def _place(path: tuple[str, ...], file: str, own: str) -> str:
    named = (name for name in reversed(path) if _is_place(name) and not _is_same(name, own))
    return next(named, "").rstrip(f"{QUESTIONS}:.! ") or stem_of(file)


def _is_place(heading: str) -> bool:
    """Whether it names something: no `Example`, and no `About us`, that a question is on already."""
    plain = heading.strip(" :").lower()
    return plain not in EMPTY and plain not in ("about us", "about me")


def _is_same(heading: str, subject: str) -> bool:
    """`workers` below the heading `` `workers` ``: it tells nothing."""
    return heading == subject or heading.strip("`*_ :") == subject.strip("`*_ :")
