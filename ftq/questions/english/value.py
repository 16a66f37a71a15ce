"""The place of a value in an English clause, asked for in a question's first words: how many, which option, where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ftq.facts.checks import known_words
from ftq.facts.rules.english import SAYS, VERBS, Clause
from ftq.questions.english.in_place import QUESTION_WORDS
from ftq.questions.english.measures import BOUND, EVERY, NUMBERED, RANGE, SEVERAL, UNIT, UNITS, UNTIL, YEAR
from ftq.questions.kinds import kind_of

PREPOSITION = re.compile(
    r"(?P<before>.*?)\s?\b(?P<preposition>in|to|from|at|on|with|by|for|under|after|within|into|of) (?:the |a |an )?$"
)
BESIDE = re.compile(  # `in the variable x`
    r"(?P<before>.*?)\s?\b(?P<preposition>in|to|from|at|on|with|by|for|under|into) (?:the |an? )(?P<noun>[a-z]{3,20}) $"
)
ARTICLE = re.compile(r"\b(?:the|a|an)\s*$")
OBJECT = 3  # words from the verb on before what it does something to
WHERE = frozenset({"in", "at", "under", "to", "into"})
SUBORDINATE = re.compile(r"\b(?:if|when|that|which|whether|because|and|or|so|unless|while|to|but) ")
ANOTHER = re.compile(r"\b(?:and|but|while|which|that|who) ")  # verb may follow
FOLLOWS = known_words("follows")  # what goes on behind a noun
THINGS, NO_THINGS = re.compile(r"[a-z]{3,}s"), known_words("no_plurals")
BE = frozenset({"is", "are", "was", "were", "am"})
NOUNS_OF = {
    "option": ("option", "flag"), "command": ("command",), "variable": ("variable",),
    "path": ("file", "directory", "folder"), "setting": ("setting", "option", "parameter", "key", "field"),
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where the value stands, and what kind of value it is (`kinds.kind_of`; empty for words).

    `before` and `after` are the words around it in the subject, or in what is said of the subject.
    """

    clause: Clause
    value: str
    kind: str
    counted: str  # `months` of `24 months`
    before: str
    after: str

    def said(self, before: str, after: str) -> str:
        """The question's words behind the first ones: the clause without the value, the auxiliary in front."""
        return f"{self.clause.auxiliary} {self.clause.subject} {before} {after}{self.clause.tail}?"


def asked_for(clause: Clause, value: str) -> Iterator[tuple[str, str]]:
    """(a question whose answer is the value, its form: `which` or `where`); none where it might be no English."""
    counted = UNITS.search(value)
    kind = kind_of(value) or ("number" if counted else "")
    is_subject = value in clause.subject
    whole = clause.subject if is_subject else clause.rest
    if value in whole:
        before, after = whole.split(value, 1)
        place = Place(clause, value, kind, counted.group(1) if counted else "", before, after)
        yield from _as_subject(place) if is_subject else _as_said(place)


def _as_subject(place: Place) -> Iterator[tuple[str, str]]:
    """`Which command frees the GPU?`"""
    clause = place.clause
    if place.before.strip().lower() not in ("", "the"):
        return
    noun, after = _noun(place.kind, place.after.strip())
    if not place.kind or (place.kind == "duration" and after):  # `the 12 week period`
        return
    after = "" if after.startswith("and ") else after
    rest = clause.end if clause.verb else clause.rest
    yield f"{noun} {after} {clause.verb or clause.auxiliary} {rest}{clause.tail}?", "which"


def _as_said(place: Place) -> Iterator[tuple[str, str]]:
    """By the first of the ways in which what stands around the value is understood."""
    if RANGE.search(place.before):
        return  # `15 to 30 minutes`
    before = BOUND.sub("", place.before)
    if _is_entangled(before, place.after):
        return
    if place.kind == "duration" and (asked := _of_time(place, before)):
        yield asked, "which"
        return
    noun, after = _named(place, place.after.strip())
    if not noun or (place.kind == "number" and noun == "What" and _is_part(before, after)):
        return
    noun, after = _counted(place, noun, before, after)
    if place.kind == "number" and after[:1] != "/" and (numbered := NUMBERED.fullmatch(before)):  # `on port 8080`
        yield _after(numbered["preposition"], f"which {numbered['noun']}", place.said(numbered["before"], after))
    elif match := PREPOSITION.fullmatch(before):
        yield from _behind(place, noun, match, after)
    elif beside := BESIDE.fullmatch(before):
        yield _after(beside["preposition"], f"which {beside['noun']}", place.said(beside["before"], after))
    elif not before.strip() or place.clause.verb or before.strip() in VERBS:
        before = ARTICLE.sub("", before)
        if len(before.split()) <= OBJECT:  # more: `show the list of dates in column 2`
            yield f"{noun} {place.said(before, after)}", "which"


