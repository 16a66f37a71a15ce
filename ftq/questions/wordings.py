"""The templates of a language, and which language a text is in."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

NEUTRAL = "*"
SAMPLE = 200_000  # characters that tell a language
CERTAIN = 0.06  # of the words are a language's commonest ones
KANA, HAN = re.compile(r"[\u3040-\u30ff]"), re.compile(r"[\u4e00-\u9fff]")


@dataclass(frozen=True)
class Language:
    code: str
    table: dict[str, Any]
    neutral: dict[str, Any]

    def templates(self, relation: str, form: str) -> list[str]:
        """The language's own; the neutral ones where it has none."""
        own = self.table.get(relation, {}).get(form)
        return list(own or self.neutral.get(relation, {}).get(form, []))

    def has(self, relation: str) -> bool:
        return relation in self.table

    def word(self, name: str) -> str:
        return str(self.table.get(name) or self.neutral.get(name) or "")

    @property
    def topics(self) -> list[str]:
        return list(self.table.get("topic") or self.neutral["topic"])

    @property
    def stock(self) -> list[tuple[str, frozenset[str]]]:
        """Questions that many documents don't answer, and the words of those that do."""
        return [(question, frozenset(words.split())) for question, words in self.table.get("stock", [])]

    @property
    def things(self) -> list[str]:
        """Names that many documents don't speak of."""
        return str(self.neutral["things"]).split()

    @property
    def without(self) -> list[str]:
        """How one asks about such a thing."""
        return list(self.table.get("without") or self.neutral["without"])

    @property
    def nouns(self) -> frozenset[str]:
        return frozenset(self.word("nouns").split())


@cache
def language(code: str) -> Language:
    """An unknown code gives the neutral column."""
    tables = _tables()
    return Language(code if code in tables else NEUTRAL, tables.get(code, tables[NEUTRAL]), tables[NEUTRAL])


@cache
def _tables() -> dict[str, dict[str, Any]]:
    return tomllib.loads(files("ftq.questions").joinpath("wordings.toml").read_text(encoding="utf-8"))


def language_of(text: str) -> str:
    """The language by its script and its commonest words; `*` if none stands out."""
    text = text[:SAMPLE]
    letters = sum(map(str.isalpha, text)) or 1
    if len(KANA.findall(text)) > letters * 0.05:
        return "ja"
    if len(HAN.findall(text)) > letters * 0.2:
        return "zh"
    words = re.findall(r"[^\W\d_]+", text.lower())
    counts = {code: sum(map(common.__contains__, words)) for code, common in _common().items()}
    best = max(counts, key=lambda code: counts[code])
    return best if words and counts[best] >= CERTAIN * len(words) else NEUTRAL


@cache
def _common() -> dict[str, frozenset[str]]:
    return {code: frozenset(table["words"].split()) for code, table in _tables().items() if "words" in table}
