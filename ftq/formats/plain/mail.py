"""Mail in plain text: what it quotes of an earlier one and its signature are no text of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator

SIGNATURE = 10  # lines at most
_QUOTES = re.compile(  # the line above what is quoted
    r"(?:On|Am|Le|El|Il|Em|Op|W dniu|Dnia) .{6,200}(?:wrote|schrieb\b.{0,80}|a écrit|escribió|ha scritto|escreveu|"
    r"schreef\b.{0,80}|napisał(?:\(a\)|a)?)\s?:|"
    r"-{3,} ?(?:Original Message|Ursprüngliche Nachricht|Message d'origine) ?-{3,}"
)
_HEADER = re.compile(r"(?:From:? |Von: |De: |-{3,} ?\w)")  # begins the next mail


def without(text: str) -> tuple[str, int]:
    """(the text, its quoted lines and signatures empty; how many lines that were)."""
    if ">" not in text and "\n--" not in text:
        return text, 0
    lines, count = text.split("\n"), 0
    for number in [*_quoted(lines), *_signatures(lines)]:
        count += bool(lines[number].strip())
        lines[number] = ""
    return "\n".join(lines), count


def _quoted(lines: list[str]) -> Iterator[int]:
    """Lines with `>` below one that says whose they are; that line may go on in a second one."""
    number = 0
    while number < len(lines):
        line, start = lines[number], number
        number += 1
        if not line[:1].isupper() and line[:3] != "---":  # most lines
            continue
        two = f"{line} {lines[number]}" if number < len(lines) else line
        if not _QUOTES.fullmatch(line.strip()):
            if lines[start].startswith(">") or not _QUOTES.fullmatch(two.strip()):
                continue
            number += 1
        below = next((at for at in range(number, len(lines)) if lines[at].strip()), len(lines))
        if below < len(lines) and lines[below].startswith(">"):
            yield from range(start, below)
            while below < len(lines) and (lines[below].startswith(">") or not lines[below].strip()):
                yield below
                below += 1
            number = below


def _signatures(lines: list[str]) -> Iterator[int]:
    """From `-- ` to the end of the text or to the next mail, if that is near."""
    for number, line in enumerate(lines):
        if line.rstrip("\r") in ("-- ", "--"):
            rest = lines[number + 1 : number + 2 + SIGNATURE]
            end = next((at for at, below in enumerate(rest) if _HEADER.match(below)), len(rest))
            if 0 < end <= SIGNATURE:
                yield from range(number, number + 1 + end)
