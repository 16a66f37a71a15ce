"""Documents into facts, from their structure alone: no model, no network, no file is read.

`facts_of` for Markdown, `facts_of_json` for JSON that isn't examples. Rules by letter: `ftq.facts.fact.RULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from ftq.facts.blocks import SAID, Section, is_data, is_log, is_rest
from ftq.facts.checks import alike, is_generated, is_navigation
from ftq.facts.fact import ALL, RULES, Cut, Fact
from ftq.facts.marks import END_OF_LINE
from ftq.facts.place import Place, Rule
from ftq.facts.records.json_text import decode
from ftq.facts.records.names import COMPARED, subject_key
from ftq.facts.rules import code, data, front, lists, prose, tables, terms
from ftq.facts.rules.settings.key import key
from ftq.facts.structure import Document

__all__ = ["ALL", "RULES", "Cut", "Fact", "New", "distinct", "facts_in", "facts_in_front", "facts_of", "facts_of_json"]
__all__ += ["facts_of_lines", "is_generated"]

# In this order: where two rules find the same, the first one has it.
READERS: dict[str, Rule] = {
    "Q": lists.question,
    "T": tables.table,
    "O": terms.option,
    "D": terms.definition,
    "K": key,
    "C": code.command,
    "L": lists.listing,
    "S": prose.statement,
    "H": prose.lead,
    "P": prose.plain,
    "B": prose.term,
}


def facts_of(source: str, file: str, rules: frozenset[str] = ALL) -> list[Fact]:
    """What a Markdown text states, each once."""
    text = Document(source)
    facts = [fact for section in text.sections() for fact in facts_in(section, file, rules)]
    return [] if is_generated(source) else distinct([*facts, *facts_in_front(text, file, rules)])


def facts_in(section: Section, file: str, rules: frozenset[str], cuts: list[Cut] | None = None) -> Iterator[Fact]:
    """What a section states. What a limit leaves out is added to `cuts`."""
    if not rules or is_navigation(section.path):
        return
    place = Place(file, section, [] if cuts is None else cuts)
    for cut in section.cuts:
        place.cut(*cut)
    if section.blocks:
        rest = list(filter(is_rest, section.paragraphs))
        place.cut(rest[0].line if rest else 0, tables.ROW, sum(rows.raw.count("\n") + 1 for rows in rest))
        data = sum(is_data(paragraph) and not is_rest(paragraph) for paragraph in section.paragraphs)
        place.cut(section.line, "paragraph too long to be prose", data)
        place.cut(section.line, SAID, sum(map(is_log, section.paragraphs)))
        for letter, read in READERS.items():
            if letter in rules:
                yield from read(place)


def facts_in_front(text: Document, file: str, rules: frozenset[str], cuts: list[Cut] | None = None) -> Iterator[Fact]:
    """What a text's front matter states, once its sections have been read. `cuts` as above."""
    if "F" in rules:
        place = Place(file, Section((), 1), [] if cuts is None else cuts)
        yield from front.page(text.front, text.title, place, END_OF_LINE.split(text.source[: front.LENGTH]))


def facts_of_json(source: str, file: str, known: data.Data | None = None) -> list[Fact]:
    """What JSON, or each line of JSON Lines, states; malformed text nothing. What gives none is told by `known`."""
    try:
        return distinct(data.json_facts(decode(source), file, known=known))
    except (ValueError, RecursionError):
        pass
    return facts_of_lines(lambda: _lines(source), known or data.Data(file))


def facts_of_lines(lines: Callable[[], Iterable[tuple[int, object]]], known: data.Data) -> list[Fact]:
    """What JSON Lines state: the number of each and its value, which are read twice. FACTS at most of all together."""
    first = [value for _, value in islice(lines(), COMPARED) if isinstance(value, dict)]
    known.key, known.is_line, known.is_lines = subject_key(first), len(first) > 1, True
    facts, start, left_out = list[Fact](), 0, 0
    for line, value in lines():
        of_line = list(data.json_facts(value, known.file, line, known))
        room = data.FACTS - len(facts)
        facts += of_line[:room]
        if len(of_line) > room:
            start, left_out = start or line, left_out + len(of_line) - room
    if left_out:
        known.cuts.append(Cut(known.file, start, "value of JSON", left_out))
    return distinct(facts)


def _lines(source: str) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(source.split("\n"), start=1):
        try:
            if line.strip():
                yield number, decode(line)
        except (ValueError, RecursionError):
            continue


def distinct(facts: Iterable[Fact]) -> list[Fact]:
    """The first of facts that say the same; sentences that differ in signs only are one."""
    return list(filter(New(), facts))


class New:
    """Called with one fact after another: whether none before it says the same.

    Hashes are kept: the words of all facts would take several times the memory of the facts.
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def __call__(self, fact: Fact) -> bool:
        value = fact.sentence if fact.relation == "term" else fact.value  # one word is blanked in many sentences
        is_set = fact.relation in ("default", "set")
        attribute = "" if is_set else fact.attribute.lower()
        same = hash((fact.relation, fact.subject.lower(), attribute, alike(value)))
        stated = hash((fact.relation, alike(fact.sentence))) if fact.sentence and not is_set else same
        is_new = same not in self._seen and stated not in self._seen
        self._seen.add(same)
        self._seen.add(stated)
        return is_new
