"""One question, one answer; and what files say differently."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from ftq.facts import READERS
from ftq.facts.checks import words
from ftq.facts.fact import Fact
from ftq.questions.row import Contradiction, Stated
from ftq.questions.wordings import Language
from ftq.questions.write import Draft, with_place

COMPARED = ("attribute", "default")  # other relations may be worded in two ways and mean the same
VALUE = 8  # words of a value that can be compared
RANK = {letter: rank for rank, letter in enumerate(["F", *READERS, "J"])}


def asked(question: str) -> str:
    """Equal for questions that differ in case, quotes and end only."""
    return " ".join(re.sub(r"[\"`'“”„«»?.!]", " ", question).lower().split())


def resolved(drafts: Sequence[Draft], language: Language) -> tuple[list[Draft], int]:
    """Each question once: with its headings where it has two answers, dropped where it still has; and how many were."""
    kept, contested = _settled(drafts)
    again, lost = _settled([with_place(draft, language) for draft in contested])
    taken = {asked(draft.question) for draft in kept}
    fresh = [draft for draft in again if asked(draft.question) not in taken]
    return kept + fresh, len(lost) + len(again) - len(fresh)


def _settled(drafts: Iterable[Draft]) -> tuple[list[Draft], list[Draft]]:
    """Questions with one answer, and the others. In one section the more exact rule wins."""
    by_question: dict[str, list[Draft]] = defaultdict(list)
    for draft in drafts:
        by_question[asked(draft.question)].append(draft)
    kept: list[Draft] = []
    contested: list[Draft] = []
    for group in by_question.values():
        if len({asked(draft.gist) for draft in group}) == 1:
            kept.append(group[0])
            continue
        best = _best_of_sections(group)
        if len({asked(draft.gist) for draft in best}) == 1:
            kept.append(best[0])
        else:
            contested.extend(best)
    return kept, contested


def _best_of_sections(group: list[Draft]) -> list[Draft]:
    """Those of the first rule in each section."""
    ranks: dict[tuple[str, tuple[str, ...]], int] = {}
    for draft in group:
        section = draft.fact.file, draft.fact.path
        ranks[section] = min(ranks.get(section, 99), RANK.get(draft.fact.rule, 99))
    return [draft for draft in group if RANK.get(draft.fact.rule, 99) == ranks[draft.fact.file, draft.fact.path]]


def contradictions(facts: Iterable[Fact]) -> tuple[Contradiction, ...]:
    """Values that differ between files, with the place of each."""
    stated: dict[tuple[str, ...], dict[str, Fact]] = defaultdict(dict)
    for fact in facts:
        if fact.relation in COMPARED and words(fact.value) <= VALUE and fact.rule != "J":
            attribute = "" if fact.relation == "default" else fact.attribute
            key = fact.relation, asked(fact.subject), asked(attribute), asked(fact.kind) if attribute else ""
            stated[key].setdefault(asked(fact.value), fact)
    found = []
    for values in stated.values():
        different = list(values.values())
        if len(different) > 1 and len({fact.file for fact in different}) > 1:
            places = tuple(Stated(fact.value, fact.file, fact.line) for fact in different)
            found.append(Contradiction(different[0].subject, different[0].attribute or "default", places))
    return tuple(found)
