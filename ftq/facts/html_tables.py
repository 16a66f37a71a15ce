"""Tables that stand in Markdown as HTML: what they hold, with the parts of each cell."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from ftq.facts.blocks import Cell, Paragraph, Table

LINES, LENGTH = 2000, 100_000  # and characters of a table; more is data
END = re.compile(r"</table\s*>", re.IGNORECASE)
PIECES, ITEM = frozenset({"p", "li", "br", "div", "ul", "ol"}), "li"
STOPS = (".", "!", "?", ":", ";")


def end_of(lines: list[str], start: int) -> int:
    """The last line of the table that begins at `start`; -1 if it has none, or text in Markdown in it."""
    for number in range(start, min(len(lines), start + LINES)):
        if END.search(lines[number]):
            return number
        if not lines[number].strip():
            return -1
    return -1


def table_of(lines: list[str], line: int) -> Table | None:
    """The table with its header; None for one that only arranges what a page shows. `line` is that of the first."""
    text, reader = "\n".join(lines), _Reader(line)
    if len(text) > LENGTH:
        return None
    reader.feed(text)
    reader.close()
    header, *rows = reader.rows or [[]]
    if reader.heads == [True, False] * len(reader.rows) and all(len(row) == 2 for row in reader.rows):
        header, rows = [_Cell(line), _Cell(line)], reader.rows  # each row has its name: no row names the columns
    elif not all(reader.heads[: len(header)]):
        return None
    if len(header) < 2 or reader.most != 1:
        return None
    whole: list[list[Paragraph]] = [[cell.cell for cell in row] for row in rows if len(row) == len(header)]
    caption = " ".join(reader.caption.split())
    return Table(line, [cell.cell for cell in header], whole, caption) if whole else None


class _Cell:
    """A cell's pieces: paragraphs and items of lists."""

    def __init__(self, line: int) -> None:
        self.line = line
        self.pieces: list[tuple[bool, str]] = [(False, "")]  # (is an item, its text)

    def begin(self, is_item: bool) -> None:
        self.pieces.append((is_item, ""))

    def add(self, text: str) -> None:
        is_item, before = self.pieces[-1]
        self.pieces[-1] = is_item, before + text

    @property
    def cell(self) -> Cell:
        pieces = [(is_item, words) for is_item, text in self.pieces if (words := " ".join(text.split()))]
        lead = " ".join(text for is_item, text in pieces if not is_item)
        items = tuple(text for is_item, text in pieces if is_item)
        parts = [text if text.endswith(STOPS) else f"{text};" for _, text in pieces]
        return Cell(self.line, " ".join(parts).removesuffix(";"), lead=lead, items=items)


class _Reader(HTMLParser):
    """Rows of cells. A table inside a cell makes it none that is read."""

    def __init__(self, line: int) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[list[_Cell]] = []
        self.heads: list[bool] = []  # of the cells, whether each is a header's
        self.depth, self.most, self.line, self.is_open = 0, 0, line, False
        self.caption, self.in_caption = "", False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        match tag:
            case "table":
                self.depth += 1
                self.most = max(self.most, self.depth)
            case "tr":
                self.rows.append([])
                self.is_open = False
            case "td" | "th" if self.rows:
                self.rows[-1].append(_Cell(self.line + self.getpos()[0] - 1))
                self.heads.append(tag == "th")
                self.is_open = True
            case "code" | "kbd":
                self.handle_data("`")
            case "caption":
                self.in_caption = True
            case tag if tag in PIECES and self.is_open:
                self.rows[-1][-1].begin(tag == ITEM)

    def handle_endtag(self, tag: str) -> None:
        match tag:
            case "table":
                self.depth -= 1
            case "tr" | "td" | "th":
                self.is_open = False
            case "caption":
                self.in_caption = False
            case "code" | "kbd":
                self.handle_data("`")
            case tag if tag in PIECES and self.is_open:
                self.rows[-1][-1].begin(False)

    def handle_data(self, data: str) -> None:
        if self.in_caption:
            self.caption += data
        elif self.is_open:
            self.rows[-1][-1].add(data)
