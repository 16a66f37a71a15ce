"""CSV and TSV as rows of cells."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from ftq.formats.kind import MOST_TEXT_BYTES

DELIMITERS = ",;\t|"
QUOTED = "put a text that holds the separator between double quotes"
FEW, NAMED = 0.1, 5  # rows that are longer than the header: their share at most, and those that are named


def rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Each with the line in which it begins: it may have several. csv.Error for what can't be read."""
    csv.field_size_limit(MOST_TEXT_BYTES)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    line = 1
    for cells in reader:
        yield line, cells
        line = reader.line_num + 1


def is_longer(cells: list[str], width: int) -> bool:
    """Whether a row has more than so many cells with something in them."""
    return any(map(str.strip, cells[width:]))


def even(table: str) -> tuple[str, str]:
    """(The table without the few rows that have more cells than its header, what to say of them.)

    With one such row anydoc takes the header for a row too, and no row tells anything any more.
    """
    delimiter = max(DELIMITERS, key=table.partition("\n")[0].count)
    try:
        width, count, longer = _widths(table, delimiter)
    except csv.Error:
        return table, ""
    if not longer or len(longer) > FEW * count:  # then the first row is no header
        return table, ""
    short, left_out = io.StringIO(), set(longer)
    kept = (cells[:width] for line, cells in rows(table, delimiter) if line not in left_out)
    csv.writer(short, delimiter=delimiter).writerows(kept)
    told = ", ".join(map(str, longer[:NAMED])) + (f" and {len(longer) - NAMED} more" if len(longer) > NAMED else "")
    lines = "line" if len(longer) == 1 else "lines"
    return short.getvalue(), f"{lines} {told}: more cells than the header's {width}, left out: {QUOTED}"


def _widths(table: str, delimiter: str) -> tuple[int, int, list[int]]:
    """(The header's cells, the number of rows, where those begin that have more.)"""
    width, count, longer = 0, 0, list[int]()
    for line, cells in rows(table, delimiter):
        width, count = width or len(cells), count + 1
        if is_longer(cells, width):
            longer.append(line)
    return width, count, longer
