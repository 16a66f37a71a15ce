"""Markdown into sections of blocks with their lines: paragraphs, lists, tables, code, definitions.

A reader of lines instead of a whole CommonMark parser: a file is read once, whatever it holds, in a fraction of
the time. What is in doubt becomes a paragraph.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from itertools import pairwise

from ftq.facts.blocks import TEXT, Block, Bullets, Code, Definitions, Document, Item, Paragraph, Section, Table
from ftq.facts.inline import inline
from ftq.facts.marks import Source, cleaned

Line = tuple[int, str]  # its number in the file, its text

HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+|$)")
ITEM = re.compile(r"([ \t]*)([-*+•]|\d{1,9}[.)])([ \t]+)(?=\S)")
FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})[ \t]*([^`]{0,200})$")
NUMBERED = re.compile(r"^(?:\d{1,3}(?:\.\d{1,3}){0,4}[.)]|\d{1,3}(?:\.\d{1,3}){1,4}|Step \d{1,3}[.:])\s+(?=\S)")
TASK = re.compile(r"\[[ xX]\]\s+")
DEPTH = 6  # of lists and quotes inside each other; deeper ones are paragraphs
COLUMNS = 64  # a wider table is data


def document(source: str) -> Document:
    """Every heading with the blocks below it, before the next heading; one at a time."""
    text = cleaned(source)
    return Document(_sections(text), text.front)


def _sections(text: Source) -> Iterator[Section]:
    section, path = Section((), 1), dict[int, str]()
    for start, end in pairwise(text.cuts):
        for block in _Blocks(list(enumerate(text.lines[start:end], start=start + 1)), text.references, 0).read():
            if not isinstance(block, _Heading):
                section.blocks.append(block)
                continue
            yield section
            name = _name(block.raw, text.references)
            path = {level: heading for level, heading in path.items() if level < block.level} | {block.level: name}
            section = Section(tuple(heading for heading in path.values() if heading), block.line, block.level)
        if end < len(text.lines):  # a long section comes in parts
            yield section
            section = Section(section.path, section.line, section.level)
    yield section


def _name(raw: str, references: Container[str]) -> str:
    return NUMBERED.sub("", inline(raw[:TEXT], references).flat, count=1).rstrip(" ¶#")


@dataclass
class _Heading:
    line: int
    raw: str
    level: int


class _Blocks:
    """Lines into blocks; lists and quotes read their own lines, without their marks, in the same way."""

    def __init__(self, lines: list[Line], references: Container[str], depth: int) -> None:
        self.lines, self.references, self.depth = lines, references, depth
        self.at = 0
        self.open: list[Line] = []  # the paragraph's lines so far
        self.blocks: list[Block | _Heading] = []

    def read(self) -> list[Block | _Heading]:
        while self.at < len(self.lines):
            number, line = self.lines[self.at]
            stripped = line.lstrip()
            self.at += 1
            if not stripped:
                self._close()
            elif not self._special(number, line, stripped):
                self.open.append((number, stripped.rstrip()))
        self._close()
        return self.blocks

    def _special(self, number: int, line: str, stripped: str) -> bool:
        """Whether the line begins something else than a paragraph, which then is read."""
        first = stripped[0]
        if not self.open and line.startswith(("    ", "\t")):
            return self._indented()
        if first == "#":
            return self._heading(number, line)
        if first in "`~" and (fence := FENCE.match(line)):
            return self._fence(number, line, fence)
        if first in "=-" and self.open and self._underlined(stripped):
            return True
        if first in "-*_" and len(stripped) > 2 and not stripped.strip(first + " \t"):
            self._close()
            return True
        if first == ">" and self.depth < DEPTH:
            return self._quote()
        if (first in "-*+•" or first.isdigit()) and self.depth < DEPTH and (item := ITEM.match(line)):
            return self._list(item)
        if first in ":~" and self.open and stripped[1:2] in (" ", "\t"):
            return self._definition()
        return "|" in line and self._table()

    def _close(self) -> None:
        if self.open:
            raw = "\n".join(line for _, line in self.open)
            self.blocks.append(Paragraph(self.open[0][0], raw, self.references))
            self.open = []

    def _paragraph(self, number: int, text: str) -> Paragraph:
        return Paragraph(number, text.strip(), self.references)

    def _heading(self, number: int, line: str) -> bool:
        match = HEADING.match(line)
        if match is None or self.depth:
            return match is not None
        self._close()
        text = re.sub(r"[ \t]#+$", "", line[match.end() :].rstrip())
        self.blocks.append(_Heading(number, text, len(match.group(1))))
        return True

    def _underlined(self, stripped: str) -> bool:
        mark = stripped.rstrip()
        if self.depth or mark.strip(mark[0]) or len(self.open) > 3:
            return False
        number, text = self.open[0][0], " ".join(line for _, line in self.open)
        self.open = []
        self.blocks.append(_Heading(number, text, 1 if mark[0] == "=" else 2))
        return True

    def _fence(self, number: int, line: str, fence: re.Match[str]) -> bool:
        self._close()
        mark, indent, start = fence.group(1), len(line) - len(line.lstrip()), self.at
        while self.at < len(self.lines):
            end = self.lines[self.at][1].strip()
            self.at += 1
            if end.startswith(mark) and not end.strip(mark[0]):
                break
        else:
            self.at += 1
        info = fence.group(2)
        if info.startswith("{") and info[1:2].isalpha() and "code" not in info and self.depth < DEPTH:  # MyST's notes
            self._inside(self.lines[start : self.at - 1], self.blocks)
            return True
        inner = [_unindented(text, indent) for _, text in self.lines[start : self.at - 1]]
        self.blocks.append(Code(number + 1, fence.group(2).strip(), inner))
        return True

    def _indented(self) -> bool:
        start = self.at - 1
        while self.at < len(self.lines):
            text = self.lines[self.at][1]
            if text.strip() and not text.startswith(("    ", "\t")):
                break
            self.at += 1
        inner = [_unindented(text.replace("\t", "    ", 1), 4) for _, text in self.lines[start : self.at]]
        while inner and not inner[-1].strip():
            inner.pop()
        self.blocks.append(Code(self.lines[start][0], "", inner))
        return True

    def _quote(self) -> bool:
        self._close()
        start = self.at - 1
        while self.at < len(self.lines) and self.lines[self.at][1].strip():
            self.at += 1
        inner = [(number, _unquoted(text)) for number, text in self.lines[start : self.at]]
        self._inside(inner, self.blocks)
        return True

    def _inside(self, lines: list[Line], blocks: list[Block | _Heading] | list[Block]) -> None:
        for block in _Blocks(lines, self.references, self.depth + 1).read():
            if not isinstance(block, _Heading):
                blocks.append(block)

    def _list(self, first: re.Match[str]) -> bool:
        if self.open and first.group(2)[0].isdigit() and first.group(2)[:-1] != "1":
            return False  # a number that a line of text begins with
        self._close()
        self.at -= 1
        bullets = Bullets(self.lines[self.at][0], [])
        item: re.Match[str] | None = first
        while item is not None:
            bullets.items.append(self._item(item))
            item = self._next_item(first)
        self.blocks.append(bullets)
        return True

    def _item(self, item: re.Match[str]) -> Item:
        number, text = self.lines[self.at]
        width = len(item.group()) if len(item.group(3)) < 5 else item.end(2) + 1
        inner = [(number, TASK.sub("", text[width:], count=1) if "[" in text[width : width + 4] else text[width:])]
        self.at += 1
        was_empty = False
        while self.at < len(self.lines):
            number, text = self.lines[self.at]
            if text.strip():
                indent = len(text) - len(text.lstrip())
                is_less = indent < min(width, 2) or (indent < width and (was_empty or ITEM.match(text)))
                if is_less and (was_empty or not _goes_on(text)):
                    break
                inner.append((number, text[min(indent, width) :]))
            else:
                inner.append((number, ""))
            was_empty = not text.strip()
            self.at += 1
        blocks: list[Block] = []
        if len(inner) == 1 and not _is_special(inner[0][1]):
            blocks.append(self._paragraph(*inner[0]))
        else:
            self._inside(inner, blocks)
        return Item(inner[0][0], blocks)

    def _next_item(self, first: re.Match[str]) -> re.Match[str] | None:
        if self.at >= len(self.lines):
            return None
        item = ITEM.match(self.lines[self.at][1])
        same = item is not None and item.group(2)[-1] == first.group(2)[-1]
        return item if same else None

    def _definition(self) -> bool:
        """`: text` under a term of one line, once or more often, with more terms after it."""
        if len(self.open) != 1:
            return False
        term, self.open = self._paragraph(*self.open[0]), []
        self.at -= 1
        texts: list[str] = []
        start = self.lines[self.at][0]
        while self.at < len(self.lines) and self.lines[self.at][1].strip():
            text = self.lines[self.at][1].strip()
            if texts and not text.startswith((": ", "~ ")) and self._begins_definition(self.at + 1):
                break
            texts.append(text[1:].strip() if text.startswith((": ", "~ ")) else text)
            self.at += 1
        pair = (term, self._paragraph(start, "\n".join(texts)))
        if self.blocks and isinstance(self.blocks[-1], Definitions):
            self.blocks[-1].terms.append(pair)
        else:
            self.blocks.append(Definitions(term.line, [pair]))
        return True

    def _begins_definition(self, at: int) -> bool:
        return at < len(self.lines) and self.lines[at][1].lstrip().startswith((": ", "~ "))

    def _table(self) -> bool:
        """A row, a ruler, more rows; the row may be the last line of a paragraph."""
        if self.at >= len(self.lines) or not _is_ruler(self.lines[self.at][1]):
            return False
        number, line = self.lines[self.at - 1]
        header = _cells(line)
        if not 2 <= len(header) <= COLUMNS or len(_cells(self.lines[self.at][1])) != len(header):
            return False
        self._close()
        table = Table(number, [self._paragraph(number, cell) for cell in header], [])
        self.at += 1
        while self.at < len(self.lines) and "|" in self.lines[self.at][1]:
            number, line = self.lines[self.at]
            cells = _cells(line)[: len(header)]
            cells += [""] * (len(header) - len(cells))
            table.rows.append([self._paragraph(number, cell) for cell in cells])
            self.at += 1
        self.blocks.append(table)
        return True


def _unindented(text: str, indent: int) -> str:
    return text[min(indent, len(text) - len(text.lstrip())) :].rstrip()


def _unquoted(text: str) -> str:
    stripped = text.lstrip()
    return stripped[1:].removeprefix(" ") if stripped.startswith(">") else stripped


def _goes_on(text: str) -> bool:
    """Whether a line that isn't indented belongs to the item's paragraph before it."""
    return not (ITEM.match(text) or text.lstrip()[0] in "#>`~|:")


def _is_special(text: str) -> bool:
    return text[:1] in "-*+•#>`~|" or text[:1].isdigit() or text.startswith("    ")


def _is_ruler(line: str) -> bool:
    text = line.strip()
    return "-" in text and not text.strip("|-: \t") and ("|" in text or ":" in text)


def _cells(line: str) -> list[str]:
    text = line.strip().removeprefix("|")
    if text.endswith("|") and not text.endswith("\\|"):
        text = text[:-1]
    if "\\|" not in text:
        return text.split("|", COLUMNS)
    return [cell.replace("\0", "|") for cell in text.replace("\\|", "\0").split("|", COLUMNS)]
