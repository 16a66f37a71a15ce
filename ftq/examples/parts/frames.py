"""What a part of a text needs at its ends: a table its header, code its fence, an item of a list what it belongs to."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from ftq.facts.text.fences import closes, opened

RULER = re.compile(r"[ \t>]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*")
ELEMENT = re.compile(r"<(table|pre|ul|ol|dl)\b[^<>]{0,500}>", re.IGNORECASE)
BORDERS = {
    name: re.compile(rf"</{row}\s*>(\s*)", re.IGNORECASE)
    for name, row in {"table": "tr", "ul": "li", "ol": "li", "dl": "dd"}.items()
}
ROW = re.compile(r"</thead>|</tr>", re.IGNORECASE)
MARKER = re.compile(r"[ \t>]*(?:[-*+]|\d{1,9}[.)])[ \t]+")
LONGEST = 2000  # characters of a header
ITEM = 200  # characters of what is repeated before a part
ABOVE, REACH = 300, 20_000  # lines and characters looked at for it
QUOTE = re.compile(r"[ \t]*(?:>[ \t]?)+")
DEFINES = re.compile(r"[ \t]{0,3}[:~][ \t]")


@dataclass(frozen=True)
class Frame:
    """From `start` to `end`; a part that begins after `head` gets `before`, one that ends there gets `after`."""

    start: int
    head: int
    end: int
    before: str
    after: str
    is_code: bool = False
    border: re.Pattern[str] | None = None  # between what it holds


class Frames:
    """Of a whole text. `length` counts a text's tokens, `room` is what a part may have."""

    def __init__(self, text: str, length: Callable[[str], int], room: int) -> None:
        self.text, self.length, self.room = text, length, room
        self._counted = "", 0

    def around(self, start: int, end: int) -> tuple[str, str]:
        """What stands before and after the part from `start` to `end`."""
        first, last = self._at(start), self._at(end)
        before = first.before if first else self._before(start)
        after = last.after if last else ""
        return (before, after) if 2 * self.tokens(before + after) <= self.room else ("", "")

    def tokens(self, text: str) -> int:
        """How many a frame takes."""
        if text != self._counted[0]:
            self._counted = text, self.length(text) if text else 0
        return self._counted[1]

    def ends(self, at: int, start: int) -> int:
        """A better end for a part: not right after a header."""
        frame = self._last(at)
        return frame.start if frame and start < frame.start < at <= frame.head else at

    def floor(self, start: int, at: int) -> int:
        """Before which place no part may end that begins at `start`: a header alone tells nothing."""
        frame = self._last(at)
        return frame.head if frame and frame.start <= start < frame.head else start

    def border(self, at: int) -> re.Pattern[str] | None:
        """What stands between the rows or items here, where that is no end of a line."""
        frame = self._last(at)
        return frame.border if frame and at < frame.end else None

    def is_code(self, at: int) -> bool:
        """Whether code goes on here."""
        frame = self._at(at)
        return frame is not None and frame.is_code

    def _last(self, at: int) -> Frame | None:
        """The last frame that begins before `at`."""
        index = bisect_right(self._starts, at - 1) - 1
        return self._frames[index] if index >= 0 else None

    def _at(self, at: int) -> Frame | None:
        frame = self._last(at)
        return frame if frame and frame.head <= at < frame.end else None

    @cached_property
    def _starts(self) -> list[int]:
        return [frame.start for frame in self._frames]

    @cached_property
    def _frames(self) -> list[Frame]:
        frames = list(_in_lines(self.text))
        if "<" in self.text:
            starts = [frame.start for frame in frames]
            for element in _elements(self.text):
                index = bisect_right(starts, element.start) - 1
                if index < 0 or frames[index].end <= element.start:
                    frames.append(element)
            frames.sort(key=lambda frame: frame.start)
        return frames

    def _before(self, at: int) -> str:
        """The marks of a quote whose line goes on; the items that a line of a list belongs to; a definition's term."""
        start = self.text.rfind("\n", 0, at) + 1
        if start < at:
            quote = QUOTE.match(self.text, start, min(at, start + ITEM))
            return quote[0] if quote else ""
        return "".join(f"{line}\n" for line in self._above(at))

    def _above(self, at: int) -> list[str]:
        line = self.text[at : at + ITEM].partition("\n")[0]
        if line[:1] not in (" ", "\t", ":", "~"):
            return []
        lines = self.text[max(0, at - REACH) : at].split("\n")[:-1][-ABOVE:]
        if DEFINES.match(line):
            return [next((above for above in reversed(lines) if above.strip() and not DEFINES.match(above)), "")]
        found, indent = list[str](), len(line) - len(line.lstrip())
        for above in reversed(lines):
            its = len(above) - len(above.lstrip())
            if indent and above.strip() and its < indent:
                if (marker := MARKER.match(above)) is None or len(above) > ITEM:
                    break
                if marker.end() > indent and its + 2 > indent:
                    continue
                found.append(above)
                indent = its
        return found[::-1]


def _in_lines(text: str) -> Iterator[Frame]:
    """Code between fences, and tables."""
    at, lines, number = 0, text.split("\n"), 0
    while number < len(lines):
        line, start = lines[number], at
        at, number = at + len(line) + 1, number + 1
        if opening := opened(line):
            head = at
            while number < len(lines) and not closes(lines[number], opening[1]):
                at, number = at + len(lines[number]) + 1, number + 1
            closing = lines[number] if number < len(lines) else opening[1]
            yield Frame(start, head, min(at, len(text)), f"{line}\n", f"\n{closing}", is_code=True)
            at, number = (at + len(closing) + 1, number + 1) if number < len(lines) else (at, number)
        elif "|" in line and number < len(lines) and "|" in lines[number] and RULER.fullmatch(lines[number]):
            ruler = lines[number]
            at, number = at + len(ruler) + 1, number + 1
            head = at
            while number < len(lines) and "|" in lines[number]:
                at, number = at + len(lines[number]) + 1, number + 1
            if len(line) + len(ruler) <= LONGEST:
                yield Frame(start, head, min(at, len(text)), f"{line}\n{ruler}\n", "")


def _elements(text: str) -> Iterator[Frame]:
    """HTML whose parts need their tag: tables with their first row, lists, code."""
    at, missing = 0, set[str]()
    while opening := ELEMENT.search(text, at):
        name, at = opening[1].lower(), opening.end()
        closing = None if name in missing else re.compile(f"</{name}\\s*>", re.IGNORECASE).search(text, at)
        if closing is None:
            missing.add(name)
            continue
        head = at
        if name == "table" and (row := ROW.search(text, head, head + LONGEST)):
            is_header = row[0].lower() == "</thead>" or "<th" in text[head : row.start()].lower()
            head = row.end() if is_header else head
            if row[0].lower() == "</tr>" and (rest := re.compile(r"\s*</thead>", re.IGNORECASE).match(text, head)):
                head = rest.end()
        before, after = f"{text[opening.start() : head].strip()}\n", f"\n</{name}>"
        yield Frame(opening.start(), head, closing.start(), before, after, border=BORDERS.get(name))
        at = closing.end()
