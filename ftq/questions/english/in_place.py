"""A sentence with its figure or its code asked for where it stands: `The run stops after how long?`"""

from __future__ import annotations

import re

from ftq.questions.english.measures import RANGE, SINGLE, UNITS
from ftq.questions.kinds import kind_of

QUESTION_WORDS = {
    "duration": "How long", "size": "How much", "percent": "How much", "version": "Which version",
    "path": "Which file", "option": "Which option", "variable": "Which variable", "command": "Which command",
    "setting": "Which setting",
}  # fmt: skip
IN_PLACE = {**QUESTION_WORDS, "path": "which file or folder"}
COUNTED = re.compile(r" [a-z]{3,}s\b")
ARTICLE = re.compile(r"\b(?:[Tt]he|[Aa]n?) \Z")
NAMED = re.compile(r" (?:options?|flags?|commands?|settings?|files?|directory|folder|variables?|parameters?|keys?)\b")
LISTED = re.compile(r",? (?:and|or) `|, `| `|[)\]]")  # behind one of several
AMONG = re.compile(r"(?:\b(?:and|or)|`,?) $|[(\[]$")


def in_place(sentence: str, value: str) -> list[str]:
    """`The run stops after how long?`"""
    before, _, after = sentence.partition(value)
    kind, units = kind_of(value), UNITS.search(value)
    words = f"how many {units.group(1)}" if units else IN_PLACE.get(kind, "")
    if kind == "number":
        words = "how many" if COUNTED.match(after) else ""
    if not words or sentence.startswith(("For ", "Don't ", "Use ")):
        return []
    if LISTED.match(after) or AMONG.search(before):
        return []  # one of several: `x`, `y` and `z`
    is_part = after.startswith(" of ") if kind == "size" else SINGLE.match(value) and after[1:2].isalpha()
    if RANGE.search(before) or before.endswith("every ") or (is_part and not after.startswith(" after ")):
        return []
    words = words[0].lower() + words[1:] if before else words[0].upper() + words[1:]
    if NAMED.match(after):
        words = words.partition(" ")[0]
    article = ARTICLE.search(before, max(0, len(before) - len("the ")))
    asked = (before[: article.start()] if article else before) + words + after
    return [f"{asked.rstrip('.!')}?"]
