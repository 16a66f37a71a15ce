"""`key: value` and what is indented below it: YAML."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from ftq.facts.rules.settings.setting import COMMENT, Above, Setting, parted

ITEM = re.compile(r"(?:- +)*")
PAIR = re.compile(r"(?P<quote>[\"']?)(?P<key>[A-Za-z_$][\w./$-]{0,79})(?P=quote)\s?:(?:\s+(?P<value>\S.*))?")
ASSIGNED = re.compile(r"(?P<quote>[\"']?)(?P<key>[A-Z][A-Z0-9_]{1,79})=(?P<value>.*)(?P=quote)")  # - "KEY=value"
BLOCK = re.compile(r"[|>][+-]?\d?")  # the text follows
Path = tuple[str, ...]


def nested(lines: Sequence[str], first: int) -> Iterator[Setting]:
    """What the lines set; `first` is the number of the first one. What only holds others has no value."""
    reader, items = _Reader(), Counter[Path]()
    settings = list[tuple[Setting, list[Path]]]()
    for number, line in enumerate(lines):
        if (setting := reader.read(line, first + number)) is not None:
            following = lines[number + 1] if number + 1 < len(lines) else ""
            is_first = bool(setting.value) and _depth(following) == _depth(line)
            settings.append((setting._replace(is_first=is_first), reader.lists))
        items = reader.items
    for setting, lists in settings:
        yield setting._replace(is_listed=any(items[one] > 1 for one in lists))


def _depth(line: str) -> int:
    """Where its key begins; -1 where none can."""
    indent = len(line) - len(line.lstrip())
    item = ITEM.match(line, indent)
    return -1 if not line.strip() or line.lstrip()[0] == "#" else item.end() if item else indent


class _Reader:
    """One line after another. `items` counts those of each list; `lists` are the ones around the last setting."""

    def __init__(self) -> None:
        self.items, self.lists = Counter[Path](), list[Path]()
        self._above, self._text = Above(), -1  # the indentation of a key whose text follows
        self._around: list[tuple[int, str]] = []  # (indentation, key), outermost first; an item of a list has no key

    def read(self, line: str, number: int) -> Setting | None:
        indent, text = len(line) - len(line.lstrip()), line.strip()
        if text and indent > self._text >= 0:
            return None
        self._text = -1 if text else self._text
        if commented := COMMENT.fullmatch(line) if text[:1] == "#" else None:
            self._above.add(commented["text"])
            return None
        comment, depth = self._above.take(), _depth(line)
        if depth < 0:
            return None
        is_item = depth > indent
        self._leave(indent, is_item)
        if is_item:
            self.items[self._path] += 1
            self._around.append((indent, ""))
        return self._setting(line[depth:].strip(), comment, depth, number)

    def _leave(self, indent: int, is_item: bool) -> None:
        """Take back what the line isn't in; a list may stand as deep as its key."""
        while self._around:
            above, key = self._around[-1]
            if above < indent or (above == indent and is_item and key):
                return
            self._around.pop()

    @property
    def _path(self) -> Path:
        return tuple(key for _, key in self._around)

    def _setting(self, text: str, comment: tuple[str, ...], depth: int, number: int) -> Setting | None:
        lists = [self._path[:place] for place, key in enumerate(self._path) if not key]
        given, beside = parted(text)
        if assigned := ASSIGNED.fullmatch(given):
            self.lists = lists[:-1]  # in its own list each item is another one
            path = tuple(filter(None, (*self._path, assigned["key"])))
            return Setting(number, path, "=", assigned["value"].strip(), comment, beside)
        pair = PAIR.fullmatch(text)
        if pair is None:
            return None
        value, beside = parted(pair["value"] or "")
        if BLOCK.fullmatch(value):
            self._text, value = depth, ""
        self.lists, path = lists, tuple(filter(None, (*self._path, pair["key"])))
        self._around.append((depth, pair["key"]))
        return Setting(number, path, ": ", value, comment, beside)
