"""N: questions on near-by things that the documents don't have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence, Set
from itertools import chain, islice, zip_longest

from ftq.facts.fact import Fact
from ftq.questions.row import Options
from ftq.questions.wordings import Language
from ftq.questions.write import Draft, drafts, order

PART = re.compile(r"[A-Za-z][a-z0-9]{2,}|[A-Z]{3,}")
NAME = re.compile(r"`(-{0,2}[A-Za-z][\w.-]{3,40}(?:\(\))?)`")
NAMES = 2_000  # that are combined


def words_of(text: str) -> set[str]:
    """Words and names as they stand, in lower case."""
    return {word.strip(".-_") for word in re.findall(r"[\w.-]+", text.lower())}


def refusals(facts: Sequence[Fact], known: Set[str], language: Language, options: Options, count: int) -> list[Draft]:
    """`count` questions without an answer: invented names, other things, stock questions, attributes of others."""
    kinds = [
        _invented(facts, known, options),
        _things(facts, known, language, options),
        _stock(facts, known, language),
        _foreign(facts, language, options),
    ]
    mixed = (fact for fact in chain.from_iterable(zip_longest(*kinds)) if fact is not None)
    found: list[Draft] = []
    for fact in islice(mixed, 0, count * 4):
        for draft in drafts(fact, language, options)[:1]:
            found.append(Draft(draft.question, language.word("silent"), fact, "", draft.template))
        if len(found) >= count:
            break
    return found[:count]


def _like(fact: Fact, subject: str, relation: str, attribute: str = "") -> Fact:
    return Fact(subject, relation, "", "", fact.path, fact.file, fact.line, "N", attribute, fact.kind)


def _invented(facts: Sequence[Fact], known: Set[str], options: Options) -> Iterator[Fact]:
    """A real name with one part of another."""
    named = [fact for fact in facts if NAME.fullmatch(fact.subject) and len(PART.findall(fact.subject)) >= 2]
    named = sorted(named, key=lambda fact: order(options.seed, fact.key, "invented"))[:NAMES]
    parts = sorted({part.lower() for fact in named for part in PART.findall(fact.subject)})
    for fact in named:
        own = PART.findall(fact.subject)
        pick = int.from_bytes(order(options.seed, fact.key, "part"), "big")
        old, new = own[pick % len(own)], parts[pick // 7 % len(parts)]
        name = fact.subject.replace(old, new.upper() if old.isupper() else new.title() if old[0].isupper() else new, 1)
        if name.strip("`-()").lower() not in known:
            yield _like(fact, name, "meaning" if fact.relation != "default" else "default")


def _things(facts: Sequence[Fact], known: Set[str], language: Language, options: Options) -> Iterator[Fact]:
    """Well-known names that no document has."""
    if not facts:
        return
    asked = [(thing, form) for thing in language.things if thing.lower() not in known for form in language.without]
    for thing, form in sorted(asked, key=lambda pair: order(options.seed, *pair, "things")):
        yield Fact(form.format(thing=thing), "answer", "", "", (), facts[0].file, 1, "N")


def _foreign(facts: Sequence[Fact], language: Language, options: Options) -> Iterator[Fact]:
    """An attribute that only subjects of another table have."""
    cells = [
        fact
        for fact in facts
        if fact.relation == "attribute" and (not language.nouns or fact.attribute.lower() in language.nouns)
    ]
    owners: dict[str, set[str]] = {}
    said: dict[str, set[str]] = {}
    for fact in facts:
        text = said.setdefault(fact.subject.lower(), set())
        text |= words_of(f"{fact.attribute} {fact.value} {fact.sentence}")
    for fact in cells:
        owners.setdefault(fact.attribute.lower(), set()).add(fact.kind.lower())
    attributes = sorted({(fact.attribute, fact.attribute.lower()) for fact in cells})
    for fact in sorted(cells, key=lambda fact: order(options.seed, fact.key, "foreign"))[:NAMES]:
        pick = int.from_bytes(order(options.seed, fact.key, "attribute"), "big")
        attribute, lowered = attributes[pick % len(attributes)]
        if fact.kind.lower() not in owners[lowered] and not words_of(lowered) & said[fact.subject.lower()]:
            yield _like(fact, fact.subject, "attribute", attribute)


def _stock(facts: Sequence[Fact], known: Set[str], language: Language) -> Iterator[Fact]:
    """What people ask of everything, where none of its words is said."""
    if not facts:
        return
    anywhere = Fact("", "answer", "", "", (), facts[0].file, 1, "N")
    text = " ".join(known) if language.code in ("zh", "ja") else ""
    for question, about in language.stock:
        if not about & known and not any(word in text for word in about if text):
            yield _like(anywhere, question, "answer")
