"""Footnotes stand where they are referred to, wherever the file has them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

FOOTNOTE = re.compile(r" {0,3}\[\^([^\[\]]{1,100})\]:\s?")
REFERRED = re.compile(r"\[\^([^\[\]]{1,100})\](?!:)")


@dataclass(frozen=True)
class Note:
    """`line` counts from 1; `shown` is the note as a section shows it, `text` what its parser gets."""

    line: int
    shown: str
    text: str


def moved(footnotes: Iterable[tuple[str, int]], shown: list[str], cleaned: list[str]) -> dict[str, Note]:
    """Take the footnotes that something refers to out of the lines. `footnotes` has their labels and first lines."""
    starts = dict(reversed(list(footnotes)))  # of two with one label the first counts
    if not starts:
        return {}
    referred = {label for line in shown for label in REFERRED.findall(line)}
    notes = {}
    for label, start in starts.items():
        if label in referred:
            end = _end(cleaned, start, set(starts.values()))
            text = [line.strip() for line in cleaned[start:end]]
            notes[label] = Note(start + 1, "\n".join(shown[start:end]).rstrip(), "\n".join(filter(None, text)))
            shown[start:end] = cleaned[start:end] = [""] * (end - start)
    return notes


def _end(lines: Sequence[str], start: int, starts: set[int]) -> int:
    """The lines up to an empty one, and indented ones after that."""
    end, is_open = start + 1, True
    for number in range(start + 1, len(lines)):
        line = lines[number]
        if not line.strip():
            is_open = False
        elif number not in starts and ((is_open and line.lstrip()[0] not in "#`~") or line.startswith(("    ", "\t"))):
            end, is_open = number + 1, is_open
        else:
            break
    return end


def notes_in(texts: Iterable[str], notes: dict[str, Note]) -> Iterator[Note]:
    """The notes that these texts refer to, each once, in their order."""
    labels = dict.fromkeys(label for text in texts for label in REFERRED.findall(text))
    return (notes[label] for label in labels if label in notes)
