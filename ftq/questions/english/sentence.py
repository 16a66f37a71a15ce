"""An English sentence taken apart: what it answers as a whole, for its subject and for a value."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ftq.facts.checks import is_closed, known_words
from ftq.facts.rules.english import (
    ANYTHING,
    BETWEEN,
    VERBS,
    Clause,
    as_mine,
    clause_of,
    first_clause,
)
from ftq.questions.english.advice import advice
from ftq.questions.english.amounts import amount_in
from ftq.questions.english.asked import Asked
from ftq.questions.english.in_place import in_place
from ftq.questions.english.value import asked_for
from ftq.questions.kinds import who_of

STATES = known_words("states")
ANYONE = frozenset({"everyone", "everybody", "someone", "it", "they", "this"})
LONGEST = 32  # words of a question
SUBJECT, TELLING = 5, 5  # words of a subject that is asked for at most, of what is said of it at least
# Words that begin no subject that is asked for, and words that none has.
NO_FIRST = VERBS | ANYONE | ANYTHING | {"not", "one", "what", "which"}
NO_THING = known_words("no_thing") | {"chapter", "document", "example", "guide", "page", "section"}
ASIDE = re.compile(r"\([^()]*\)")
MINE = re.compile(r"\b(?:its|their|itself|themselves|he|she|they)\b")  # of the subject that isn't said
CAN = re.compile(rf"^(?:either|{'|'.join(sorted(BETWEEN))}) ")


def questions_on(sentence: str, value: str) -> list[Asked]:
    """What the sentence answers, the most natural first: whether, which, how many. `value`: what can be asked after."""
    clause = clause_of(sentence)
    questions = list(advice(sentence)) if clause is None else list(_of_clause(clause, sentence, value))
    if clause is not None and value and sentence.count(value) == 1:
        questions += [Asked(asked, sentence, "in place") for asked in in_place(sentence, value)]
    tidied = [Asked(_tidy(asked.question), asked.answer, asked.form) for asked in questions]
    once = {asked.question: asked for asked in reversed(tidied) if _is_whole(asked.question)}
    return list(reversed(once.values()))


def _of_clause(clause: Clause, sentence: str, value: str) -> Iterator[Asked]:
    simple = clause.short
    whole = f"{clause.auxiliary} {clause.subject} {simple}{clause.tail}"
    yield from (Asked(question, sentence, "amount") for question in amount_in(clause))
    if value and sentence.count(value) == 1:
        yield from (Asked(asked, sentence, form) for asked, form in asked_for(clause, value))
    yield Asked(f"{whole}?", f"{'No' if clause.is_negative else 'Yes'}. {sentence}", "whether")
    if (
        clause.verb
        and not _is_state(clause)
        and len(clause.subject.split()) <= 5
        and clause.subject.lower() not in ANYONE
        and clause.subject.split()[0].lower() not in ANYTHING
    ):
        yield Asked(f"What {clause.auxiliary} {clause.subject} do{clause.tail}?", sentence, "does")
    yield from _subject(clause, sentence)
    if clause.subject == "I" and clause.auxiliary in ("can", "could") and not clause.is_negative:
        act = CAN.sub("", simple)
        yield Asked(f"How can I {act}{clause.tail}?", sentence, "how")
        yield Asked(f"Is there a way to {act}{clause.tail}?", f"Yes. {sentence}", "way")
    if clause.lead.startswith(("If ", "When ", "Once ")) and clause.subject == "I":
        yield Asked(f"What should I do{clause.tail}?", sentence, "should")


def _is_state(clause: Clause) -> bool:
    """`has a force of 200 kN`, `takes 5 minutes`: nothing that one does."""
    verb, _, rest = CAN.sub("", clause.rest).partition(" ")
    return verb in STATES or rest[:1].isdigit()


def _subject(clause: Clause, sentence: str) -> Iterator[Asked]:
    """`Who approves a trip that costs more?`, `What comes after the first shift?`: who or what does what is said."""
    if clause.is_negative or not _is_asked_for(clause):
        return
    said = f"{clause.auxiliary} {clause.short}"
    if clause.verb:
        said = f"{clause.verb} {first_clause(clause.end, is_third=True)}"
    if len(ASIDE.sub("", said).split()) >= TELLING and not MINE.search(said) and not said.startswith("is to "):
        yield Asked(f"{who_of(clause.subject)} {said}{clause.tail}?", sentence, "who")


def _is_asked_for(clause: Clause) -> bool:
    """Whether the subject is one thing or person that another word may be said for."""
    words = clause.subject.lower().split()
    is_named = clause.subject != "I" and len(words) <= SUBJECT and words[0] not in NO_FIRST
    is_one = clause.auxiliary not in ("do", "are", "were", "have")  # `What are`: how many?
    return is_named and is_one and NO_THING.isdisjoint(words)


def _is_whole(question: str) -> bool:
    """Short enough, and nothing in it is open."""
    return is_closed(question) and len(question.split()) <= LONGEST


def _tidy(text: str) -> str:
    text = " ".join(as_mine(text).split()).replace(" ?", "?").replace(" ,", ",").replace(" .", ".")
    return text[:1].upper() + text[1:]
