"""`Läufe werden 14 Tage aufbewahrt.` answers `Wie lange werden Läufe aufbewahrt?`: by the patterns of a language.

A pattern has to match a whole sentence of one clause: nothing is left over that would make it ask something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from ftq.facts.checks import POINTING, known_phrases
from ftq.facts.text.signs import ENDS
from ftq.questions.english.asked import Asked
from ftq.questions.wordings import Language

OPEN = re.compile(r"[,;:()\"„“”«»—–\n，；：（）、]")  # another clause, or an aside
SIZES = (
    r"(?:[KMGTkmgt]i?[Bb]|Bytes?|bytes|octets?|байт|字节|バイト|[КМГТ]Б|[KMGT]o|"
    r"%|‰|€|\$|Euro|euros?|USD|kg|km|cm|mm|GHz|MHz)"
)
NUMBER = r"\d[\d.,]*"
MACROS = {
    "%T": r"(?: [^\s`]+)",  # a word
    "%Z": rf"(?P<f>[~≈]?{NUMBER}\s?{SIZES})",
    "%P": r"(?P<f>`[^`]*[/.~\\][^`]*`)",  # a path
}
DEFAULTS = known_phrases("defaults")  # of what isn't said
CODE = r"`[^`]{1,60}`"


class _Pattern(NamedTuple):
    sentence: re.Pattern[str]
    question: str


def stated_in(sentence: str, language: Language) -> list[Asked]:
    """What the sentence answers; empty where it states neither figure nor place, or says more than that."""
    if "stated" not in language.table or not ("`" in sentence or any(map(str.isdigit, sentence))):
        return []
    text = sentence.rstrip(ENDS).replace(" — ", " = ", language.code == "ru")  # `Срок — 7 дней.`
    if OPEN.search(text) or sentence[-1] not in ENDS:
        return []
    return list(_asked(text, sentence, language))


def _asked(text: str, sentence: str, language: Language) -> Iterator[Asked]:
    for number, pattern in enumerate(_patterns(language.code)):
        match = pattern.sentence.fullmatch(text)
        if match is None:
            continue
        parts = {name: part or "" for name, part in match.groupdict().items()}
        subject, lead = parts.get("s", ""), parts.get("l", "")
        if _bare(subject, language) in DEFAULTS or _points(
            f"{subject} {lead} {parts.get('a', '')} {parts.get('b', '')}", language
        ):
            continue
        told = {"s": _inside(subject, language), "l": lead[:1].lower() + lead[1:]}
        question = pattern.question.format(**{**parts, **told})
        yield Asked(question[0].upper() + question[1:], sentence, f"stated {number}")


def _bare(subject: str, language: Language) -> str:
    first, _, rest = subject.lower().partition(" ")
    return rest if first in language.word("articles").split() else subject.lower()


def _points(text: str, language: Language) -> bool:
    """Whether it points at something that was said before; articles don't."""
    return not POINTING.isdisjoint(_bare(text.strip().replace("’", "'"), language).split())


@cache
def _patterns(code: str) -> list[_Pattern]:
    from ftq.questions.wordings import language

    own = language(code)
    duration = rf"(?P<f>(?:{own.word('about')} )?{NUMBER}\s?(?:{own.word('durations')}))"
    macros = {
        **MACROS,
        "%S": rf"(?P<s>{own.word('stated_subject')})",
        "%D": duration,
        "%F": rf"(?P<f>{NUMBER}(?:\s?(?:{own.word('durations')}|{SIZES}))?|{CODE})",
        "%V": f"(?P<v>{own.word('stated_verbs')})",
    }
    patterns = []
    for source, question in own.table["stated"]:
        for macro, text in macros.items():
            source = source.replace(macro, text)
        patterns.append(_Pattern(re.compile(source), question))
    return patterns


def _inside(subject: str, language: Language) -> str:
    """The subject as it stands inside a sentence: `Die Frist` is `die Frist`; names stay."""
    first = subject.partition(" ")[0]
    begins = first.lower() in language.word("articles").split() or first[1:2] in ("'", "’")
    is_word = language.code == "pl" or (language.code == "ru" and not first.isascii())  # no articles
    return subject[:1].lower() + subject[1:] if begins or (is_word and first.istitle()) else subject
