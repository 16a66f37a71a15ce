"""Headings where a document has none that Markdown knows: bold lines of word processors, titles in plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator

MOST_WORDS = 11
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ATX = re.compile(r" {0,3}(#{1,6})\s+\S")
_BOLD = re.compile(r"(\*\*|__)(?!\s)((?:(?!\1).)+)(?<!\s)\1\s*")
_RULE = re.compile(r"([=\-~^\"'*+#.:_`])\1{2,}\s*")
_NO_END = ".:,;!。：，；！"  # of a title
_NUMBERED = re.compile(r"(\d+(?:\.\d+)*)\.?\s+[^\W\d_].*")


def of_bold_lines(markdown: str) -> str:
    """Markdown whose paragraphs of one short bold run are headings, one level below the heading before them."""
    lines, level = markdown.split("\n"), 1
    for index in _outside_code(lines):
        if heading := _ATX.match(lines[index]):
            level = len(heading[1])
        elif _alone(lines, index) and (bold := _BOLD.fullmatch(lines[index])) and _is_title(bold[2]):
            lines[index] = f"{'#' * min(level + 1, 6)} {bold[2].strip()}"
    return "\n".join(lines)


def of_text(text: str) -> str:
    """Plain text as Markdown with as many lines: underlined, numbered and capital titles become headings."""
    lines, breaks = _paged(text.replace("\r\n", "\n").replace("\r", "\n").expandtabs(4).split("\n"))
    levels: dict[str, int] = {}  # of each way of underlining, in order of appearance
    for index, line in enumerate(lines):
        if not _starts_paragraph(lines, index):
            continue
        if _underlined(lines, index):
            level = levels.setdefault(lines[index + 1][0], len(levels) + 1)
            lines[index], lines[index + 1] = _heading(level, line), ""
        elif _RULE.fullmatch(line) and _underlined(lines, index + 1, over=line):
            level = levels.setdefault(line[0] * 2, len(levels) + 1)
            lines[index : index + 3] = ["", _heading(level, lines[index + 1]), ""]
        elif level := _title_level(lines, index):
            lines[index] = _heading(level, line)
    return "\n".join(line for index, line in enumerate(lines) if index not in breaks)


def _paged(lines: list[str]) -> tuple[list[str], set[int]]:
    """(the lines with one more before each that a form feed begins: a new page begins a paragraph; those lines)."""
    paged, breaks = list[str](), set[int]()
    for line in lines:
        if line.startswith("\f"):
            breaks.add(len(paged))
            paged.append("")
        paged.append(line.lstrip("\f").replace("\f", " "))
    return paged, breaks


def lines(markdown: str) -> list[int]:
    """The numbers of the lines that are headings, from 1."""
    texts = markdown.split("\n")
    return [index + 1 for index in _outside_code(texts) if _ATX.match(texts[index])]


def _outside_code(lines: list[str]) -> Iterator[int]:
    fence = ""
    for index, line in enumerate(lines):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        elif mark:
            fence = mark[1]
        else:
            yield index


def _alone(lines: list[str], index: int) -> bool:
    """Whether a line is a paragraph of its own."""
    above = lines[index - 1] if index else ""
    below = lines[index + 1] if index + 1 < len(lines) else ""
    return not above.strip() and not below.strip()


def _is_title(text: str) -> bool:
    return text.strip()[-1:] not in _NO_END and len(text.split()) <= MOST_WORDS and any(map(str.isalpha, text))


def _starts_paragraph(lines: list[str], index: int) -> bool:
    return bool(lines[index].strip()) and (index == 0 or not lines[index - 1].strip())


def _underlined(lines: list[str], index: int, over: str = "") -> bool:
    """Whether a line has a rule below it that is as long; with `over`, the same as the rule above it."""
    if index + 1 >= len(lines) or not lines[index].strip() or _RULE.fullmatch(lines[index]):
        return False
    title, rule = lines[index].rstrip(), lines[index + 1].rstrip()
    if not _RULE.fullmatch(rule) or not any(map(str.isalpha, title)):
        return False
    return rule == over.rstrip() if over else len(rule) >= len(title) - 2 and not title.startswith(" ")


def _title_level(lines: list[str], index: int) -> int:
    """The level of a line that is a title by itself: numbered (1.2 Title) or in capitals. 0: it is none."""
    line = lines[index].rstrip()
    if not _alone(lines, index) or line.startswith("    ") or not _is_title(line):
        return 0
    if numbered := _NUMBERED.fullmatch(line):
        depth = numbered[1].count(".") + 1
        return min(depth, 6) if depth > 1 or not _item_near(lines, index) else 0
    letters = [letter for letter in line if letter.isalpha()]
    return 1 if len(letters) > 3 and line.upper() == line and line.lower() != line else 0


def _item_near(lines: list[str], index: int) -> bool:
    """Whether the next paragraph is numbered too: then this is an item of a list."""
    after = next((number for number in range(index + 1, len(lines)) if lines[number].strip()), 0)
    return after > 0 and _NUMBERED.fullmatch(lines[after]) is not None


def _heading(level: int, title: str) -> str:
    return f"{'#' * min(level, 6)} {title.strip()}"
