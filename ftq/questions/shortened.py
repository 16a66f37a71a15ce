"""Word dropout: a question without some of its words, so that a model learns to answer what is asked in other words."""

from __future__ import annotations

import re
from collections.abc import Set
from random import Random

from ftq.facts.fact import SILENT
from ftq.questions.stated.keywords import SIGNS
from ftq.questions.write import CLOZE

WHOLE = 0.3  # of the questions stay as they are in an epoch: a model is asked in whole sentences
FEWEST = 2  # words that stay
WORD = re.compile(r"\s*(?:`[^`\n]*`|\S)+")  # with the space before it; code in backticks is one word
FENCE = "```"


def shortened(question: str, rule: str, share: float, random: Random, common: Set[str]) -> str:
    """The question without about that share of its words; as it is where too few would stay.

    A question that nothing answers keeps the words that make it one: only `common` ones go. A gap to fill stays.
    """
    if random.random() < WHOLE or FENCE in question:
        return question
    words = WORD.findall(question)
    stay = [word for word in words if random.random() >= share or not _may_go(word, rule, common)]
    return "".join(stay).strip() if len(stay) >= FEWEST else question


def _may_go(word: str, rule: str, common: Set[str]) -> bool:
    if rule == SILENT:
        return word.strip().strip(SIGNS).lower() in common
    return CLOZE not in word
