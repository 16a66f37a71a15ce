"""What is written in letters and isn't text: inline pictures, base64, keys, dumps, code that a program made short."""

from __future__ import annotations

import re
from collections.abc import Iterator

SHORTEST = 30  # characters of a text that can hold any
LONG = 200  # characters in one run; a hash has 128 at most
MINIFIED = 1000  # characters of a line
KEY_LINES, LONGEST_LINE = 200, 300  # lines of a key; characters of a line of a dump
LINES, PLENTY = 4, 8  # of base64, of a hex dump: fewer are an example
URI = re.compile(
    r"data:[\w.+-]{1,40}/[\w.+-]{1,80}(?:;[\w.+-]{1,40}(?:=[^\s;,\"'()<>]{1,80})?){0,5},"
    r"(?P<data>(?:<|%3C)svg\b(?s:(?:(?!data:image/svg).){0,200000}?)(?:<|%3C)/svg(?:>|%3E)|[^\s\"'()<>`\\\]]{100,})",
    re.IGNORECASE,
)
_RUN = re.compile(rf"[A-Za-z0-9+/_=-]{{{LONG},}}")
_CHANGES = re.compile(r"[a-z](?=[A-Z0-9])|[A-Z](?=[a-z0-9])|[0-9](?=[A-Za-z])")
_IMAGE = re.compile(r"!\[([^\[\]]{0,1000})\]\(\s{0,9}<?$"), re.compile(r"[^()\n]{0,300}\)")
_TAG = re.compile(r"<\w[^<>]{0,2000}$"), re.compile(r"[^<>]{0,2000}>")
_ALT = re.compile(r"\balt\s{0,9}=\s{0,9}(?:\"([^\"]*)\"|'([^']*)')", re.IGNORECASE)
_DEFINED = re.compile(r"^ {0,3}\[[^\[\]]{1,200}\]:\s{0,9}<?$", re.MULTILINE)
_BASE64 = re.compile(r"[\s>\"'+]*([A-Za-z0-9+/_-]{40,}={0,2})[\"',;\\+\s]*")
_BASE64_END = re.compile(r"[\s>\"'+]*(?:[A-Za-z0-9+/_-]{0,99}={1,2}|[A-Za-z0-9+/_-]{16,99})[\"',;\\+\s]*")
_HEX = re.compile(r"\s*(?:(?:0x)?[0-9a-fA-F]{4,16}:?\s{1,4})?(?:(?:0x|\\x)?[0-9a-fA-F]{2,4}[,\s]\s{0,3}){7,}.{0,40}")
_KEY_BEGIN, _KEY_END = "-----BEGIN ", "-----END "
_KEY = re.compile(rf"[\s>\"'+]*{_KEY_BEGIN}[A-Z0-9 ]{{1,40}}-----")
_ANSI = re.compile(
    r"\x1b(?:\[[0-9;?]{0,20}[ -/]{0,3}[@-~]|\][^\x07\x1b]{0,300}(?:\x07|\x1b\\))"
)  # a terminal's colours


def is_text(line: str) -> bool:
    """Whether a line that stands alone is too short for all of these: most lines."""
    return len(line) < LONG and "data:" not in line and "DATA:" not in line


def without_blobs(text: str, is_code: bool = False) -> tuple[str, int]:
    """(the text, how many characters of it were none). A picture's alternative text stays; in code stands `...`."""
    kept, lost = text, 0
    if len(text) < SHORTEST:
        return text, 0
    if "data:" in text or "DATA:" in text:
        kept, lost = _without_uris(text, is_code)
    return _without_runs(kept, lost, "..." if is_code else "")


def _without_uris(text: str, is_code: bool) -> tuple[str, int]:
    pieces, at, lost = list[str](), 0, 0  # as many lines come out as went in
    for uri in URI.finditer(text):
        if uri.start() < at:
            continue
        before, lost = text[at : uri.start()], lost + len(uri["data"])
        if is_code:
            pieces += [before, text[uri.start() : uri.start("data")], "..."]
            at = uri.end()
            continue
        kept, at = _around(before, text, uri.end())
        pieces += [kept, "\n" * (before.count("\n") + text.count("\n", uri.start(), at) - kept.count("\n"))]
    return "".join([*pieces, text[at:]]), lost


