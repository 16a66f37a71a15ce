"""Which words stand together in a section of the documents."""

from __future__ import annotations

from array import array
from collections.abc import Sequence, Set
from functools import cached_property, lru_cache

from ftq.facts.checks import CJK
from ftq.facts.fact import Fact
from ftq.facts.text.signs import names

LOOKED_UP = 1_000  # words whose sections are kept as a set
Section = tuple[str, tuple[str, ...]]  # its file, its headings


def words_of(text: str) -> set[str]:
    """Words and names as they stand, in lower case."""
    return {word.strip(".-_") for word in set(names(text))}


class Sections:
    """Which words stand together: those of the facts of each section, with its headings.

    Of each word the numbers of its sections are kept, not of each section its words: these would take twenty times the
    memory where each of many sections has a fact.
    """

    def __init__(self, facts: Sequence[Fact], common: Set[str]) -> None:
        self.common = common
        self._facts = facts
        self._places: dict[str, array[int]] = {}
        stems, numbers = dict[str, str](), dict[Section, int]()
        for fact in facts:
            path = "" if (fact.file, fact.path) in numbers else " ".join(fact.path)
            number = numbers.setdefault((fact.file, fact.path), len(numbers))
            for word in words_of(f"{path} {_text(fact)}"):
                root = stems.get(word) or stems.setdefault(word, stem(word))
                self._places.setdefault(root, array("I")).append(number)
        self._of = lru_cache(LOOKED_UP)(lambda word: frozenset(self._places.get(stem(word), ())))

    def together(self, subject: str, about: Set[str], is_any: bool = False) -> bool:
        """Whether a section has the subject's words, all or any, and one of the others. True if none is heavy."""
        if CJK.search(subject):  # no gaps between words
            subject = subject.lower()
            return any(subject in text and any(word in text for word in about) for text in self._texts)
        heavy = [word for word in words_of(subject.strip("`")) if word not in self.common and len(word) > 1]
        if not heavy or not about:
            return True
        places = [self._of(word) for word in heavy]
        of_subject = frozenset.union(*places) if is_any else frozenset.intersection(*places)
        return any(of_subject & self._of(word) for word in about)

    @cached_property
    def _texts(self) -> list[str]:
        """The words of each section."""
        words: dict[Section, set[str]] = {}
        for fact in self._facts:
            words.setdefault((fact.file, fact.path), words_of(" ".join(fact.path))).update(words_of(_text(fact)))
        return list(map(" ".join, words.values()))


def _text(fact: Fact) -> str:
    """All words of a fact; of many the subject, the value and the sentence are one text."""
    return " ".join({fact.subject, fact.attribute, fact.value, fact.sentence, fact.kind})


def stem(word: str) -> str:
    """Without an English ending: words of one kind are one."""
    for end in ("ing", "ed", "es", "s"):
        if word.endswith(end) and len(word) - len(end) > 3:
            return word[: -len(end)]
    return word.removesuffix("e") if len(word) > 4 else word
