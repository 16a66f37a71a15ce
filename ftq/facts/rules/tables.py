"""T: the first column is the subject, each header an attribute."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from ftq.facts.blocks import Block, Cell, Paragraph, Table
from ftq.facts.checks import CJK, LETTERS, is_figure, is_readable, is_subject, known_phrases, known_words, words
from ftq.facts.fact import Fact
from ftq.facts.inline import inline
from ftq.facts.place import MORE, Place
from ftq.facts.records.names import person_of
from ftq.facts.rules.defaults import REQUIRED, default_in, described, need_in

ROWS, ROW = 500, "row of a table"  # of one table; more is data, of which a section's share of rows could hold nothing
CELL, SHORTEST, FEW = 40, 3, 3  # words of a cell, of an item in one; of one that defines nothing
TITLE, LEAD = 10, 25  # words of a line above a table, of one that ends in a colon
CAPTION = re.compile(r"(?:Table|Tabelle|Tableau|Tabla|Tabella|Tabela|Tabel|Таблица|表)\s?\d{0,3}[:：.]\s")
BREAK = re.compile(r"<br\s{0,3}/?>", re.IGNORECASE)
IDS = ("id", "uid", "key", "nr", "nr.", "no", "no.")
NUMBERS = ("", "#", "no", "no.", "nr", "nr.", "n°", "№")  # headers of a column that names nothing
ARTICLE = re.compile(r"(?=\S*\d)[A-Za-z0-9][\w./#-]{1,29}")  # its number
WORDY = re.compile(r"[^\W\d_]{3}")
TITLED = 5  # words of what an article is called
AMOUNT = re.compile(r"[\d.,]+\s?\w{0,3}")
MEANINGS, DEFAULTS, SAYS = known_phrases("meanings"), known_phrases("defaults"), known_words("says")
CALLED = known_words("called")


def table(place: Place) -> Iterator[Fact]:
    blocks = place.section.blocks
    for before, block, after in zip([None, *blocks], blocks, [*blocks[1:], None], strict=False):
        if isinstance(block, Table):
            here = replace(place, caption=block.caption or _caption(before, after))
            if any(map(_text, block.header)):
                yield from _rows(here, block)
            elif len(block.header) == 2:
                yield from _pairs(here, block)
            elif _is_header(block.rows):
                yield from _rows(here, Table(block.line, block.rows[0], block.rows[1:]))


def _caption(before: Block | None, after: Block | None) -> str:
    """What is written above a table, as `Prices in France:` or a line in bold; or below it, behind `Table 2:`."""
    if isinstance(after, Paragraph) and (match := CAPTION.match(after.inline.flat)):
        return after.inline.flat[match.end() :]
    if not isinstance(before, Paragraph) or not before.sentences:
        return ""
    text = before.sentences[-1].text
    is_title = len(before.sentences) == 1 and words(text) <= TITLE
    return text.rstrip(":：. ") if is_title or (text.endswith((":", "：")) and words(text) <= LEAD) else ""


def _rows(place: Place, table: Table) -> Iterator[Fact]:
    headers = [_header(header.inline.flat.strip(": ")) for header in table.header]
    names = _naming(headers, table.rows)
    first = names[0]
    if len(table.rows) > ROWS:
        place.cut(table.rows[ROWS][first].line, ROW, len(table.rows) - ROWS)
    kind = headers[first] if len(names) == 1 else ""
    told = [column for column, header in enumerate(headers) if _is_told(column, header, names)]
    title = _title(headers, table.rows, names)
    for row in islice(table.rows, ROWS):
        subject = " ".join(_named(row[column].inline.flat, headers[column]) for column in names)
        if not _is_name(subject):
            continue
        about = next((cell.inline.flat for header, cell in zip(headers, row, strict=True) if _means(header)), "")
        for column in told:
            header, cell = headers[column], row[column]
            if _is_value(value := _value(cell)):
                yield from _facts(place, kind, subject, header, value, cell.line, about)
                if title and column != title and not _means(header):
                    yield from _facts(place, "", _text(row[title]), header, value, cell.line, about)
            yield from _items(place, kind, subject, header, cell)


def _header(text: str) -> str:
    """Without the ticks of code, if it is nothing else."""
    return text.strip("`") if text.count("`") <= 2 and text.startswith("`") and text.endswith("`") else text


def _is_told(column: int, header: str, names: tuple[int, ...]) -> bool:
    """Whether a column says something of what the others name."""
    return 0 < len(header) < 60 and column not in names and (column > names[0] or header.lower() not in NUMBERS)


def _naming(headers: list[str], rows: list[list[Paragraph]]) -> tuple[int, ...]:
    """The columns that name the rows: the first one, or the second if that counts; both names of people."""
    first = 1 if _is_numbered(headers, rows) else 0
    person = tuple(map(headers.index, person_of(headers)))
    if person and (headers[first].lower() in IDS or first in person):
        names = [" ".join(_text(row[column]) for column in person) for row in rows[:ROWS]]
        if len(set(names)) == len(names) and all(map(_is_name, names)):
            return person
    return (first,)


def _is_numbered(headers: list[str], rows: list[list[Paragraph]]) -> bool:
    """Whether the second column has the names: the first one counts, or has a name in few of the rows."""
    if len(headers) < 3 or headers[0].lower() not in NUMBERS:
        return False
    named = sum(_is_name(_text(row[0])) for row in rows[:ROWS])
    return bool(headers[0]) or 2 * named < min(len(rows), ROWS)


def _title(headers: list[str], rows: list[list[Paragraph]], names: tuple[int, ...]) -> int:
    """The column of what articles are called, beside that of their numbers; 0 for none."""
    if names != (0,) or len(headers) < 3 or not rows:
        return 0
    header, some = headers[1].lower(), rows[:ROWS]
    titles = [_text(row[1]) for row in some]
    if not all(ARTICLE.fullmatch(_text(row[0])) for row in some) or len(set(titles)) < len(titles):
        return 0
    if not all(is_subject(text, longest=TITLED) and WORDY.search(text) for text in titles):
        return 0
    has_figures = any(all(is_figure(_text(row[column])) for row in some) for column in range(2, len(headers)))
    is_called = not CALLED.isdisjoint(header.split()[-1:])
    return 1 if is_called or (_means(header) and has_figures) else 0


def _pairs(place: Place, table: Table) -> Iterator[Fact]:
    """Two columns below no header: what the section is on has them, or they are terms with their meanings."""
    rows = table.rows[:ROWS]
    if len(table.rows) > ROWS:
        place.cut(table.rows[ROWS][0].line, ROW, len(table.rows) - ROWS)
    pairs = [(_text(name), _text(value), value.line) for name, value in rows if _is_pair(name, value)]
    is_meant = 2 * sum(words(value) > FEW and not is_figure(value) for _, value, _ in pairs) > len(pairs)
    for name, value, line in pairs:
        if is_meant:
            yield place.fact("T", "meaning", name, value, line)
        else:
            yield place.fact("T", "attribute", place.owner, value, line, attribute=name)


def _is_header(rows: list[list[Paragraph]]) -> bool:
    """Whether the first row names the columns: above figures stand words."""
    if len(rows) < 3:
        return False
    names, *below = [list(map(_text, row)) for row in rows[:ROWS]]
    has_figures = any(all(is_figure(row[column]) for row in below) for column in range(1, len(names)))
    return has_figures and all(names[1:]) and len(set(names)) == len(names) and not any(map(is_figure, names))


def _is_pair(name: Paragraph, value: Paragraph) -> bool:
    text = _text(name)
    return _is_name(text) and len(text) < 60 and SAYS.isdisjoint(text.lower().split()) and _is_value(_text(value))


def _text(cell: Paragraph) -> str:
    return cell.inline.flat.strip(": ")


def _value(cell: Paragraph) -> str:
    """A cell's text; of one that lists much only what stands above that."""
    value = cell.inline.flat
    return cell.lead if isinstance(cell, Cell) and cell.items and words(value) > CELL else value


