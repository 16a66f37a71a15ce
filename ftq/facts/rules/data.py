"""J: JSON of other shapes: the path of keys is the subject, the last key the attribute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ftq.facts.checks import words
from ftq.facts.fact import Cut, Fact
from ftq.facts.place import stem_of
from ftq.facts.records import openapi
from ftq.facts.records.json_text import Number
from ftq.facts.records.names import (
    PERSONS,
    hinted,
    is_meant,
    is_twice,
    is_whole,
    name_of,
    named_by,
    spaced,
    subject_key,
)
from ftq.facts.text.blobs import without_blobs
from ftq.facts.text.signs import asks

MEANINGS = ("description", "summary", "help", "doc", "definition", "text")
DEPTH, VALUE, FACTS = 20, 50, 20_000  # levels, words of a value, facts of a file
PERSONAL = frozenset(key for pair in PERSONS for key in pair)
LONG = "value of JSON that is too long to be an answer"
API = "value of OpenAPI beside the descriptions"
QUESTION = "question in data of JSON"
TWICE, HALF = "value of a key that stands twice", "value with half a character in it"


@dataclass
class Data:
    """What is known of a file of JSON, and what is told of it: `nameless` are the places of records without a name,
    each with its keys."""

    file: str
    cuts: list[Cut] = field(default_factory=list)
    nameless: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    key: str = ""  # that names the records of JSON Lines, which come one by one
    given: set[str] = field(default_factory=set)  # places of the lines, or of a list's records, that gave a fact
    is_line: bool = False  # one of several
    is_lines: bool = False


@dataclass(frozen=True)
class _Node:
    value: Any
    path: tuple[str, ...]
    kind: str = ""  # what it is: `planets` holds planets
    place: str = ""
    key: str = ""  # that tells it from the others of its list
    is_listed: bool = False  # with others
    is_alone: bool = False  # in its file, in its list
    owner: str = ""  # what the nearest named record above is called
    is_entry: bool = False  # its key is its name: in an object of objects


def json_facts(data: Any, file: str, line: int = 1, known: Data | None = None) -> Iterator[Fact]:
    """Every scalar with the path to it, FACTS at most; what gives none is added to `known`.

    A stack instead of recursion: nesting may be deep.
    """
    known = known or Data(file)
    if openapi.is_api(data):
        yield from _of_api(data, known)
        return
    kind, place = named_by(known.key) if known.is_line else "", f"line {line}" if known.is_lines else ""
    whole = place or ("" if isinstance(data, list) else "record 1")
    stack, count = [_Node(data, (), kind, place, known.key, known.is_line, not known.is_line)], 0
    while stack:
        node = stack.pop()
        if isinstance(node.value, dict):
            # Nothing in a record to learn that is faulty is data.
            if (node.is_listed or node.is_alone) and is_meant(node.value):
                known.nameless.append((node.place or "record 1", tuple(map(str, node.value))))
                continue
            if len(node.path) < DEPTH:
                stack.extend(reversed(_nested(node)))
            for fact in _facts(node, known, line):
                count += 1
                known.given |= {(node.place or whole).partition(",")[0], whole}
                if count <= FACTS:
                    yield fact
        elif isinstance(node.value, list):
            stack.extend(reversed(_listed(node)))
    if count > FACTS:
        known.cuts.append(Cut(file, line, "value of JSON", count - FACTS))


def _of_api(data: dict[str, Any], known: Data) -> Iterator[Fact]:
    """What an API's description says in words."""
    said = list(openapi.said_in(data))
    known.given.add("record 1")
    known.cuts.append(Cut(known.file, 0, API, openapi.values_in(data) - len(said)))
    if len(said) > FACTS:
        known.cuts.append(Cut(known.file, 0, "value of JSON", len(said) - FACTS))
    for name, text, path, kind in said[:FACTS]:
        yield Fact(name, "meaning", text, "", path, known.file, 1, "J", kind=kind)


