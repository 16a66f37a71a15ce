"""What a comment says of a setting: what it is, or what its value does; empty for what says something else."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ftq.facts.checks import VERSION, is_readable, known_words, leads_elsewhere, points, words
from ftq.facts.place import answer
from ftq.facts.rules.code import EMPTY_LEADS
from ftq.facts.rules.english import NOUNS, VERBS, as_serving
from ftq.facts.rules.settings.setting import Setting
from ftq.facts.sentences.split import sentences

SHORTEST, LONGEST = 3, 40  # words of a comment
NO_COMMENT = known_words("no_comment")
CODE = re.compile(r"[{;=\\]$|[\w\"')\]] ?=\s|^[\w.-]+:(?: \S+)?$|[<>|]{2}|[${]\{|\w\(| --\w|\bexample\b|'[^' ]+'")
SAYS = re.compile(
    r"\b(?:will|won['’]t|is|are|was|has|have|needs?|can|must|may|"
    r"hat|ist|wird|werden|est|sont|sera|son|ser[áà])\b"
)
ASKS = re.compile(
    r"(?:how|where|what|which|who|whether|wie|wo|was|welche\w*|où|quand|dónde|cuándo|dove|onde|waar|hoe)\b",
    re.IGNORECASE,
)
TITLE = re.compile(r"(?:(?:[A-Z][\w-]*|\W|of|for|and|the)\s?)+")
ADVISES = frozenset({"enter", "leave", "provide", "put", "set", "specify", "use"})  # which other value one may give
WORD, PART = re.compile(r"[^\W\d_]{3,}"), re.compile(r"[A-Z]?[a-z]{2,}|[A-Z]{3,}")


def said_of(setting: Setting, lines: Sequence[str]) -> str:
    """The first sentences of a comment's lines."""
    if not lines or any(map(CODE.search, lines)):
        return ""
    text = " ".join(lines[: next(filter(lambda number: _ends(lines, number), range(1, len(lines))), None)]).strip()
    first = text.partition(" ")[0].strip(",.:;()\"'").lower()
    if words(text) < SHORTEST or not text[0].isalpha() or first in NO_COMMENT or EMPTY_LEADS.match(text):
        return ""
    if ASKS.match(text):  # `how long to wait`
        return text if words(text) <= LONGEST and is_readable(text) else ""
    text = answer(sentences(text, 1), longest=LONGEST)
    if not text or leads_elsewhere(text) or " this " in text or VERSION.match(text) or TITLE.fullmatch(text):
        return ""
    is_apart = SAYS.search(text) is not None and not is_act(text)  # a sentence with a subject of its own
    return "" if points(text) or (is_apart and not is_on(setting, text)) else text


def _ends(lines: Sequence[str], number: int) -> bool:
    """Whether something else begins in that line."""
    return lines[number - 1][-1:] not in ".,;" and lines[number][:1].isupper()


def is_act(text: str) -> bool:
    """`Skip the check`: what is done."""
    first = text.partition(" ")[0].lower()
    return first not in ADVISES and (first in VERBS - NOUNS or bool(as_serving(text, is_verb=True)))


def is_on(setting: Setting, text: str) -> bool:
    """Whether the comment speaks of the setting, and not of all that follow."""
    said = {word.lower()[:4] for word in WORD.findall(text)}
    return any(part.lower()[:4] in said for part in PART.findall(setting.path[-1]))
