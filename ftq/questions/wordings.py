"""The templates of a language, and which language a text is in."""

from __future__ import annotations

import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from ftq.facts.fact import Fact
from ftq.facts.text.signs import letters

NEUTRAL = "*"
SAMPLE, SAMPLE_OF_FILE = 200_000, 10_000  # characters that tell a language
FIRST, FEWEST = 5000, 12  # facts that tell that of all files; words that tell that of one
CERTAIN = 0.04  # of the words, by weight, are a language's commonest ones
ENOUGH, CLEARLY = 0.5, 1.2  # weight in all, and times the second language's
LETTER, SINGLE = 0.5, 0.5  # what a letter and a word of one letter weigh
PLAINLY, NAMES = 2, 200  # words that tell a short text's language; names of a file that are looked at
FOREIGN = 0.003  # of the letters
QUOTED = re.compile(r"(`[^`]*`|\"[^\"]*\"|“[^”]*”|„[^“]*“|«[^»]*»)")
WORD = re.compile(r"(?<![\w./$_-])[^\W\d_]+(?![\w/_-]|\.\w)")
CYRILLIC = re.compile(r"[\u0400-\u04ff]")
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

    def own(self, relation: str, form: str) -> list[str]:
        """The language's own only."""
        return list(self.table.get(relation, {}).get(form, []))

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
    def lacking(self) -> list[tuple[str, frozenset[str]]]:
        """What may be unsaid of a subject, and the words of sentences that would say it."""
        return [(question, frozenset(words.split())) for question, words in self.table.get("lacking", [])]

    @property
    def common(self) -> frozenset[str]:
        """Words that carry no meaning of their own."""
        return _common(self.code)

    def reworded(self, text: str, turn: int, names: Iterable[str] = ()) -> str:
        """The question with one of its words exchanged for one that people say instead; code, quotes and names stay."""
        others = _synonyms(self.code)
        if others.keys().isdisjoint(letters(text)):  # most questions; looking for places is slow
            return text
        words = [match for match in WORD.finditer(text) if (word := match[0])[1:].islower() and word.lower() in others]
        if not words:
            return text
        kept = [span for name in names for span in _spans(name, text)]
        kept += [match.span() for match in QUOTED.finditer(text)]
        places = [match for match in words if not any(start <= match.start() < end for start, end in kept)]
        if not places:
            return text
        match = places[turn % len(places)]
        other = others[match.group().lower()]
        if match.group()[0].isupper():
            other = other[0].upper() + other[1:]
        return text[: match.start()] + other + text[match.end() :]

    @property
    def adjectives(self) -> frozenset[str]:
        return _words(self.code, "adjectives")

    @property
    def nouns(self) -> frozenset[str]:
        return _words(self.code, "nouns")


def _spans(name: str, text: str) -> Iterator[tuple[int, int]]:
    """Where the text has the name."""
    start = text.find(name) if name else -1
    while start >= 0:
        yield start, start + len(name)
        start = text.find(name, start + len(name))


@dataclass(frozen=True)
class Spoken:
    """The language of the documents together, and those of files that are clearly in another one."""

    most: Language
    files: Mapping[str, Language]

    def of(self, file: str) -> Language:
        return self.files.get(file, self.most)


def spoken_in(facts: Iterable[Fact], code: str = "", usual: str = NEUTRAL) -> Spoken:
    """Each file is asked in its own language. `code`: the language is known, of all; `usual`: where none stands out."""
    texts: dict[str, list[str]] = defaultdict(list)
    names: dict[str, set[str]] = defaultdict(set)
    sizes = Counter[str]()
    whole: list[str] = []
    for number, fact in enumerate(facts):
        text = f"{fact.sentence} {fact.value}"
        if number < FIRST:
            whole.append(text)
        if sizes[fact.file] < SAMPLE_OF_FILE:
            sizes[fact.file] += len(text)
            texts[fact.file].append(text)
        if len(names[fact.file]) < NAMES:
            is_word = " " not in fact.subject or fact.relation == "answer"  # no name, as `Pizza con funghi`
            said = fact.subject if is_word else ""
            names[fact.file].update((*fact.path, fact.kind, fact.caption, fact.attribute, said))
    most = code or language_of(" ".join(whole))
    if most == NEUTRAL:
        most = _of_most(texts, usual)
    others = {} if code else {file: _own(" ".join(some), " ".join(names[file]), most) for file, some in texts.items()}
    return Spoken(language(most), {file: language(own) for file, own in others.items() if own != most})


def _of_most(texts: Mapping[str, list[str]], usual: str) -> str:
    """The language of most files, where those of two are as many: the usual one if it isn't that of a third of them."""
    counted = Counter(language_of(" ".join(some)) for some in texts.values())
    del counted[NEUTRAL]
    best, count = max(counted.items(), key=lambda pair: (pair[1], pair[0] == "en", pair[0]), default=(usual, 0))
    return best if 3 * count >= len(texts) else usual


