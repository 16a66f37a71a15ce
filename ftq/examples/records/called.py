"""How a section is asked for, and where it stands."""

from __future__ import annotations

import re

from ftq.facts.text.signs import asks
from ftq.formats.convert import Converted


def where_of(name: str, document: Converted, line: int) -> str:
    if not document.marks:
        return f"{name}:{line}"
    place = document.where(line)
    return f"{name}, {place}" if place else name


def line_of(place: str) -> int:
    """The line of a place in JSON Lines; 0 in other JSON."""
    line = re.match(r"line (\d+)", place)
    return int(line[1]) if line else 0


def question_of(path: tuple[str, ...], stem: str) -> str:
    """The instruction for a section: its heading if that is a question, else a request to explain it."""
    if not path:
        return f'Explain "{stem.replace("-", " ").replace("_", " ")}".'
    *above, heading = path
    if asks(heading):
        return heading
    return f'Explain "{heading}" ({", ".join(above)}).' if above else f'Explain "{heading}".'
