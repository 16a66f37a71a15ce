"""Documents into facts, from their structure alone: no model, no network, no file is read.

`facts_of` for Markdown, `facts_of_json` for JSON that isn't examples. Rules by letter: `ftq.facts.fact.RULES`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from ftq.facts.blocks import Section, is_data
from ftq.facts.checks import alike, is_generated, is_navigation
from ftq.facts.fact import ALL, RULES, Cut, Fact
from ftq.facts.place import Place, Rule
from ftq.facts.rules import code, data, front, lists, prose, tables, terms
from ftq.facts.structure import Document

__all__ = ["ALL", "RULES", "Cut", "Fact", "distinct", "facts_in", "facts_of", "facts_of_json", "stated"]

# In this order: where two rules find the same, the first one has it.
READERS: dict[str, Rule] = {
    "Q": lists.question,
    "T": tables.table,
    "O": terms.option,
    "D": terms.definition,
    "K": code.key,
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
    return stated(text, file, facts, rules)


def facts_in(section: Section, file: str, rules: frozenset[str], cuts: list[Cut] | None = None) -> Iterator[Fact]:
    """What a section states. What a limit leaves out is added to `cuts`."""
    if section.blocks and rules and not is_navigation(section.path):
        place = Place(file, section, [] if cuts is None else cuts)
        place.cut(section.line, "paragraph too long to be prose", sum(map(is_data, section.paragraphs)))
        for cut in section.cuts:
            place.cut(*cut)
        for letter, read in READERS.items():
            if letter in rules:
                yield from read(place)


def stated(
    text: Document, file: str, facts: list[Fact], rules: frozenset[str], cuts: list[Cut] | None = None
) -> list[Fact]:
    """What a text states, each once: `facts` of its sections, and those of its front matter. `cuts` as above."""
    if is_generated(text.source):
        return []
    if "F" in rules:
        place = Place(file, Section((), 1), [] if cuts is None else cuts)
        facts += front.page(text.front, text.title, place, text.source[: front.LENGTH].splitlines())
    return distinct(facts)


def facts_of_json(source: str, file: str, cuts: list[Cut] | None = None) -> list[Fact]:
    """What JSON, or each line of JSON Lines, states. Malformed text states nothing. `cuts` as above."""
    try:
        return distinct(data.json_facts(json.loads(source), file, cuts=cuts))
    except (ValueError, RecursionError):
        pass
    facts: list[Fact] = []
    for number, line in enumerate(source.split("\n"), start=1):
        try:
            facts.extend(data.json_facts(json.loads(line), file, number, cuts) if line.strip() else ())
        except (ValueError, RecursionError):
            continue
    return distinct(facts)


def distinct(facts: Iterable[Fact]) -> list[Fact]:
    """The first of facts that say the same; sentences that differ in signs only are one."""
    seen: set[object] = set()
    kept = []
    for fact in facts:
        value = fact.sentence if fact.relation == "term" else fact.value  # one word is blanked in many sentences
        same = (fact.relation, fact.subject.lower(), fact.attribute.lower(), alike(value))
        stated = (fact.relation, alike(fact.sentence)) if fact.sentence and fact.relation != "default" else same
        if same not in seen and stated not in seen:
            kept.append(fact)
        seen |= {same, stated}
    return kept