def _own(text: str, names: str, most: str) -> str:
    """A short text may be in any language, and so may a table's values: `names`, of columns and things, tell more.

    One that none stands out of is in that of the others, if that has its script.
    """
    own = language_of(text)
    if own == most or (own != NEUTRAL and len(set(letters(text))) >= FEWEST):
        return own
    plain = _plainly({*letters(names if own == NEUTRAL else f"{names} {text}")}, most)
    if plain != NEUTRAL and own in (NEUTRAL, plain):
        return plain
    if own != NEUTRAL:  # `City | Street` above names in German is English
        theirs = _telling(most) - _telling(own)
        return own if not text.isascii() and theirs.isdisjoint(letters(names)) else most
    return most if is_latin(f"{text} {names}") is (most not in ("ru", "zh", "ja")) else NEUTRAL


def _plainly(words: set[str], most: str) -> str:
    """The language of some words where it isn't `most`: two are of that one alone, a third as many of `most` alone.

    `*` if none is that.
    """
    known = _telling(most)
    counts = Counter({code: len(words & _telling(code) - known) for code in _evidence().letters if code != most})
    (best, count), (_, second) = counts.most_common(2)
    theirs = len(words & (known - _telling(best)))
    return best if most != NEUTRAL and count >= max(PLAINLY, 3 * theirs) and count > second else NEUTRAL


def is_latin(text: str) -> bool:
    """Whether more than half of the letters are those of ASCII."""
    if text.isascii():
        return any(map(str.isalpha, text))
    latin = sum(sign.isascii() and sign.isalpha() for sign in text)
    return 2 * latin > sum(map(str.isalpha, text))


@cache
def language(code: str) -> Language:
    """An unknown code gives the neutral column."""
    tables = _tables()
    return Language(code if code in tables else NEUTRAL, tables.get(code, tables[NEUTRAL]), tables[NEUTRAL])


@cache
def silent() -> tuple[str, ...]:
    """How each language says that the documents don't answer."""
    return tuple(str(table["silent"]) for table in _tables().values())


@cache
def _tables() -> dict[str, dict[str, Any]]:
    return tomllib.loads(files("ftq.questions").joinpath("wordings.toml").read_text(encoding="utf-8"))


def language_of(text: str) -> str:
    """The language by its script and its commonest words; `*` if none stands out."""
    text = text[:SAMPLE]
    if not text.isascii() and (script := _script_of(text)):
        return script
    words = letters(text)
    marks, tables = set(text.lower()), _evidence()
    scores = {code: 0.0 for code in tables.letters}
    for word in words:
        for code, weight in tables.words.get(word, ()):
            scores[code] += weight
    for code, own in tables.letters.items():
        scores[code] += LETTER * len(marks & own)
    best, second = sorted(scores, key=lambda code: (-scores[code], code != "en"))[:2]
    is_clear = scores[best] >= CLEARLY * scores[second] or (best == "en" and text.isascii())
    return best if is_clear and scores[best] >= max(ENOUGH, CERTAIN * len(words)) else NEUTRAL


def _script_of(text: str) -> str:
    """The language that its script tells, `*` where the script is that of none; empty where it leaves it open."""
    size = sum(map(str.isalpha, text)) or 1
    if len(KANA.findall(text)) > size * 0.05:
        return "ja"
    if len(HAN.findall(text)) > size * 0.2:
        return "zh"
    if sum(map(language(NEUTRAL).word("letters").__contains__, text.lower())) > size * FOREIGN:
        return NEUTRAL
    return "ru" if len(CYRILLIC.findall(text)) > size * 0.5 else ""


class _Evidence(NamedTuple):
    """The commonest words with what each weighs for which languages; the letters that are a language's own."""

    words: dict[str, list[tuple[str, float]]]
    letters: dict[str, frozenset[str]]


@cache
def _evidence() -> _Evidence:
    """A word of several languages weighs less."""
    tables = {code: table for code, table in _tables().items() if "words" in table}
    owners: dict[str, list[str]] = defaultdict(list)
    for code, table in tables.items():
        for word in set(table["words"].split()):
            owners[word].append(code)
    weighed = {
        word: [(code, (1 if len(word) > 1 else SINGLE) / len(codes)) for code in codes]
        for word, codes in owners.items()
    }
    return _Evidence(weighed, {code: frozenset(table.get("letters", "")) for code, table in tables.items()})


@cache
def _telling(code: str) -> frozenset[str]:
    """Words that only one language has: its commonest, and those of headings and headers."""
    table = _tables().get(code, {})
    return frozenset(word for word in f"{table.get('words', '')} {table.get('heads', '')}".split() if len(word) > 1)


def telling() -> dict[str, frozenset[str]]:
    """Of each language the words that tell it."""
    return {code: _telling(code) for code in _evidence().letters}


@cache
def _common(code: str) -> frozenset[str]:
    table = _tables().get(code, {})
    return frozenset(f"{table.get('words', '')} {table.get('light', '')}".split())


@cache
def _words(code: str, name: str) -> frozenset[str]:
    return frozenset(language(code).word(name).split())


@cache
def _synonyms(code: str) -> dict[str, str]:
    pairs = str(_tables().get(code, {}).get("synonyms", "")).replace("\n", "").split("|")
    return {word: other for word, _, other in (pair.partition(":") for pair in pairs) if other}
