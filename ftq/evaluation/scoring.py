"""How an answer is judged, without a judge: accepted answers are compared word by word.

Words are compared without case and punctuation. A number counts apart from its unit, and a Chinese or Japanese
character counts as a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache

from ftq.evaluation.evaluation import Question, Verdict
from ftq.questions.wordings import silent

LONG = 8  # words: of a longer accepted answer not every word has to be there
MOST = 0.8  # of its words, in their order
# How models that weren't trained by ftq say that they don't know.
REFUSALS = (
    "documents don't say", "documents do not say", "I don't know", "I do not know", "I'm not sure", "I am not sure",
    "don't have information", "do not have information", "don't have enough information", "don't have access",
    "do not have access", "no information about", "not mentioned in", "cannot answer", "can't answer",
    "unable to answer", "unable to provide",
)  # fmt: skip
_CHARACTER = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"\d+(?:\.\d+)*|[{_CHARACTER}]|(?:(?![{_CHARACTER}])[^\W\d_])+")


def judge(question: Question, answer: str) -> Verdict:
    """Saying that it doesn't know is REFUSED, whatever else is said; right if nothing in the documents answers."""
    if refuses(answer):
        return Verdict.REFUSED
    return Verdict.RIGHT if is_right(answer, question.answers) else Verdict.WRONG


def refuses(answer: str) -> bool:
    """Whether the answer says that it doesn't know, in the words of training or in common English ones."""
    return holds(answer, _refusals())


def is_right(answer: str, accepted: Sequence[str]) -> bool:
    """Whether an accepted answer occurs in it as whole words; of a long one, MOST of its words in their order."""
    if holds(answer, accepted):
        return True
    long = [words for words in map(words_of, accepted) if len(words) > LONG]
    return any(_common(words_of(answer), words) >= MOST * len(words) for words in long)


def is_exact(answer: str, accepted: Sequence[str]) -> bool:
    return plain(answer) in map(plain, accepted)


def holds(text: str, answers: Sequence[str]) -> bool:
    """Whether one of the answers occurs in the text as whole words; one of signs only, like `+`, as it is."""
    words = f" {plain(text)} "
    return any(f" {plain(one)} " in words if plain(one) else one.strip() == text.strip() != "" for one in answers)


def f1(answer: str, accepted: Sequence[str]) -> float:
    """The F1 of the words in common, whatever their order, with the accepted answer that is nearest (as SQuAD has it).

    0 to 1.
    """
    said = words_of(answer)
    return max(
        (_f1(sum((Counter(said) & Counter(words)).values()), said, words) for words in map(words_of, accepted)),
        default=0.0,
    )


def rouge_l(answer: str, accepted: Sequence[str]) -> float:
    """The F1 of the longest common subsequence of words, with the accepted answer that is nearest: 0 to 1.

    Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries, with beta = 1.
    """
    said = words_of(answer)
    return max((_f1(_common(said, words), said, words) for words in map(words_of, accepted)), default=0.0)


def echoes(answer: str, question: str) -> bool:
    """Whether the answer is little more than the question again."""
    said, asked = words_of(answer), words_of(question)
    return len(asked) > 2 and _f1(_common(said, asked), said, asked) >= MOST


def plain(text: str) -> str:
    """The text's words and numbers: no case, no punctuation but a number's point, a number apart from its unit."""
    return " ".join(words_of(text))


def words_of(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _f1(common: int, said: list[str], accepted: list[str]) -> float:
    return 2 * common / (len(said) + len(accepted)) if common else 0.0


def _common(one: list[str], other: list[str]) -> int:
    """How many words the longest common subsequence has."""
    from rapidfuzz.distance import LCSseq

    return LCSseq.similarity(one, other)


@cache
def _refusals() -> tuple[str, ...]:
    return (*REFUSALS, *silent())
