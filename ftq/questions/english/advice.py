"""English advice, and the questions whether and when to follow it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ftq.facts.checks import known_words
from ftq.facts.rules.english import BREAKS, NOUNS, THIRD_PERSON, VERBS, bare, clause_of, describes, first_clause, led
from ftq.questions.english.asked import Asked
from ftq.questions.english.value import FOLLOWS

IMPERATIVES = known_words("imperatives")
NO_ACTS = frozenset({"always", "never", "please", "remember", "ensure", "consider"})  # the act comes behind them
LITTLE = known_words("little")  # with which no thing to ask about begins or ends
OTHERS = re.compile(r", (?:you|we|i) ", re.IGNORECASE)  # whose clause is another one


def order_of(sentence: str) -> str:
    """What an advice tells to do, its verb; empty for a sentence that is none."""
    asked = next(advice(sentence), None)
    return asked.question.split()[2] if asked and clause_of(sentence) is None else ""


def advice(sentence: str) -> Iterator[Asked]:
    """`Avoid jargon.` answers `Should I avoid jargon?`"""
    lead, text = led(sentence)
    first, _, rest = text.partition(" ")
    verb, negative = first.lower().replace("’", "'"), False
    if verb in ("don't", "never") or text.lower().startswith("do not "):
        rest = rest.removeprefix("not ")
        verb, _, rest = rest.partition(" ")
        negative = True
    if not rest or not (verb in IMPERATIVES or verb in VERBS) or not verb.islower() or OTHERS.search(rest):
        return
    following = rest.split()[0].lower()
    if following in ("it", "them", "this", "these", "those", "that", "so") and not lead:
        return
    if following in THIRD_PERSON or _says(rest.split()):
        return  # `Prepare finds facts`
    if verb in NOUNS and not negative and following in ("is", "are", "of", "for", "and", "or", "has", "in", "can"):
        return
    if describes(verb, rest):
        return
    tail, answer = f" {lead[0].lower()}{lead[1:]}" if lead else "", f"{'No' if negative else 'Yes'}. {sentence}"
    act = first_clause(rest)
    yield Asked(f"Should I {verb} {act}{tail}?", answer, "should")
    if lead:
        yield Asked(f"What should I do{tail}?", sentence, "what")
        return
    yield Asked(f"{'May I' if negative else 'Do I have to'} {verb} {act}?", answer, "have to")
    thing = re.split(r",? (?:unless|if|when|because|so that|to|in|by|for|with|from|as|and)\b|[,;:(]", rest)[0]
    parts = thing.split()
    is_thing = 1 <= len(parts) <= 6 and not LITTLE & {parts[0], parts[-1]} and not parts[0].lstrip("+(")[:1].isdigit()
    if is_thing and verb not in NO_ACTS:
        yield Asked(f"What should I do about {thing}?", sentence, "about")


def _says(words: list[str]) -> bool:
    """Whether the first word is a verb and the second no noun that something is done to: `finds facts`, `files in`."""
    verb, after, *_ = *words, "", ""
    is_verb = verb.endswith("s") and bare(verb) in VERBS
    return is_verb and after.isalpha() and not after.endswith("ly") and after not in FOLLOWS | BREAKS | {"and", "or"}