def _around(before: str, text: str, end: int) -> tuple[str, int]:
    """(what stays of the text before a picture's data, where the text goes on)."""
    tail = before[-2100:]
    if (image := _IMAGE[0].search(tail)) and (rest := _IMAGE[1].match(text, end)):
        return before[: len(before) - len(tail) + image.start()] + image[1], rest.end()
    if (tag := _TAG[0].search(tail)) and (rest := _TAG[1].match(text, end)) and tag[0][:4].lower() == "<img":
        alt = _ALT.search(tag[0]) or _ALT.search(rest[0])
        return before[: len(before) - len(tail) + tag.start()] + ((alt[1] or alt[2] or "") if alt else ""), rest.end()
    if defined := _DEFINED.search(tail):
        return before[: len(before) - len(tail) + defined.start()], end
    return before, end


def _without_runs(text: str, lost: int, instead: str) -> tuple[str, int]:
    size = 0

    def shortened(run: re.Match[str]) -> str:
        nonlocal size
        if not _is_random(run[0]):
            return run[0]
        size += len(run[0])
        return instead

    if len(text) < LONG or max(map(len, text.split()), default=0) < LONG:
        return text, lost
    kept = _RUN.sub(shortened, text)
    return kept, lost + size


def _is_random(text: str) -> bool:
    """Letters and digits without a pattern: in names and words they change their kind less often."""
    return len(_CHANGES.findall(text)) > 0.4 * len(text)


def without_dumps(lines: list[str], is_code: bool) -> tuple[list[str], int]:
    """(as many lines, how many characters were no text): without keys, base64 and hex dumps over several lines."""
    kept, lost, instead = lines.copy(), 0, "..." if is_code else ""
    for start, end in _dumps(lines):
        lost += sum(map(len, lines[start:end]))
        kept[start:end] = [instead, *[""] * (end - start - 1)]
    for number, line in enumerate(kept):
        if len(line) >= MINIFIED and _is_minified(line):
            kept[number], lost = instead, lost + len(line)
    return kept, lost


def _dumps(lines: list[str]) -> Iterator[tuple[int, int]]:
    """(the first line of each, the line after it)."""
    at = 0
    if len(lines) < LINES and not any(_KEY_BEGIN in line for line in lines):
        return
    while at < len(lines):
        start, at = at, at + 1
        if len(lines[start]) > LONGEST_LINE:
            continue
        if _KEY.match(lines[start]):
            reach = range(start + 1, min(len(lines), start + KEY_LINES))
            if end := next((number for number in reach if _KEY_END in lines[number]), 0):
                yield start + 1, end
                at = end + 1
        elif _is_base64(lines[start]):
            while at < len(lines) and len(lines[at]) <= LONGEST_LINE and _is_base64(lines[at]):
                at += 1
            at += (
                at < len(lines) and at - start >= LINES and _BASE64_END.fullmatch(lines[at][:LONGEST_LINE]) is not None
            )
            if at - start >= LINES:
                yield start, at
        elif _HEX.fullmatch(lines[start]):
            while at < len(lines) and len(lines[at]) <= LONGEST_LINE and _HEX.fullmatch(lines[at]):
                at += 1
            if at - start >= PLENTY:
                yield start, at


def _is_base64(line: str) -> bool:
    match = _BASE64.fullmatch(line)
    return match is not None and _is_random(match[1])


def _is_minified(line: str) -> bool:
    """Code, not JSON and not prose."""
    signs = sum(map(line.count, "(;="))
    return line.count(" ") < 0.08 * len(line) and signs > 0.05 * len(line)


def without_colours(line: str) -> str:
    """A line without what tells a terminal its colours."""
    return _ANSI.sub("", line) if "\x1b" in line else line
