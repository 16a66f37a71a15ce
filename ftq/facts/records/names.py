"""What a record is called: by a key that is known, else by the field that tells it from the others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from typing import Any

from ftq.facts.records.json_text import Number, Twice
from ftq.facts.text.signs import asks

NAMES = ("name", "title", "id", "key", "label", "slug", "code")
PERSONS = (  # keys that name a person together, as `spaced` writes them
    ("first name", "last name"), ("firstname", "lastname"), ("fname", "lname"), ("first", "last"),
    ("first name", "surname"), ("forename", "surname"), ("given name", "family name"), ("given name", "surname"),
    ("vorname", "nachname"), ("prénom", "nom"), ("prenom", "nom"), ("nombre", "apellido"), ("nombre", "apellidos"),
    ("nome", "cognome"), ("nome", "sobrenome"), ("voornaam", "achternaam"), ("imię", "nazwisko"), ("имя", "фамилия"),
)  # fmt: skip
_WITH = "\0"  # between two keys that name a record together
HINT = re.compile(
    r"(?:.*[a-z\d_ .-])?(?:name|title|id|key|label|slug|code|sku|part|number|no|nr|num|serial|model|item|product|"
    r"symbol|article|ref|reference|isbn|ean|upc|term|word|command|option|flag|user|file|host|device|machine)$",
    re.IGNORECASE,
)
MEANT = frozenset({"instruction", "prompt", "question", "messages", "conversations"})  # a record to learn, if unwhole
EXPORTED = frozenset({"mapping", "current_node"})  # a conversation of ChatGPT's
LONGEST, WORDS, DIGITS = 70, 8, 25
KEYS = 1024  # whose names are remembered: each record asks for the same
COMPARED = 20_000  # records that are looked at for what tells them apart
UNKNOWN = (  # begins the reason of a record that has neither
    f"no field tells this record from the others: give each one a {', '.join(NAMES[:-1])} or {NAMES[-1]} of its own"
)


def is_meant(keys: Iterable[str]) -> bool:
    """Whether something with these keys is meant as a record to learn, whatever it lacks."""
    names = {key.strip().lower() for key in keys}
    return not MEANT.isdisjoint(names) or names >= EXPORTED


def subject_key(records: Iterable[dict[str, Any]]) -> str:
    """The key whose short values are all different: one that is known, one that sounds like it, the first text, the
    first whole number. Empty if there is none."""
    records = list(islice(records, COMPARED))
    seen: dict[str, set[str]] = {}
    spoiled, count = set[str](), 0
    for record in records:
        count += 1
        for key, value in record.items():
            name = text_of(value)
            if key in spoiled or not name or name in seen.setdefault(key, set()):
                spoiled.add(key)
                seen.pop(key, None)
            else:
                seen[key].add(name)
    keys = [key for key, values in seen.items() if 2 * len(values) > count]
    key = min(keys, key=lambda key: _rank(key, seen[key]), default="")
    return key if key.lower() == NAMES[0] else _person_in(records) or key


def named_by(key: str) -> str:
    """What records are that this key names: `part`; empty where it says only that it is a name."""
    return "" if key.lower() in NAMES or _WITH in key else spaced(key)


def person_of(keys: Iterable[str]) -> tuple[str, ...]:
    """The two of these keys that name a person together; none if there aren't two."""
    names = {spaced(key): key for key in keys}
    return next(((names[one], names[other]) for one, other in PERSONS if one in names and other in names), ())


def _person_in(records: list[dict[str, Any]]) -> str:
    """The keys that name each of the records as a person of its own."""
    key = _WITH.join(person_of(records[0])) if records else ""
    names = [_called(record, key) for record in records] if key else []
    return key if key and all(names) and len(set(names)) == len(names) else ""


def _called(record: dict[str, Any], key: str) -> str:
    """The texts that stand for a key, or for each of two that name it together."""
    parts = key.split(_WITH)
    texts = [text_of(record.get(part)) if not is_twice(record, part) else "" for part in parts]
    return " ".join(texts) if all(texts) else ""


def _rank(key: str, values: set[str]) -> tuple[int, bool]:
    known = NAMES.index(key.lower()) if key.lower() in NAMES else len(NAMES)
    return (known if known < len(NAMES) else known + (not HINT.match(key)), all(map(_is_number, values)))


def name_of(record: dict[str, Any], key: str = "") -> str:
    """What a record is called: by this key, else by one that is known. A number stands behind its key: `part 17`."""
    for known in (key, NAMES[0], _WITH.join(person_of(record)), *NAMES[1:]):
        if name := _called(record, known):
            return f"{spaced(known)} {name}" if _is_number(name) and known not in NAMES[:2] else name
    return ""


def hinted(record: dict[str, Any]) -> str:
    """The key that names a record that stands alone; empty if none sounds like it."""
    return next((key for key, value in record.items() if HINT.match(key) and text_of(value)), "")


def text_of(value: Any) -> str:
    """A value that can be a name: short, and a text or a whole number."""
    if isinstance(value, int | Number) and not isinstance(value, bool):
        return str(value) if _is_number(str(value)) and len(str(value)) < DIGITS else ""
    if not isinstance(value, str) or not 0 < len(value) < LONGEST or value.startswith(("http://", "https://")):
        return ""
    parts = value.split()
    if len(parts) > WORDS or not any(map(str.isalnum, value)) or asks(value):  # a question is no name
        return ""
    return " ".join(parts) if is_whole(value) else ""


def is_whole(text: str) -> bool:
    """Whether no half of a character (a lone surrogate) is in it."""
    return not any("\ud800" <= sign <= "\udfff" for sign in text) if not text.isascii() else True


def is_twice(record: dict[str, Any], key: str) -> bool:
    """Whether the key stands twice in the record with different values."""
    return isinstance(record, Twice) and key in record.keys_twice


@lru_cache(KEYS)
def spaced(key: str) -> str:
    """`orbitDays`, `orbit_days`: orbit days."""
    return " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", key).replace("_", " ").lower().split())


def _is_number(text: str) -> bool:
    return text.lstrip("-").isdigit()
