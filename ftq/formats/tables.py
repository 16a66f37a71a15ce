"""CSV and TSV as rows of cells; the header of a sheet that begins with a title."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

from ftq.formats.kind import MOST_TEXT_BYTES

DELIMITERS = ",;\t|"
QUOTED = "put a text that holds the separator between double quotes"
FEW, NAMED = 0.1, 5  # rows that are longer than the header: their share at most, and those that are named

ABOVE, NEAR = 12, 50  # rows of a sheet that may stand above its header; that tell another one
_RULER = re.compile(r"\|(?: --- \|)+")
_CELL = re.compile(r"(?<!\\)\|")
_FIGURE = re.compile(r"[-+~<>≤≥(]?\s?(?:[A-Z]{2,3}\s?)?[$€£¥]?\s?\d")


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


def headed(markdown: str) -> str:
    """Markdown whose tables without a header have one, where a title, a date or the like stands above it in the sheet:
    those become lines of text."""
    lines, at = markdown.split("\n"), 0
    while at + 1 < len(lines):
        if _RULER.fullmatch(lines[at + 1]) and not any(_cells(lines[at])):
            end = next((number for number in range(at, len(lines)) if not lines[number].startswith("|")), len(lines))
            lines[at:end] = _with_header(lines[at:end])
        at += 1
    return "\n".join(lines)


def _with_header(table: list[str]) -> list[str]:
    body = [_cells(line) for line in table[2:]]
    for number, cells in enumerate(body[: ABOVE + 1]):
        if number and _is_header(cells, body[:number], body[number + 1 :]):
            told = [": ".join(filter(None, above)) for above in body[:number] if any(above)]
            return [*(line for text in told for line in (text, "")), *_tables(table[number + 2 :], table[1])]
    return table


def _tables(lines: list[str], ruler: str) -> list[str]:
    """A table whose first row is its header; behind an empty row another one may begin with its own."""
    table = [lines[0], ruler]
    for number, line in enumerate(lines[1:], start=1):
        cells = _cells(line)
        if not any(cells):
            continue
        before = _cells(lines[number - 1])
        is_next = not any(before) and _is_header(cells, [before], list(map(_cells, lines[number + 1 : number + NEAR])))
        table += ["", line, ruler] if is_next else [line]
    return table


def _is_header(cells: list[str], above: list[list[str]], below: list[list[str]]) -> bool:
    """Whether all columns have a name in this row, and the rows above are something else."""
    used = [column for column in range(len(cells)) if any(row[column] for row in [cells, *below])]
    names = [cells[column] for column in used]
    if len(used) < 2 or not below or not all(names) or len(set(names)) < len(names) or any(map(_FIGURE.match, names)):
        return False
    if any(sum(map(bool, row)) >= len(used) for row in above):
        return False
    has_figures = any(all(_FIGURE.match(row[column]) for row in below if any(row)) for column in used)
    titles_only = all(sum(map(bool, row)) < 2 for row in above) and len(used) > 2
    return not any(above[-1]) or has_figures or titles_only


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in _CELL.split(line)[1:-1]]
