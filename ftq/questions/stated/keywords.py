"""The words of a sentence by which somebody looks for it."""

from __future__ import annotations

import re

from ftq.facts.checks import CJK
from ftq.facts.fact import Fact
from ftq.facts.rules.english import NOUNS, VERBS
from ftq.questions.english import order_of
from ftq.questions.kinds import lowered
from ftq.questions.wordings import Language

SIGNS = ".,:;!?()[]\"'“”„’«»—–-`*→"
SHORT, BEHIND = re.compile(r"\b(?:e\.g|i\.e|etc)\.?,?"), re.compile(r"[(\[\"].*")  # no keyword; `file(s)`


def keywords_of(fact: Fact, language: Language) -> list[str]:
    """The words that carry the sentence, without the one that is asked after; none where words have no gaps."""
    common = language.common
    rest = fact.sentence.replace(fact.attribute, " ") if fact.attribute else fact.sentence
    if "`" in rest or CJK.search(rest):
        return []
    bare = [BEHIND.sub("", word.strip(SIGNS)) for word in SHORT.sub(" ", rest).split()]
    if bare and bare[0].lower() in VERBS - NOUNS:
        bare[0] = lowered(bare[0])
    plain = [word for word in {word.lower(): word for word in reversed(bare)}.values() if len(word) > 2][::-1]
    heavy = [word for word in plain if word.lower().replace("’", "'") not in common]
    order = order_of(fact.sentence) if language.code == "en" and heavy else ""
    told = next((word for word in heavy if word.lower() == order), "")  # one looks for the thing, not for `Bring`
    return [word for word in heavy if word != told]
