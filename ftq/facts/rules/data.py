"""J: JSON of other shapes: the path of keys is the subject, the last key the attribute."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ftq.facts.checks import words
from ftq.facts.fact import Cut, Fact

NAMES = ("name", "title", "id", "key", "label", "slug", "code")
MEANINGS = ("description", "summary", "help", "doc", "definition", "text")
DEPTH, VALUE, FACTS = 20, 50, 20_000  # levels, words of a value, facts of a file


def json_facts(data: Any, file: str, line: int = 1, cuts: list[Cut] | None = None) -> Iterator[Fact]:
    """Every scalar with the path to it, FACTS at most; how many more there are is added to `cuts`.

    A stack instead of recursion: nesting may be deep.
    """
    stack: list[tuple[Any, tuple[str, ...], str]] = [(data, (), "")]
    count = 0
    while stack:
        value, path, kind = stack.pop()
        if isinstance(value, dict):
            name = _name(value) or (path[-1] if path else "")
            if len(path) < DEPTH:
                stack.extend(reversed(_nested(value, path)))
            for key, inner in value.items():
                if isinstance(inner, dict | list):
                    continue
                if name and (fact := _fact(name, str(key), inner, path, file, line, kind)) is not None:
                    count += 1
                    if count <= FACTS:
                        yield fact
        elif isinstance(value, list):
            stack.extend((inner, path, kind) for inner in reversed(value) if isinstance(inner, dict | list))
    if cuts is not None and count > FACTS:
        cuts.append(Cut(file, line, "value of JSON", count - FACTS))


def _nested(record: dict[Any, Any], path: tuple[str, ...]) -> list[tuple[Any, tuple[str, ...], str]]:
    """Objects and lists inside, each with its path and what its records are: `planets` holds planets."""
    is_table = bool(path) and all(isinstance(inner, dict) for inner in record.values())
    return [
        (inner, (*path, str(key)), _singular(path[-1] if is_table else str(key)))
        for key, inner in record.items()
        if isinstance(inner, dict | list)
    ]


def _name(record: dict[Any, Any]) -> str:
    for key in NAMES:
        name = record.get(key)
        if isinstance(name, str) and 0 < len(name) < 70 and len(name.split()) <= 8:
            return " ".join(name.split())
    return ""


def _fact(name: str, key: str, value: Any, path: tuple[str, ...], file: str, line: int, kind: str) -> Fact | None:
    text = "true" if value is True else "false" if value is False else " ".join(str(value).split())
    if value is None or not text or text == name or words(text) > VALUE or len(text) > 400 or text.startswith("http"):
        return None
    if (
        not any(map(str.isalnum, text))
        or not any(map(str.isalnum, name))
        or len(key) > 60
        or key.startswith(("$", "_"))
    ):
        return None
    relation = "meaning" if key.lower() in MEANINGS and words(text) > 2 else "attribute"
    attribute = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", key).replace("_", " ").lower()
    return Fact(name, relation, text, "", path, file, line, "J", attribute, kind)


def _singular(key: str) -> str:
    if key.endswith("ies"):
        return f"{key[:-3]}y"
    return key[:-1] if key.endswith("s") and not key.endswith("ss") else key