def _facts(node: _Node, known: Data, line: int) -> Iterator[Fact]:
    """A record's values. One that nothing names is told, unless it has no values."""
    record, name = node.value, _called(node, known)
    scalars = {key: value for key, value in record.items() if not isinstance(value, dict | list)}
    is_told = any(value is not None for value in scalars.values())
    if not name and is_told and node.is_listed:
        known.nameless.append((node.place, tuple(map(str, record))))
    for key, value in scalars.items() if name else ():
        if is_twice(record, key):
            known.cuts.append(Cut(known.file, line, TWICE, 1))
        elif isinstance(value, str) and not is_whole(value):
            known.cuts.append(Cut(known.file, line, HALF, 1))
        elif isinstance(value, str) and asks(value):
            known.cuts.append(Cut(known.file, line, QUESTION, 1))
        elif isinstance(value, str | Number) and _is_long(str(value)):
            known.cuts.append(Cut(known.file, line, LONG, 1))
        elif fact := _fact(name, str(key), value, node, known.file, line):
            yield fact


def _called(node: _Node, known: Data) -> str:
    """What a record is called: by its name; else by the key that leads to it, behind what it is a part of, or by its
    file."""
    own = _own_name(node)
    if own or node.is_listed:
        return own
    return f"{node.owner} {node.path[-1]}".strip() if node.path else stem_of(known.file)


def _own_name(node: _Node) -> str:
    """What its fields call it."""
    if node.is_listed:
        return name_of(node.value, node.key)
    return name_of(node.value) or (name_of(node.value, hinted(node.value)) if node.is_alone else "")


def _listed(node: _Node) -> list[_Node]:
    """What a list holds. Its records are told from each other by one of their fields."""
    records = [inner for inner in node.value if isinstance(inner, dict)]
    key = subject_key(records) if len(records) > 1 else ""
    kind = node.kind or named_by(key)
    at = ", ".join(filter(None, (node.place, ".".join(node.path))))
    return [
        _Node(
            inner,
            node.path,
            kind,
            f"{at}[{number}]" if at else f"record {number}",
            key,
            len(records) > 1,
            len(records) == 1,
            node.owner,
        )
        for number, inner in enumerate(node.value, start=1)
        if isinstance(inner, dict | list)
    ]


def _nested(node: _Node) -> list[_Node]:
    """Objects and lists inside, each with its path and what its records are: `planets` holds planets. Those of several
    records may have the same key, so that its name leads to each."""
    record, path = node.value, node.path
    own = _own_name(node)
    is_table = bool(path) and all(isinstance(inner, dict) for inner in record.values())
    owner = own or (node.path[-1] if node.is_entry else node.owner)
    if own and node.is_listed:
        path = (*path, own)
    kind = node.path[-1] if is_table else ""
    return [
        _Node(
            inner,
            (*path, str(key)),
            _singular(kind or str(key)),
            node.place,
            owner="" if is_table and not (own or node.is_entry) else owner,
            is_entry=is_table,
        )
        for key, inner in record.items()
        if isinstance(inner, dict | list)
    ]


def _is_long(value: str) -> bool:
    text = " ".join(without_blobs(value)[0].split())
    return len(text) > 400 or words(text) > VALUE


def _fact(name: str, key: str, value: Any, node: _Node, file: str, line: int) -> Fact | None:
    if isinstance(value, str):
        value, _ = without_blobs(value)  # which the readers of records have told
    if spaced(key) in PERSONAL and str(value) in name:  # a part of what names it
        return None
    text = "true" if value is True else "false" if value is False else " ".join(str(value).split())
    if value is None or not text or text == name or name == f"{spaced(key)} {text}" or text.startswith("http"):
        return None
    if (
        not any(map(str.isalnum, text))
        or not any(map(str.isalnum, name))
        or len(key) > 60
        or key.startswith(("$", "_"))
    ):
        return None
    relation = "meaning" if key.lower() in MEANINGS and words(text) > 2 else "attribute"
    return Fact(name, relation, text, "", node.path, file, line, "J", spaced(key), node.kind)


def _singular(key: str) -> str:
    if key.endswith("ies"):
        return f"{key[:-3]}y"
    return key[:-1] if key.endswith("s") and not key.endswith("ss") else key
