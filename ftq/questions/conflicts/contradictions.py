"""What documents say differently of one thing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from ftq.facts.checks import words
from ftq.facts.fact import Fact
from ftq.facts.place import place_of
from ftq.questions.conflicts.apart import Tables, are_apart, where
from ftq.questions.conflicts.resolved import COMPARED, asked, name_of, without_figures
from ftq.questions.kinds import VAGUE
from ftq.questions.row import Contradiction, Stated
from ftq.questions.wordings import Spoken

VALUE = 8  # words of a value that can be compared
WHERES = 50  # places with other names that state one key; of more, only those with equal names are compared
GROUPED = re.compile(r"(?<=\d)[, ](?=\d{3}(?!\d))|(?<=\d) (?=[^\W\d]{1,3}\b|%)")  # `1,000 kg` is `1000kg`
Key = tuple[str, ...]


def contradictions(facts: Iterable[Fact], spoken: Spoken) -> tuple[Contradiction, ...]:
    """Values that differ between files, with the place of each, where neither names of files nor headings nor what
    stands above a table tell that two things are meant; sentences too, if only their numbers differ."""
    stated: dict[Key, list[Fact]] = defaultdict(list)
    for fact in facts:
        if key := _key(fact, spoken):
            stated[key].append(fact)
    differing = {key: some for key, some in stated.items() if len(some) > 1 and len(set(map(_value, some))) > 1}
    tables = Tables((key, fact, _value(fact)) for key, some in differing.items() for fact in some)
    return tuple(_told(values) for some in differing.values() for values in _of_one_thing(some, tables))


def _key(fact: Fact, spoken: Spoken) -> Key:
    """Equal for facts that say the same of the same; empty for those that aren't compared."""
    if fact.relation in COMPARED and words(fact.value) <= VALUE and fact.rule != "J":
        attribute = "" if fact.relation == "default" else fact.attribute
        heading = place_of(fact) if fact.path and VAGUE.fullmatch(fact.subject) else ""
        kind = name_of(fact.kind) if attribute else ""
        return fact.relation, name_of(fact.subject), name_of(attribute), kind, heading
    if fact.relation == "said" and (figured := without_figures(fact, spoken)):
        return fact.relation, figured, *map(name_of, fact.path)
    return ()


def _value(fact: Fact) -> str:
    return fact.sentence if fact.relation == "said" else GROUPED.sub("", asked(fact.value))


def _of_one_thing(facts: list[Fact], tables: Tables) -> Iterator[list[Fact]]:
    """The first fact of each value, of those whose places nothing tells apart, where several files differ."""
    groups: dict[object, dict[str, Fact]] = {}
    firsts: list[tuple[object, Fact]] = []
    for fact in facts:
        place = where(fact)
        if place not in groups:
            alike = (known for known, first in firsts if not are_apart(fact, first, tables))
            known = next(alike, None) if len(firsts) < WHERES else None
            groups[place] = {} if known is None else groups[known]
            firsts.append((place, fact))
        groups[place].setdefault(_value(fact), fact)
    for values in {id(values): values for values in groups.values()}.values():
        different = list(values.values())
        if len(different) > 1 and len({fact.file for fact in different}) > 1:
            yield different


def _told(different: list[Fact]) -> Contradiction:
    first = different[0]
    places = tuple(Stated(fact.value, fact.file, fact.line) for fact in different)
    subject = place_of(first) if first.relation == "said" else first.subject
    attribute = {"said": "a sentence", "default": "default"}.get(first.relation, first.attribute)
    return Contradiction(subject, attribute, places)
