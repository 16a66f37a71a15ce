"""The words of a sentence by which somebody looks for it."""

from __future__ import annotations

import re

from ftq.facts.checks import CJK
from ftq.facts.fact import Fact
from ftq.facts.rules.english import ORDERS
from ftq.questions.english.advice import order_of
from ftq.questions.kinds import lowered
from ftq.questions.wordings import Language

SIGNS = ".,:;!?()[]\"'“”„’«»—–-`*→"
SHORT, BEHIND = re.compile(r"\b(?:e\.g|i\.e|etc)\.?,?"), re.compile(r"[(\[\"].*")  # no keyword; `file(s)`


def keywords_of(fact: Fact, language: Language) -> list[str]:
    """The words that carry the sentence, without the one that is asked after; none where words have no gaps."""
    common = language.common
    rest = fact.sentence.replace(fact.attribute, " ") if fact.attribute else fact.sentence
    if "`" in rest or (not rest.isascii() and CJK.search(rest)):
        return []
    rest = SHORT.sub(" ", rest) if any(map(rest.__contains__, ("e.g", "i.e", "etc"))) else rest
    bare = [word.strip(SIGNS) for word in rest.split()]
    if any(map(rest.__contains__, '()[]"')):
        bare = [word for word in (BEHIND.sub("", word) for word in bare) if not any(map(word.__contains__, "()[]"))]
    if bare and bare[0].lower() in ORDERS:
        bare[0] = lowered(bare[0])
    once = dict[str, str]()
    for word in bare:
        if len(word) > 2:
            once.setdefault(word.lower(), word)
    heavy = [word for word in once.values() if word.lower().replace("’", "'") not in common]
    order = order_of(fact.sentence) if language.code == "en" and heavy else ""
    told = next((word for word in heavy if word.lower() == order), "")  # one looks for the thing, not for `Bring`
    return [word for word in heavy if word != told]
