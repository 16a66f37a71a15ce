"""The little grammar that English needs: verbs, so that a purpose becomes a question."""

from __future__ import annotations

import re

from ftq.facts.checks import known_words

VERBS, NOUNS, DETERMINERS = known_words("verbs"), known_words("nouns"), known_words("determiners")

STRESSED = known_words("stressed")


def _gerund(verb: str) -> str:
    if verb.endswith("e") and not verb.endswith(("ee", "ye")):
        return verb[:-1] + "ing"
    doubled = re.fullmatch(r"[^aeiou]*[aeiou][bdgklmnprt]", verb) and not verb.endswith(("ok", "el"))
    return verb + (verb[-1] if doubled or verb in STRESSED else "") + "ing"


GERUNDS = {_gerund(verb): verb for verb in sorted(VERBS)}
# `The broker keeps ...`: what follows a subject, and is no noun in the plural.
THIRD_PERSON = {f"{verb}s" for verb in VERBS - NOUNS if not verb.endswith(("s", "sh", "ch", "x", "y"))} | {
    "keeps", "makes", "uses", "holds", "runs", "returns", "takes", "gets", "gives", "goes", "means", "says", "writes",
    "reads", "starts", "stops", "shows", "sends", "waits", "knows", "becomes", "works", "contains", "provides",
}  # fmt: skip
TAKES_TWO = re.compile(r"\s(?:you|we|i|they|it|he|she)\s", re.IGNORECASE)


def as_purpose(text: str, is_verb: bool = False) -> str:
    """`Submitting a run`, `Submit a run`, `How to submit a run` -> `submit a run`; else empty.

    `is_verb`: the first word is known to be a verb, for `to` stood before it.
    """
    text = text.strip().rstrip(".:")
    lowered = text.lower()
    for start in ("how to ", "how do i ", "to "):
        if lowered.startswith(start):
            text, is_verb = text[len(start) :], True
            break
    first, _, rest = text.partition(" ")
    verb = GERUNDS.get(first.lower()) or (first.lower() if first.lower() in VERBS else "")
    if not verb or not rest or len(text.split()) > 14 or (TAKES_TWO.search(f" {rest} ") and "you" not in rest):
        return ""
    if verb == first.lower() and rest.split()[0].lower() in {"is", "are", "of", "for", "and", "or", "has", "was", "in"}:
        return ""  # a noun: `Release of ...`, `Cache and ...`
    is_noun = verb == first.lower() and verb in NOUNS and not is_verb
    if is_noun and rest.split()[0].lower() not in DETERMINERS and not rest.startswith("`"):
        return ""  # `Test prompts`
    return f"{verb} {rest}"
