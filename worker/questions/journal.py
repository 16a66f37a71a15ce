"""What has been written so far, a line for each section: a killed attempt loses no more than what it was at."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Item:
    """A question and its answer as the model gave them."""

    question: str
    answer: str
    is_sentence: bool
    again: str | None = None


@dataclass(frozen=True)
class Entry:
    """A section's items, and how many of the model's answers weren't the JSON asked for."""

    items: tuple[Item, ...]
    unreadable: int


class Journal:
    """One file. Two processes may append to it; what isn't a whole line counts for nothing."""

    def __init__(self, file: Path) -> None:
        self.entries = _read(file)
        self._lock = threading.Lock()
        self._descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.write(self._descriptor, b"\n")  # behind what a killed process left

    def add(self, key: str, entry: Entry) -> None:
        """Have it on the disk."""
        line = json.dumps({"section": key, **asdict(entry)}, ensure_ascii=False)
        with self._lock:
            os.write(self._descriptor, line.encode(errors="backslashreplace") + b"\n")
            os.fsync(self._descriptor)
            self.entries[key] = entry

    def close(self) -> None:
        os.close(self._descriptor)


def _read(file: Path) -> dict[str, Entry]:
    entries = dict[str, Entry]()
    if file.is_file():
        with file.open("rb") as lines:
            for line in lines:
                try:
                    value = json.loads(line)
                    items = tuple(Item(**item) for item in value["items"])
                    entries[str(value["section"])] = Entry(items, int(value["unreadable"]))
                except (ValueError, KeyError, TypeError):
                    continue
    return entries