def _items(place: Place, kind: str, subject: str, header: str, cell: Paragraph) -> Iterator[Fact]:
    """What a cell lists, in HTML or with line breaks: which row has it?"""
    items: tuple[str, ...] = cell.items if isinstance(cell, Cell) else ()
    if "<br" in cell.raw and BREAK.search(cell.raw):
        items = tuple(inline(part).flat.lstrip("-•* ") for part in BREAK.split(cell.raw))
    for item in items if len(items) > 1 or isinstance(cell, Cell) else ():
        if words(item) >= SHORTEST and is_readable(item) and _is_value(item):
            yield place.fact("T", "item", subject, item, cell.line, attribute=header, kind=kind)


def _means(header: str) -> bool:
    return header.lower() in MEANINGS


def _facts(place: Place, kind: str, subject: str, header: str, value: str, line: int, about: str) -> Iterator[Fact]:
    """A cell's fact, and the default that it states. `about` is what the row says that its subject is."""
    relation = "meaning" if _means(header) else "attribute"
    if header.lower() in DEFAULTS:
        if not MORE.match(value):  # `See below`
            yield place.fact("T", "default", subject, value, line, attribute=described(about), kind=kind)
        return
    yield place.fact("T", relation, subject, value, line, attribute=header, kind=kind)
    if relation == "meaning" and (need := need_in(value)):
        yield place.fact("T", "attribute", subject, need, line, attribute=REQUIRED, kind=kind)
    if relation == "meaning" and (default := default_in(value)) is not None:
        own = described(value[: default.start])
        yield place.fact("T", "default", subject, default.value, line, attribute=own, kind=kind)


def _named(text: str, kind: str) -> str:
    """A number with what it is: `Exit code 2`."""
    is_number = text.strip("`-").isdigit()
    return f"{kind} {text.strip('`')}" if is_number and any(map(str.isalpha, kind)) else text


def _is_name(text: str) -> bool:
    if AMOUNT.fullmatch(text):
        return False
    return is_subject(text, longest=7) or (text.count("`") >= 2 and len(text) < 70 and text.startswith("`"))


def _is_value(text: str) -> bool:
    """Something to say, not a tick."""
    return (
        any(sign.isalnum() for sign in text)
        and words(text) <= CELL
        and (len(text) > 1 or text.isdigit() or LETTERS.match(text) is None or CJK.match(text) is not None)
    )
