"""What a model has written, without what it made up: cheap checks in a fixed order, each with its reason."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from ftq.facts.checks import CJK, known_words, words
from ftq.facts.text.signs import asks
from ftq.questions.conflicts import asked
from worker.questions.section import Section

LEAST, MOST = 4, 25  # words of a question
ANSWER = 60  # words
GROUNDED = 0.9  # of an answer's words stand in the section
AGREES = 0.5  # of the words of the shorter of two answers that say the same
DIGITS = 25  # a longer one is no quantity
ONE_IN = 3  # rows of a document have one same answer

TEXT = re.compile(
    r"\b(?:the|this|that|given|above|following) (?:given |above |following )?"
    r"(?:text|section|document|passage|sentence|statement|paragraph|excerpt|article)\b|\bthis question\b|\[insert ",
    re.IGNORECASE,
)
WORD = re.compile(r"[^\W_]+")  # `memory_limit` is asked about as the memory limit
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
CODE = re.compile(r"`([^`]+)`")
NUMERALS = "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"  # "one" is often no number
NAMED = {word: str(value) for value, word in enumerate(NUMERALS.split("|"), start=2)}
FILLERS = (
    "a|about|after|an|and|are|been|being|but|by|can|could|did|do|does|each|for|from|get|had|happens|has|have|how|i|if|in|"
    "into|is|it|its|kind|long|made|make|many|mean|means|much|name|of|off|on|or|order|other|out|over|own|purpose|s|so|"
    "such|than|that|the|their|them|then|there|these|they|this|those|to|type|under|up|use|used|uses|using|value|values|"
    "was|way|were|what|when|where|which|who|whom|whose|why|will|with|would|you|your"
)
KEPT = {"no", "not", "none", "never", "without"}  # they turn a sentence around
EMPTY = {*known_words("pointing"), *known_words("no_subject"), *FILLERS.split("|")} - KEPT
SETTINGS = {"on", "off", "up"}  # may be a whole answer


@dataclass(frozen=True)
class Pair:
    """`is_sentence`: the answer is a sentence of the section, chosen by rule; `again` is the answer of the check."""

    question: str
    answer: str
    section: Section
    is_sentence: bool = False
    again: str | None = None


@dataclass(frozen=True)
class Dropped:
    pair: Pair
    reason: str


def sift(pairs: Iterable[Pair], known: Set[str] = frozenset(), same: int = 1) -> tuple[list[Pair], list[Dropped]]:
    """(kept, dropped). `known` holds questions that are there already; `same` rows may share an answer anywhere."""
    kept, dropped = list(pairs), list[Dropped]()
    for reason, find in _filters(known, same).items():
        falls = {id(pair) for pair in find(kept)}
        dropped += [Dropped(pair, reason) for pair in kept if id(pair) in falls]
        kept = [pair for pair in kept if id(pair) not in falls]
    return kept, dropped


def is_worth_checking(pair: Pair) -> bool:
    """Whether the pair alone passes all that costs no further question."""
    return not sift([pair])[1]


Find = Callable[[Sequence[Pair]], Iterator[Pair]]


def _filters(known: Set[str], same: int) -> dict[str, Find]:
    """The filters, in the order in which they are asked."""
    taken = {asked(question) for question in known}
    return {
        "the question doesn't end in a question mark": _each(lambda pair: not asks(pair.question)),
        "the question has under 4 or over 25 words": _each(lambda pair: not LEAST <= words(pair.question) <= MOST),
        "the question says the same words twice": _each(lambda pair: _stutters(pair.question)),
        "the question speaks of the text": _each(lambda pair: TEXT.search(pair.question) is not None),
        "the question shares no word with what it is on": _each(_strays),
        "the question is there already": lambda pairs: _repeated(pairs, taken),
        "a number isn't in the section": _each(_has_new_number),
        "a piece of code isn't in the section": _each(_has_new_code),
        "the answer has words that the section hasn't": _each(_has_new_words),
        "the answer has no word of its own or over 60": _each(lambda pair: not _is_answer(pair.answer)),
        "the question has two answers": _contradicted,
        "the answer stands in the question": _each(_gives_itself_away),
        "asked again, the model answers otherwise": _each(lambda pair: not _agrees(pair)),
        "one answer is given too often in its document": lambda pairs: _too_often(pairs, same),
    }


def _each(falls: Callable[[Pair], bool]) -> Find:
    return lambda pairs: (pair for pair in pairs if falls(pair))


def _stutters(question: str) -> bool:
    parts = WORD.findall(question.lower())
    threes = Counter(zip(parts, parts[1:], parts[2:], strict=False))
    return any(count > 1 for count in threes.values())


def _strays(pair: Pair) -> bool:
    """A question on a sentence is on that sentence, not on something else in the section."""
    place = f"{pair.answer} {' '.join(pair.section.path)}" if pair.is_sentence else _around(pair)
    return not _content(pair.question) & _content(place)


def _repeated(pairs: Sequence[Pair], taken: Set[str]) -> Iterator[Pair]:
    """Find questions with the same answer as before; with another one it is a contradiction."""
    answers: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        question = asked(pair.question)
        if question in taken or any(_alike(pair.answer, other) for other in answers[question]):
            yield pair
        else:
            answers[question].append(pair.answer)


def _has_new_number(pair: Pair) -> bool:
    return not set(_digits(f"{pair.question} {pair.answer}")) <= _content(_around(pair))


def _has_new_code(pair: Pair) -> bool:
    around = " ".join(_around(pair).split())
    return any(" ".join(span.split()) not in around for span in CODE.findall(f"{pair.question} {pair.answer}"))


def _has_new_words(pair: Pair) -> bool:
    own, there = _content(pair.answer), _content(_around(pair))
    return len(own & there) < GROUNDED * len(own)


def _is_answer(answer: str) -> bool:
    return not set(WORD.findall(answer.casefold())) <= EMPTY - SETTINGS and words(answer) <= ANSWER


def _contradicted(pairs: Sequence[Pair]) -> Iterator[Pair]:
    """All that ask the same, where their answers differ."""
    by_question: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_question[asked(pair.question)].append(pair)
    for group in by_question.values():
        if len(group) > 1:  # alike ones are gone by now
            yield from group


def _gives_itself_away(pair: Pair) -> bool:
    return f" {_flat(pair.answer)} " in f" {_flat(pair.question)} "


def _agrees(pair: Pair) -> bool:
    """Whether both answers say the same beyond the question; the longer may say more."""
    if pair.again is None:
        return True
    told = _content(pair.question)
    one, other = _content(pair.answer), _content(pair.again)
    one, other = one - told or one, other - told or other
    return bool(other) and len(one & other) >= AGREES * min(len(one), len(other))


def _too_often(pairs: Sequence[Pair], same: int) -> Iterator[Pair]:
    """A sentence that is asked for in several wordings is no habit of the model's."""
    rows = Counter(pair.section.document for pair in pairs)
    answers = Counter[tuple[str, str]]()
    for pair in pairs:
        key = pair.section.document, _flat(pair.answer)
        answers[key] += 1
        if answers[key] > max(same, rows[pair.section.document] // ONE_IN):
            yield pair


def _alike(one: str, other: str) -> bool:
    """Whether one of them says what the other says."""
    own, others = _content(one), _content(other)
    return bool(own and others) and (own <= others or others <= own)


def _flat(text: str) -> str:
    return " ".join(WORD.findall(text.lower()))


def _around(pair: Pair) -> str:
    """All that the pair may name. A sentence as it is asked about has lost its markup."""
    section, sentence = pair.section, pair.answer if pair.is_sentence else ""
    return f"{section.text}\n{' '.join(section.path)}\n{section.document}\n{sentence}"


@lru_cache(256)
def _content(text: str) -> frozenset[str]:
    """Its words but those that every text has; in Chinese and Japanese pairs of characters. Numbers by their value."""
    content = set(_digits(text))
    for word in WORD.findall(NUMBER.sub(" ", text).casefold()):
        if CJK.search(word):
            content.update(word[at : at + 2] for at in range(max(1, len(word) - 1)))
        elif word not in EMPTY:
            content.add(NAMED.get(word, word))
    return frozenset(content)


def _digits(text: str) -> list[str]:
    """The numbers by their values: `1,000.0` is 1000, `2,5` is 2.5; `1.2.3` is itself."""
    return [_value(number) for number in NUMBER.findall(text)]


def _value(text: str) -> str:
    plain = text.replace(",", "") if THOUSANDS.fullmatch(text) else text.replace(",", ".")
    if plain.count(".") > 1 or len(plain) > DIGITS:
        return plain
    value = Decimal(plain)
    return str(int(value)) if value == int(value) else str(value.normalize())
