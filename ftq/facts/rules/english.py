"""The little grammar that English needs: verbs, so that a purpose becomes a question."""

from __future__ import annotations

import re

from ftq.facts.checks import known_words

VERBS, NOUNS, DETERMINERS = known_words("verbs"), known_words("nouns"), known_words("determiners")

STRESSED, MORE_VERBS = known_words("stressed"), known_words("more_verbs")


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
    for start in ("how to ", "how do i ", "you can ", "to "):
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


def bare(verb: str) -> str:
    """`stores` is `store`, `does` is `do`, `catches` is `catch`."""
    if verb == "has":
        return "have"
    for end, bare in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("sses", "ss"), ("xes", "x"), ("oes", "o")):
        if verb.endswith(end):
            return verb[: -len(end)] + bare
    return verb[:-1]


def as_mine(text: str) -> str:
    """`create your own token` asked by the reader: `create my own token`."""
    text = re.sub(r"\byour(self)?\b", lambda match: "myself" if match.group(1) else "my", text)
    text = re.sub(r"\byou(?:['’]re| are)\b", "I'm", text)
    text = re.sub(
        r"\b(with|for|to|lets?|tells?|allows?|gives?|helps?|of|from|enables?|shows?|lead|require) you\b", r"\1 me", text
    )
    return re.sub(r"\byou\b", "I", text)


def as_serving(text: str) -> str:
    """What a description says that its subject does: `Shows the log` and `show the log` are `show the log`."""
    first, _, rest = text.partition(" ")
    verb, lowest = first.lower(), re.split(r"[.;:(,]| — | - ", rest)[0].strip()
    is_third = verb in THIRD_PERSON | MORE_VERBS and verb not in ("has", "is", "means", "needs")
    plain = bare(verb) if is_third else as_purpose(f"{first} {lowest}").partition(" ")[0]
    is_whole = (
        1 < len(lowest.split()) <= 12 and lowest.count("`") % 2 == 0 and not lowest.endswith((" a", " the", " of"))
    )
    return as_mine(f"{plain} {lowest}") if plain and is_whole else ""


def plural(text: str, subject: str) -> str:
    """`What are settings?`"""
    last = subject.rpartition(" ")[2]
    is_plural = last.endswith("s") and not last.endswith(("ss", "us", "is", "`")) and len(last) > 3
    if is_plural and last[:1].isalpha() and last[1:].islower():
        for one, many in (("What is ", "What are "), ("What does ", "What do ")):
            if text.startswith(f"{one}{subject}"):
                return many + text[len(one) :]
    return text


def lowered(text: str) -> str:
    """`Default value` is `default value` inside a sentence; `URL` and `iOS` stay."""
    return text[0].lower() + text[1:] if text[1:].islower() and not text.startswith("`") else text
