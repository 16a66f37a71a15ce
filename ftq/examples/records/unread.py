"""Keys of a chat's messages that nothing reads: what they hold isn't taught, and a misspelt one is seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ftq.errors import did_you_mean
from ftq.examples.records.checked import MESSAGE, NAME_SHOWN
from ftq.examples.records.given import Note
from ftq.examples.records.keys import CHATS, named

CONTENT, PART = "content.", frozenset({"type", "text"})  # of a message whose content is a list of parts
UNREAD = "messages have keys that nothing reads"  # begins the note
SHOWN = 12  # keys of a document
MOST = 1000  # keys of a document that are told apart


class Unread:
    """The unread keys of a document's messages, each with the place that has it first and in how many records."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._records: dict[str, int] = {}

    def add(self, place: str, keys: frozenset[str]) -> None:
        for key in sorted(keys):
            if key in self._first or len(self._first) < MOST:
                self._first.setdefault(key, place)
                self._records[key] = self._records.get(key, 0) + 1

    def notes(self, document: str) -> Iterator[Note]:
        """One for people, if there is any."""
        if self._first:
            keys = [f"{key} ({self._place(key)})" for key in list(self._first)[:SHOWN]]
            more = [f"{len(self._first) - SHOWN} more"] if len(self._first) > SHOWN else []
            yield Note(document, f"{UNREAD}: {', '.join(keys + more)}")

    def _place(self, key: str) -> str:
        others = self._records[key] - 1
        near = "" if key.startswith(CONTENT) else did_you_mean(key, sorted(MESSAGE)).strip().lower()
        return f"{self._first[key]}{f' and {others:,} more' if others else ''}{f': {near}' if near else ''}"


def unread_in(record: Any) -> frozenset[str]:
    """The keys of its messages that hold something which nothing reads."""
    if not isinstance(record, dict):
        return frozenset()
    record = named(record)
    messages = next((record[key] for key in CHATS if key in record), None)
    return frozenset(_unread(messages) if isinstance(messages, list) else ())


def _unread(messages: list[Any]) -> Iterator[str]:
    for message in messages:
        if isinstance(message, dict):
            yield from _others(message, MESSAGE, "")
            content = message.get("content")
            for part in content if isinstance(content, list) else ():
                yield from _others(part, PART, CONTENT) if isinstance(part, dict) else ()


def _others(value: dict[str, Any], read: frozenset[str], above: str) -> Iterator[str]:
    """The other keys, but for those that hold nothing."""
    for key, inner in value.items():
        if key not in read and inner is not None and inner not in ("", [], {}):
            yield above + (key if len(key) <= NAME_SHOWN else f"{key[:NAME_SHOWN]}...")
