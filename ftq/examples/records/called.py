"""How a section is asked for, and where it stands."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ftq.facts.text.signs import asks, letters
from ftq.formats.convert import Converted
from ftq.questions.wordings import NEUTRAL, SAMPLE_OF_FILE, Language, is_latin, language, language_of, telling

SURE = 3  # words that tell a text's language


def where_of(name: str, document: Converted, line: int) -> str:
    if not document.marks:
        return f"{name}:{line}"
    place = document.where(line)
    return f"{name}, {place}" if place else name


def line_of(place: str) -> int:
    """The line of a place in JSON Lines; 0 in other JSON."""
    line = re.match(r"line (\d+)", place)
    return int(line[1]) if line else 0


def question_of(path: tuple[str, ...], stem: str, language: Language) -> str:
    """The instruction for a section: its heading if that is a question, else a request to explain it."""
    if not path:
        return explain(stem.replace("-", " ").replace("_", " "), (), language)
    *above, heading = path
    return heading if asks(heading) else explain(heading, above, language)


def explain(heading: str, above: Sequence[str], language: Language) -> str:
    """The request in the language of the text."""
    place = f" ({', '.join(above)})" if above else ""
    return language.word("section").format(heading=language.word("quotes").format(heading), above=place)


def spoken(text: str) -> Language:
    """The language of a text where enough words tell it, or its script."""
    some = text[:SAMPLE_OF_FILE]
    code = language_of(some)
    is_sure = not is_latin(some) or len(telling().get(code, frozenset()) & {*letters(some)}) >= SURE
    return language(code if is_sure else NEUTRAL)