def _is_entangled(before: str, after: str) -> bool:
    """Whether another clause, or a list, stands around the value."""
    is_another = SUBORDINATE.search(before.rpartition(" to ")[0] or before) or ANOTHER.search(after)
    return bool(set(after) & set(",;(:") or set(before) & set(",:;") or is_another)


def _of_time(place: Place, before: str) -> str:
    """`How long after it is issued does it expire?`, `How often is it checked?`; empty where it is neither."""
    clause, after = place.clause, place.after
    if after.startswith((" after ", " before ")):
        return f"How long{after} {clause.auxiliary} {clause.subject} {UNTIL.sub('', before)}{clause.tail}?"
    every = EVERY.fullmatch(before)
    return f"How often {place.said(every['before'], after)}" if every else ""


def _named(place: Place, after: str) -> tuple[str, str]:
    """The question's first words, and what they leave of those behind the value; none if it is part of a name."""
    noun, after = _noun(place.kind, after)
    if place.kind or not after or after.split()[0] in FOLLOWS:
        return noun, after
    thing, _, after = after.partition(" ")  # `Prometheus metrics`
    is_thing = place.value[0].isupper() and THINGS.fullmatch(thing) and thing not in SAYS and thing not in NO_THINGS
    return (f"Which {thing}" if is_thing else ""), after


def _is_part(before: str, after: str) -> bool:
    """Whether what stands beside a number belongs to it: `4000 rpm`, `Node 20`."""
    last = before.split()[-1:]
    return bool(UNIT.match(after)) or last != before.lower().split()[-1:]


def _counted(place: Place, noun: str, before: str, after: str) -> tuple[str, str]:
    """The first words by what is measured or counted: `How many months of the warranty`, `What` of what is equal."""
    clause, kind = place.clause, place.kind
    is_equal = clause.auxiliary in BE and not clause.verb and not before.strip()
    if is_equal and (kind in ("size", "percent") or (kind == "number" and after.startswith("per "))):
        noun, after = "What", ""  # `the share is 80 %`, `the limit is 50 requests per second`
    noun = f"How many {place.counted}" if place.counted and before.strip() else noun
    after = after.removeprefix("long").strip() if noun == "How long" else after
    if after.startswith("of ") and noun.startswith("How"):
        noun, after = f"{noun} {after}", ""  # `12 months of the birth`
    return noun, after


def _behind(place: Place, noun: str, match: re.Match[str], after: str) -> Iterator[tuple[str, str]]:
    """`In which file is it kept?`, `Where is it kept?`, `Since which year?`"""
    preposition, said = match["preposition"], place.said(match["before"], after)
    if place.kind == "path" and preposition in WHERE:
        yield f"Where {said}", "where"
    if place.kind == "number" and noun == "What":
        noun = "Which year" if YEAR.fullmatch(place.value) else ""  # `at 9`: of what isn't known
    if place.kind and noun:
        yield _after(preposition, noun[0].lower() + noun[1:], said)


def _after(preposition: str | None, noun: str, said: str) -> tuple[str, str]:
    asked = f"{preposition} {noun}" if preposition else noun
    return f"{asked[0].upper()}{asked[1:]} {said}", "which"


def _noun(kind: str, after: str) -> tuple[str, str]:
    """What a question begins with, and what it leaves of the words after the value."""
    first, _, rest = after.partition(" ")
    if kind == "size" and first == "of":
        what, _, rest = rest.partition(" ")
        return f"How much {what}", rest
    if kind == "number" and (several := SEVERAL.match(after)):
        return f"How many {several[0]}", after[several.end() :].strip()
    if first in NOUNS_OF.get(kind, ()):
        return f"Which {first}", rest
    return QUESTION_WORDS.get(kind, "What"), after
