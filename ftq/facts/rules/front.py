"""F: what front matter says about its page."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

from ftq.facts.checks import is_subject, words
from ftq.facts.fact import Fact
from ftq.facts.inline import inline
from ftq.facts.marks import FRONT
from ftq.facts.place import Place

LENGTH, FEATURES = FRONT, 20  # characters of front matter that are read, and features in it
DESCRIPTIONS = ("description", "summary", "tagline", "excerpt", "subtitle", "lead")


def page(front: str, title: str, place: Place, lines: list[str]) -> Iterator[Fact]:
    """The page's description; VitePress's hero and features. What a limit leaves out is told to the place."""
    data, file = _data(front), place.file
    if len(front) > LENGTH:
        place.cut(1, "character of front matter", len(front))
    name = title_of(front) or title
    hero = data.get("hero") if isinstance(data.get("hero"), dict) else {}
    for found in (data, hero):
        for key in DESCRIPTIONS:
            text = found.get(key) if isinstance(found, dict) else None
            if isinstance(text, str) and 3 <= words(text) <= 60 and name:
                text = " ".join(text.split())
                yield Fact(name, "page", text, text, (), file, _line(text, lines), "F")
    features = data.get("features")
    listed = [feature for feature in features if isinstance(feature, dict)] if isinstance(features, list) else []
    for feature in listed[:FEATURES]:
        yield from _feature(feature, file, lines)
    if len(listed) > FEATURES:
        line = _line(str(listed[FEATURES].get("title")), lines)
        place.cut(line, "feature of front matter", len(listed) - FEATURES)


def title_of(front: str) -> str:
    title = _data(front).get("title")
    return inline(title).flat if isinstance(title, str) and words(title) <= 12 else ""


def _data(front: str) -> dict[str, Any]:
    if not front or len(front) > LENGTH:
        return {}
    import yaml

    try:
        first = next((line for line in front.split("\n") if line.strip() and not line.startswith("#")), "")
        is_toml = first.startswith("[") or "=" in first.partition(":")[0]
        data = tomllib.loads(front) if is_toml else yaml.safe_load(front)
    except (yaml.YAMLError, tomllib.TOMLDecodeError, ValueError, OverflowError, RecursionError, TypeError):
        return {}
    return data if isinstance(data, dict) else {}


def _feature(feature: dict[Any, Any], file: str, lines: list[str]) -> Iterator[Fact]:
    name, text = feature.get("title"), feature.get("details") or feature.get("description")
    if isinstance(name, str) and isinstance(text, str) and is_subject(name) and 3 <= words(text) <= 45:
        text = " ".join(text.split())
        yield Fact(name, "meaning", text, text, (), file, _line(text, lines), "F")


def _line(text: str, lines: list[str]) -> int:
    start = text[:20]
    return next((number for number, line in enumerate(lines[:500], start=1) if start in line), 1)
