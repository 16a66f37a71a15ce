"""How an answer is judged, without a judge: accepted answers are compared word by word.

Words are compared without case and punctuation. A number counts apart from its unit, and a Chinese or Japanese
character counts as a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from math import comb

from ftq.evaluation.evaluation import Question, Verdict
from ftq.questions.wordings import silent

LONG = 8  # words: of a longer accepted answer not every word has to be there
MOST = 0.8  # of its words, in their order
FEWEST_WORDS = 3  # of a sentence behind yes or no that says it alone
CHANCE = 0.05  # what comes of chance alone as often as this, or more often, shows nothing
# How models that weren't trained by ftq say in English that they don't know: of themselves, anywhere in the answer; or
# of the matter, as the whole first sentence. Case and punctuation are gone by then: "isn't" is "isn t".
_DOCUMENTS = (
    r"(?:(?:the|this|that|these|those|your|any|given|provided|above|available) )*"
    r"(?:documents?|documentation|texts?|context|manuals?|passages?|excerpts?|articles?|sources?|information)"
    r"(?: provided| given)?"
)
_IN_THEM = rf"(?: (?:in|by|from|within|anywhere in) {_DOCUMENTS}| here)"
_HEDGE = (
    r"(?:(?:i m|i am) sorry(?: but)? |sorry(?: but)? |unfortunately "
    rf"|(?:based on|according to|from) {_DOCUMENTS} )*"
)
_CONDITIONS = "if|when|while|where|unless|because|since|once|whether|that|which|who|whose"
_MATTER = rf"(?:(?!(?:{_CONDITIONS})\b)\w+ ){{1,12}}?"
_IS = r"(?:is|are|was|were|remains?) (?:\w+ly |still )?"
_ISNT = r"(?:(?:is|are|was|were|has|have)(?: been)? (?:\w+ly |yet |still )?not|(?:isn|aren|wasn|weren|hasn|haven) t) "
_DONT = r"(?:do not|don t|does not|doesn t|did not|didn t) "
_CANT = r"(?:cannot|can not|can t|could not|couldn t) "
_ANSWER = r"(?:any |further |enough |specific |such )*(?:information|mention|answer|details?|indication)"
_ON = r"(?: (?:about|on|of|for|regarding|in|as to|that)\b.*)?"
_SELF = re.compile("|".join((
    r"\bdocuments (?:don t|do not) say\b",
    rf"\bi (?:really |simply |just )?{_DONT}know\b",
    r"\b(?:i m|i am) not (?:sure|certain|aware)\b",
    rf"\b(?:i|we) {_DONT}(?:have|find|see) (?:any )?(?:access|mention|(?:enough |specific )?information)\b",
    rf"\b(?:i|we) {_CANT}(?:answer|find|determine|tell|say)\b",
    r"\b(?:i|we) (?:am|m|are|re|was|were) (?:unable|not able) to\b",
    r"\b(?:i|we) have no (?:idea|information|knowledge)\b",
)))  # fmt: skip
_OF_THE_MATTER = re.compile("|".join(_HEDGE + form for form in (
    rf"{_MATTER}{_IS}(?:unknown|unclear|unspecified|undisclosed|undocumented){_IN_THEM}?",
    rf"{_MATTER}{_ISNT}(?:\w+ly |been |yet )*(?:known|specified|stated|mentioned|disclosed|documented|said){_IN_THEM}?",
    rf"{_MATTER}{_ISNT}(?:\w+ly )*(?:given|provided|available|included|found|listed|described|covered){_IN_THEM}",
    rf"{_DOCUMENTS} {_DONT}(?:\w+ly )?(?:say|mention|specify|state|tell|contain|provide|include|give|answer|cover)\b.*",
    rf"(?:there (?:is|are|was|s)|it has) (?:no|not) {_ANSWER}{_ON}",
    rf"no {_ANSWER}{_ON}",
    r"it (?:is|isn t|is not) (?:not |im)?possible to (?:say|tell|determine|know|answer)\b.*",
    r"(?:nobody|no one) knows\b.*",
    rf"(?:unknown|not (?:known|specified|stated|mentioned|documented|provided|given|available)){_IN_THEM}?",
)))  # fmt: skip
# Questions that yes or no answers, unless they ask for more: `Can you tell me which port?`
_WHETHER = re.compile(
    r"(?:^|[,;:.] )\s*(?:am|is|are|was|were|do|does|did|has|have|had|can|could|may|might|must|shall|should|will|would)"
    r"(?:n['’]t)?\b(?!-)|\bwhether\b",
    re.IGNORECASE,
)
_MORE = re.compile(
    r"\b(?:what|which|who|whom|whose|where|why|how|(?:tell|say|know|show)(?: \w+)? when)\b", re.IGNORECASE
)
_SIDE = re.compile(
    r"\W*(?:(yes)\b|(no)\b(?=\W*$|[.,;:!]|\s*[–—]|\s+(?:it|they|you|i|we|he|she|there|that|this)\b))", re.IGNORECASE
)
_NEGATIONS = frozenset({"not", "no", "never", "t", "cannot", "nobody", "nothing", "none"})  # `doesn t`
# Says nothing by itself after yes or no.
_LITTLE = re.compile(
    r"it|they|he|she|there|that|this|you|i|we|the|a|an|to|be|of|course|can|may|will|won"
    r"|(?:do|does|did|is|are|was|were|has|have|had|could|must|should|would)n?"
)
# Questions with one answer; not those that ask for several things, for steps or for one among them.
_ONE = re.compile(
    r"\W*(?:what|which|who|where|when|how (?:much|many|long|often|old|far|high|heavy|large))\b", re.IGNORECASE
)
_SEVERAL = re.compile(
    r"\b(?:are|were|do|did|have|list|name|all|any|some|each|every|or|two|three|steps?|first|second|next|last|before|after"
    r"|examples?|kinds?|options?|alternatives?|can|could|may|might)\b",
    re.IGNORECASE,
)
_LEAD = re.compile(r"^(?:(?:it|this|that) (?:is|was)(?: called)? |it['’]s )?(?:(?:an?|the) )?", re.IGNORECASE)
_NUMBER = re.compile(r"(?:^|\s)(\d{1,2})[.)]\s")
_EITHER = re.compile(r"(\d[\d.,]*)(?: ?([^\W\d]+))? or (\d[\d.,]*)(?: ?([^\W\d]+))?")
_CHAIN = re.compile(r",\s(?:or\s)?|\sor\s")
SHORT_ITEM = 3  # words of an alternative, at most
_SENTENCE_ENDS = re.compile(r"[.!?:](?:\s|$)|\n")
_CHARACTER = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"\d+(?:\.\d+)*|[{_CHARACTER}]|(?:(?![{_CHARACTER}])[^\W\d_])+")


def judge(question: Question, answer: str) -> Verdict:
    """Saying that it doesn't know is REFUSED, whatever else is said; right if nothing in the documents answers.

    Saying of the matter that it is unknown may be what the documents say: then it is right.
    """
    if _says_so(answer):
        return Verdict.REFUSED
    if any(_answers(question.text, answer, one) for one in question.answers):
        return Verdict.WRONG if _leaves_open(question, answer) else Verdict.RIGHT
    return Verdict.REFUSED if refuses(answer) else Verdict.WRONG


def refuses(answer: str) -> bool:
    """Whether the answer says that it doesn't know, in the words of training or in common English ones."""
    first = next(filter(None, map(plain, _SENTENCE_ENDS.split(answer))), "")
    return _says_so(answer) or _OF_THE_MATTER.fullmatch(first) is not None


