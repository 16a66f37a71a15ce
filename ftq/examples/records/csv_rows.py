"""CSV and TSV whose header names a question and an answer: each row is a record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ftq.examples.records.keys import NAMES, pair_of
from ftq.formats import kind, tables
from ftq.formats.decode import Decoded
from ftq.formats.decode import text as decoded_of
from ftq.formats.kind import SUFFIXES, Kind

HEADER = 64_000  # characters

Row = dict[str, str] | ValueError


def table_of(path: Path) -> Decoded | None:
    """The text of a file that holds such a table; None if it is another file. Raises Unusable, OSError."""
    if SUFFIXES.get(path.suffix.lower()) is not Kind.CSV or kind.of(path) is not Kind.CSV:
        return None
    table = decoded_of(path.read_bytes())
    return table if _delimiter(table.text) else None


def rows(text: str) -> Iterator[tuple[str, Row]]:
    """(where, the row by its header, or why there is none), without its empty cells. A row may have several lines."""
    lines = tables.rows(text, _delimiter(text))
    header = _named(next(lines)[1])
    pair = pair_of(dict.fromkeys(header, "")) or ()
    for line, cells in lines:
        where = f"line {line}"
        if tables.is_longer(cells, len(header)):
            yield where, ValueError(f"{len(cells)} cells below a header of {len(header)}: {tables.QUOTED}")
        elif any(map(str.strip, cells)):
            known = zip(header, cells, strict=False)
            yield where, {name: cell for name, cell in known if name in pair or cell.strip()}


def _delimiter(text: str) -> str:
    """What stands between the cells, if the header names a pair; else nothing."""
    for delimiter in tables.DELIMITERS:
        _, cells = next(tables.rows(text[:HEADER], delimiter), (1, []))
        header = _named(cells)
        if pair_of(dict.fromkeys(header, "")) and len({*header}) == len(header):
            return delimiter
    return ""


def _named(header: list[str]) -> list[str]:
    """The names, the known ones as they are in a record."""
    names = [name.strip().lstrip("\ufeff") for name in header]
    return [name.lower() if name.lower() in NAMES else name for name in names]
