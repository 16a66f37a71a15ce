"""Expressions of MDX: a text or a number in braces is what a reader sees; of others only a program knows it."""

from __future__ import annotations

import io
import re

from ftq.facts.text.fences import FENCE
from ftq.facts.text.ticks import Ticks

UNKNOWN, INSTEAD = "expression of MDX", "‹…›"  # a sign that ends no sentence
INDENT = 200
LONGEST, UNCLOSED = 20_000, 50  # characters of an expression; braces and tags without an end that are looked at
_NUMBER = re.compile(r"[-+]?\d[\d_]*(?:\.\d+)?")
_TEXT = re.compile(r"\"([^\"\\\n]*)\"|'([^'\\\n]*)'|`((?:(?!\$\{)[^`\\])*)`")
_MODULE = re.compile(r"(?:import|export)\s")
_SIGN = re.compile(r"\\.|`+|\{|<(?=[A-Za-z/])", re.DOTALL)
_KEPT = ("{/*", "{{", "{%", "{#", "{.", "{:")  # comments, shortcodes, attributes of headings
_INNER = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`|[{}>]", re.DOTALL)


def without_expressions(source: str) -> tuple[str, list[int]]:
    """(the text, with as many lines; those of the expressions that aren't known)."""
    pieces, unknown, line = list[str](), list[int](), 1
    for piece, is_text in _pieces(source):
        kept, at = _told(piece) if is_text else (piece, [])
        pieces.append(kept)
        begin = 0
        for start in at:
            line, begin = line + piece.count("\n", begin, start), start
            unknown.append(line)
        line += piece.count("\n", begin)
    return "".join(pieces), unknown


def _pieces(source: str) -> list[tuple[str, bool]]:
    """(piece, whether it is text): code between fences, front matter, imports and exports are none."""
    pieces, text, fence, is_module = list[tuple[str, bool]](), list[str](), "", False
    for number, line in enumerate(io.StringIO(source, newline="")):
        opening = FENCE.match(line.rstrip("\r\n"))
        stripped = line.strip()
        is_module = bool(stripped) and (is_module or _MODULE.match(line) is not None)
        if fence or opening or is_module or (number == 0 and stripped == "---"):
            pieces += [("".join(text), True), (line, False)]
            text = []
        else:
            text.append(line)
        if fence:
            fence = "" if stripped.startswith(fence) and not stripped.strip(fence[0]) else fence
        elif opening:
            fence = opening[1]
        elif number == 0 and stripped == "---":
            fence = "---"
    return [*pieces, ("".join(text), True)]


def _told(text: str) -> tuple[str, list[int]]:
    """(the text with what its expressions say, where those begin of which that isn't known)."""
    pieces, unknown, at, ticks, unclosed = list[str](), list[int](), 0, Ticks(text), 0
    while (sign := _SIGN.search(text, at)) and unclosed < UNCLOSED:
        start, end = sign.span()
        pieces.append(text[at:start])
        if sign[0][0] == "`":
            closing = ticks.closing(len(sign[0]), end)
            end = closing + len(sign[0]) if closing >= 0 else end
        elif sign[0] in ("{", "<"):
            end = _end(text, start) or end
            unclosed += end == sign.end()
        at = end
        if sign[0] != "{" or end == start + 1 or text.startswith(_KEPT, start):
            pieces.append(text[start:end])
            continue
        said = _said(text[start + 1 : end - 1].strip())
        if said is None:
            unknown.append(start)
            before = text[max(0, start - INDENT) : start].rpartition("\n")[2]
            is_alone = not before.strip() and text[end : end + 1] in ("", "\n")
            said = "" if is_alone else INSTEAD
        lines = text.count("\n", start, end) - said.count("\n")
        pieces.append(said + "\n" * lines)
    return "".join([*pieces, text[at:]]), unknown


def _said(expression: str) -> str | None:
    """What a reader sees of it; None if that isn't known."""
    if _NUMBER.fullmatch(expression):
        return expression.replace("_", "")
    if text := _TEXT.fullmatch(expression):
        return next(said for said in text.groups() if said is not None)
    return None if expression else ""


def _end(text: str, start: int) -> int:
    """Where the expression or the tag ends that begins here; 0 if it doesn't."""
    depth, is_tag = 0, text[start] == "<"
    for sign in _INNER.finditer(text, start, min(len(text), start + LONGEST)):
        depth += {"{": 1, "}": -1}.get(sign[0], 0)
        if depth == 0 and sign[0] == (">" if is_tag else "}"):
            return sign.end()
    return 0
