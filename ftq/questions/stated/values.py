"""What an English fact or sentence says that something of a thing is, so that files can be compared.

Only what can't be true twice is read: a number with its unit, a version, a switch. Things are known by their words:
`The pump`, `Pump` and `Pumps` are one.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from ftq.facts.checks import EMPTY, RECENT, known_words
from ftq.facts.fact import Fact
from ftq.facts.place import PARTS, owner_of, stem_of
from ftq.facts.rules.english import SINGULAR, bare

TITLES, NUMBERED, JOINS = known_words("titles"), known_words("numbered"), known_words("joins")
NUMBER = r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?|-?\d+(?:\.\d+)?"
MEASURE = re.compile(rf"(?P<number>{NUMBER})\s?(?P<unit>[^\W\d_]{{1,12}}(?:/[^\W\d_]{{1,8}})?|[%€$£]|°[CF])?")
RELEASE = re.compile(r"v?(\d+(?:\.\d+){2,3}(?:[-+][\w.]+)?)")
SAME_UNITS = (
    "s sec secs second seconds", "min mins minute minutes", "h hr hrs hour hours", "d day days", "week weeks",
    "month months", "year years", "percent %", "kg kilogram kilograms", "l liter liters litre litres",
)  # fmt: skip
UNITS = {unit: same for same in SAME_UNITS for unit in same.split()}
NUMERAL = re.compile(r"^\d+(?:\.\d+)*[-_.) ]+(?=\D)")
NEEDS = dict.fromkeys(("required", "mandatory", "optional"), "is needed")
STATES = {**NEEDS, **dict.fromkeys(("enabled", "disabled"), "is on")}  # that last
SWITCHES = {**STATES, **dict.fromkeys(("on", "off", "true", "false", "yes", "no"), "is on")}
NEGATIVE = frozenset({"off", "disabled", "false", "no", "optional"})
NAME, THING = r"[A-Za-z][a-z]{2,}(?: [a-z]{2,}){0,3}", r"[A-Za-z][\w-]*(?: [\w-]+){0,3}"
VALUE = r"(?:set to )?(?P<value>[^\s`]+(?: [^\s`]+)?)(?P<default> by default)?"
SENTENCES = (
    re.compile(rf"(?:The |Its )?(?P<name>{NAME}) is {VALUE}"),
    re.compile(rf"The (?P<name>{NAME}) of (?:the |an? )?(?P<thing>{THING}) is {VALUE}"),
    re.compile(rf"(?:The )?(?P<thing>{THING})['’]s (?P<name>{NAME}) is {VALUE}"),
    re.compile(rf"(?:The )?(?P<thing>{THING}) has an? (?P<name>{NAME}) of {VALUE}"),
)


class Claim(NamedTuple):
    """`place` is equal for things of one name below the same headings, `kind` for values that can be compared."""

    place: tuple[str, frozenset[str]]
    name: str
    kind: str
    value: str
    subject: str  # it and the attribute as the document has them
    attribute: str


def claim_of(fact: Fact) -> Claim | None:
    """What the fact says; None of what may be true beside another value."""
    if fact.relation in ("attribute", "default"):
        if fact.rule == "J" or "`" in fact.subject:
            return None
        name = fact.attribute if fact.relation == "attribute" else "default"
        return _claim(fact, fact.subject, name, *value_of(fact.value))
    if fact.relation != "said" or not (" is " in fact.sentence or " has a" in fact.sentence):
        return None
    for match in filter(None, (pattern.fullmatch(fact.sentence.rstrip(".!")) for pattern in SENTENCES)):
        parts = match.groupdict()
        if not JOINS.isdisjoint(parts["name"].split()):
            continue
        kind, value = value_of(parts["value"])
        if kind in STATES.values() and parts["value"] not in STATES:
            return None  # `The pump is off.`: now
        name = f"default {parts['name']}" if parts["default"] else parts["name"]
        return _claim(fact, parts.get("thing") or owner_of(fact.path, fact.file), name, kind, value)
    return None


def _claim(fact: Fact, subject: str, name: str, kind: str, value: str) -> Claim | None:
    thing, plain = known_as(subject), known_as(name)
    if not (kind and thing and plain) or thing in TITLES or plain in NUMBERED:
        return None
    return Claim((thing, around(fact) - {thing}), plain, kind, value, subject, name)


@lru_cache(RECENT)
def value_of(text: str) -> tuple[str, str]:
    """(what it can be compared with, the value); two empty texts for words, ranges and what is only about so much."""
    plain = text.strip("`\"' ").rstrip(".")
    if (switch := SWITCHES.get(plain.lower())) is not None:
        return switch, str(plain.lower() not in NEGATIVE)
    if match := RELEASE.fullmatch(plain):
        return "version", match[1]
    if match := MEASURE.fullmatch(plain):
        unit = match["unit"] or ""
        unit = UNITS.get(unit.lower() if len(unit) > 1 else unit, unit)  # `S` is no second
        return f"in {unit}", str(Decimal(match["number"].replace(",", "")).normalize())
    return "", ""


@lru_cache(RECENT)
def known_as(text: str) -> str:
    """A name in small letters, without article and signs, its last word in the singular."""
    words = re.findall(r"[\w.%/+-]+", text.lower())
    if words and words[0] in ("the", "a", "an"):
        del words[0]
    last = words[-1] if words else ""
    is_plural = len(last) > 3 and last.isascii() and last.isalpha() and last.endswith("s")
    if is_plural and last not in SINGULAR and not last.endswith(("ss", "us", "is")):
        words[-1] = bare(last)
    return " ".join(words)


def around(fact: Fact) -> frozenset[str]:
    """Under what it stands: the headings, folders and the file, each as a thing; without those that name none."""
    return _around(fact.path, fact.file)


@lru_cache(RECENT)
def _around(path: tuple[str, ...], file: str) -> frozenset[str]:
    *folders, _ = file.split("/")
    return frozenset(filter(None, map(_thing_in, (*path, *folders, stem_of(file)))))


def _thing_in(name: str) -> str:
    """A heading or a file's name as a thing, without the number before it; empty where it names none."""
    plain = re.sub(r"[\W_]+", " ", NUMERAL.sub("", name)).strip().lower()
    return (
        ""
        if plain in EMPTY | PARTS
        else known_as(" ".join(one for one in plain.split() if known_as(one) not in TITLES))
    )
