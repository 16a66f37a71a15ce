"""What a JSON file states, of any size, and all its words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from sys import intern
from typing import TextIO

from ftq.examples import json_records
from ftq.examples.records.called import line_of
from ftq.examples.records.checked import listed
from ftq.examples.records.given import LeftOut, Stated
from ftq.facts import Cut, Fact, facts_of_json, facts_of_lines
from ftq.facts.records.names import UNKNOWN, is_meant
from ftq.facts.rules.data import Data
from ftq.questions.together import words_of

PIECE = 1_000_000  # characters that are looked at for words at a time
MOST_WORDS = 1_000_000  # of all documents that are held in memory


def data_of(path: Path, name: str, rows: list[LeftOut], cuts: list[Cut], has_facts: bool) -> Iterator[Stated | LeftOut]:
    """What JSON without a usable record states. `rows` say why each of its values is no record."""
    known = Data(name)
    facts = facts_in(path, known) if has_facts else []
    if facts or cuts or known.cuts:
        yield Stated(name, facts, words_of_file(path) if facts else set(), (*cuts, *known.cuts))
    faulty = {row.where for row in rows if not row.reason.startswith(json_records.NO_RECORD)}
    without = [LeftOut(name, f"{name}: {place}", why) for place, why in nameless(known)]
    without = [row for row in without if row.where not in faulty]
    is_told = {f"{name}: {place}" for place in known.given} | {_outer(row) for row in without}
    unusable = [row for row in rows if row.where in faulty or row.where not in is_told] + without
    none = [LeftOut(name, "", "nothing usable: no record in it")]
    yield from unusable if facts or unusable else none


def _outer(row: LeftOut) -> str:
    """The line or the record of a file that a place in it lies in."""
    name = row.document
    return name + row.where.removeprefix(name).partition(",")[0]


def facts_in(path: Path, known: Data) -> list[Fact]:
    """Its facts; what gives none is told by `known`."""
    if not json_records.is_lines(path):
        return facts_of_json(json_records.text_of(path), known.file, known)
    return facts_of_lines(lambda: _lines(path), known)


def _lines(path: Path) -> Iterator[tuple[int, object]]:
    for place, value in json_records.values(path):
        if not isinstance(value, ValueError):
            yield line_of(place), value


def nameless(known: Data) -> Iterator[tuple[str, str]]:
    """(where, why) of the records that gave no fact because nothing names them."""
    for place, keys in known.nameless:
        has = listed(list(keys))
        if is_meant(keys):
            yield place, f"{json_records.NO_RECORD} needs {json_records.KNOWN}; this one has {has}"
        else:
            yield place, f"{UNKNOWN}, or {json_records.KNOWN}; this one has {has}"


def words_of_file(path: Path) -> set[str]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return words_in(file)


def words_in(file: TextIO) -> set[str]:
    """Those of a text of any size: of more than MOST_WORDS some. Each is one text for all documents that go to another
    process together."""
    found, rest = set[str](), ""
    while len(found) <= MOST_WORDS and (piece := file.read(PIECE)):
        text, space, last = (rest + piece).rpartition(" ")
        found.update(map(intern, words_of(text if space else last)))
        rest = last[-PIECE:] if space else ""
    found.update(map(intern, words_of(rest)))
    return found