def is_right(answer: str, accepted: Sequence[str]) -> bool:
    """Whether an accepted answer occurs in it as whole words; of a long one, MOST of its words in their order."""
    return holds(answer, accepted) or any(_has_most(answer, one) for one in accepted)


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


def is_chance(one: int, other: int) -> bool:
    """Whether two equal models may well differ so: each number counts the questions that only that one got right.

    The two-sided sign test, McNemar's in its exact form (McNemar 1947, Psychometrika 12): 6 to 0 isn't chance, 8 to 1,
    10 to 2.
    """
    pairs = one + other
    tail: float = sum(comb(pairs, number) for number in range(min(one, other) + 1)) / 2**pairs
    return 2 * tail >= CHANCE


def plain(text: str) -> str:
    """The text's words and numbers: no case, no punctuation but a number's point, a number apart from its unit."""
    return " ".join(words_of(text))


def words_of(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _answers(question: str, answer: str, accepted: str) -> bool:
    """Whether the answer is right by this accepted one; where that says yes or no first, an answer may do with that.

    It may also be the sentence behind it alone. One that says the other of the two is wrong, whatever follows.
    """
    side, said = _SIDE.match(accepted), _SIDE.match(answer)
    if side is None or not _WHETHER.search(question) or _MORE.search(question):
        return is_right(answer, [accepted])
    if said and said.lastindex != side.lastindex:
        return False
    sentence, rest = accepted[side.end() :], answer[said.end() if said else 0 :]
    if said and _adds_nothing(words_of(rest), question, sentence, is_no=side.lastindex == 2):
        return True
    if len(words_of(sentence)) < FEWEST_WORDS:
        return is_right(answer, [accepted])
    denies_alike = _NEGATIONS.isdisjoint(words_of(sentence)) == _NEGATIONS.isdisjoint(words_of(rest))
    if said and holds(rest, [sentence]):
        return True
    return denies_alike and (holds(rest, [sentence]) or any(_has_most(answer, one) for one in (accepted, sentence)))


def _leaves_open(question: Question, answer: str) -> bool:
    """Whether the answer lists alternatives, one of them accepted and another not, to a question with one answer.

    Only where that is plain: one of them is the accepted answer and nothing else, and all are short. A list of steps or
    of examples isn't one of alternatives, nor are two names of one thing.
    """
    if not _ONE.match(question.text) or _SEVERAL.search(question.text):
        return False
    items = [plain(_LEAD.sub("", one.strip(), count=1)) for one in _numbered(answer) or _chained(answer)]
    accepted = {plain(_LEAD.sub("", one.strip(), count=1)) for one in question.answers}
    if len(items) < 2 or accepted.isdisjoint(items) or max(len(one.split()) for one in items) > SHORT_ITEM:
        return False
    return any(not holds(one, question.answers) for one in items)


def _numbered(answer: str) -> list[str]:
    """The items of `1. Water. 2. Ice.`, where the answer is nothing but such a list; else none."""
    before, *parts = _NUMBER.split(answer.strip())
    in_order = [*map(int, parts[::2])] == list(range(1, len(parts) // 2 + 1))
    return parts[1::2] if in_order and not before.strip() else []


def _chained(answer: str) -> list[str]:
    """The items of `12 or 14 kg` or `Water, ice or steam.`, where the answer is one such sentence; else none.

    Two words may be two names of one thing, and two numbers with a unit each the same measure.
    """
    sentence = answer.strip().rstrip(".!")
    if pair := _EITHER.fullmatch(_LEAD.sub("", sentence, count=1)):
        one, same, other, unit = pair.groups("")
        return [f"{one} {unit}", f"{other} {unit}"] if same in ("", unit) else []
    chain = _CHAIN.split(sentence)
    return chain if len(chain) > 2 and re.search(r"\bor\b", sentence) else []


def _adds_nothing(rest: Sequence[str], question: str, sentence: str, is_no: bool) -> bool:
    """Whether what follows yes or no has only words of the question and of the accepted answer, and denies as that."""
    accepted = {*words_of(sentence)}
    known = accepted | {*words_of(question)} - _NEGATIONS | (_NEGATIONS if is_no else frozenset())
    is_same = not rest or accepted.isdisjoint(_NEGATIONS) or not _NEGATIONS.isdisjoint(rest)
    return is_same and all(word in known or _LITTLE.fullmatch(word) for word in rest)


def _has_most(answer: str, accepted: str) -> bool:
    """Whether the answer has MOST of the words of a long accepted one, in their order."""
    words = words_of(accepted)
    return len(words) > LONG and _common(words_of(answer), words) >= MOST * len(words)


def _f1(common: int, said: list[str], accepted: list[str]) -> float:
    return 2 * common / (len(said) + len(accepted)) if common else 0.0


def _common(one: list[str], other: list[str]) -> int:
    """How many words the longest common subsequence has."""
    from rapidfuzz.distance import LCSseq

    return LCSseq.similarity(one, other)


def _says_so(answer: str) -> bool:
    return holds(answer, silent()) or _SELF.search(plain(answer)) is not None
