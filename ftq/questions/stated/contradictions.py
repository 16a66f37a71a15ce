"""What files say differently."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace

from ftq.facts.checks import words
from ftq.facts.fact import Fact
from ftq.facts.place import owner_of, place_of
from ftq.questions.conflicts import VALUE, asked, name, without_figures
from ftq.questions.kinds import VAGUE
from ftq.questions.row import Contradiction, Stated
from ftq.questions.stated.values import around, claim_of, known_as
from ftq.questions.wordings import NEUTRAL, Spoken

COMPARED = ("attribute", "default")  # other relations may be worded in two ways and mean the same
SENTENCE = "a sentence"  # in place of an attribute


def contradictions(facts: Sequence[Fact], spoken: Spoken) -> tuple[Contradiction, ...]:
    """Values that differ between files, with the place of each; sentences too, if only their numbers differ and they
    stand under the same headings. In English also what is worded in two ways, where both can't be true."""
    found = list(_alike(facts, spoken))
    told = {(stated.file, stated.line) for one in found for stated in one.stated}
    return *found, *(one for one in _reworded(facts, spoken) if not told.issuperset(_places(one)))


def _places(one: Contradiction) -> Iterator[tuple[str, int]]:
    return ((stated.file, stated.line) for stated in one.stated)


def _alike(facts: Iterable[Fact], spoken: Spoken) -> Iterator[Contradiction]:
    """Of things and attributes that are called the same."""
    stated: dict[tuple[str, ...], dict[str, Fact]] = defaultdict(dict)
    for fact in facts:
        if fact.relation in COMPARED and words(fact.value) <= VALUE and fact.rule != "J":
            attribute = "" if fact.relation == "default" else fact.attribute
            heading = place_of(fact) if fact.path and VAGUE.fullmatch(fact.subject) else ""
            key = fact.relation, name(fact.subject), name(attribute), name(fact.kind) if attribute else "", heading
            stated[key].setdefault(asked(fact.value), fact)
        elif fact.relation == "said" and (figured := without_figures(fact, spoken)):
            stated[(fact.relation, figured, *map(name, fact.path))].setdefault(fact.sentence, fact)
    for values in stated.values():
        different = list(values.values())
        if len(different) > 1 and len({fact.file for fact in different}) > 1:
            first = different[0]
            subject = place_of(first) if first.relation == "said" else first.subject
            attribute = {"said": SENTENCE, "default": "default"}.get(first.relation, first.attribute)
            yield Contradiction(subject, attribute, tuple(map(_stated, different)))


def _reworded(facts: Iterable[Fact], spoken: Spoken) -> Iterator[Contradiction]:
    """Of things that are one by their words, below headings that are the same but for `Manual` and the like.

    What one file says in two ways is left out: something that isn't read tells them apart.
    """
    files_of: dict[Hashable, dict[str, dict[str, Contradiction]]] = defaultdict(dict)
    for fact in facts:
        if fact.relation not in (*COMPARED, "said") or spoken.of(fact.file).code not in ("en", NEUTRAL):
            continue
        if claim := claim_of(fact):
            key: Hashable = claim.place, claim.name, claim.kind
            value, subject, attribute = claim.value, claim.subject, claim.attribute
        elif fact.relation == "said" and (figured := without_figures(fact, spoken)):
            value, subject, attribute = fact.sentence, owner_of(fact.path, fact.file), SENTENCE
            key = known_as(subject), around(fact) - {known_as(subject)}, figured
        else:
            continue
        of_file = files_of[key].setdefault(fact.file, {})
        of_file.setdefault(value, Contradiction(subject, attribute, (_stated(fact),)))
    for files in files_of.values():
        if len(files) > 1 and all(len(values) == 1 for values in files.values()):
            different = {value: one for values in files.values() for value, one in values.items()}
            if len(different) > 1:
                first, *_ = different.values()
                yield replace(first, stated=tuple(stated for one in different.values() for stated in one.stated))


def _stated(fact: Fact) -> Stated:
    return Stated(fact.value, fact.file, fact.line)
