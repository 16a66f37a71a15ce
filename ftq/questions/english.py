"""English sentences turned into the questions that they answer; other languages leave this out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ftq.facts.checks import is_closed, known_words
from ftq.facts.rules.english import (
    BETWEEN,
    BREAKS,
    NOUNS,
    SAYS,
    THIRD_PERSON,
    VERBS,
    Clause,
    as_mine,
    bare,
    clause_of,
    first_clause,
    led,
)
from ftq.questions.kinds import kind_of, who_of
from ftq.questions.stated.in_place import QUESTION_WORDS, in_place
from ftq.questions.stated.measures import BOUND, EVERY, NUMBERED, RANGE, SEVERAL, UNIT, UNITS, UNTIL, YEAR

PREPOSITION = re.compile(
    r"(?P<before>.*?)\s?\b(?P<preposition>in|to|from|at|on|with|by|for|under|after|within|into|of) (?:the |a |an )?$"
)
BESIDE = re.compile(  # `in the variable x`
    r"(?P<before>.*?)\s?\b(?P<preposition>in|to|from|at|on|with|by|for|under|into) (?:the |an? )(?P<noun>[a-z]{3,20}) $"
)
OBJECT = 3  # words from the verb on before what it does something to
IMPERATIVES, STATES = known_words("imperatives"), known_words("states")
NO_ACTS = frozenset({"always", "never", "please", "remember", "ensure", "consider"})  # the act comes behind them
LITTLE = known_words("little")  # with which no thing to ask about begins or ends
ANYONE = frozenset({"everyone", "everybody", "someone", "it", "they", "this"})
LONGEST = 32  # words of a question
SUBJECT, TELLING = 5, 5  # words of a subject that is asked for at most, of what is said of it at least
# Words that begin no subject that is asked for, and words that none has.
NO_FIRST = VERBS | ANYONE | {"not", "one", "what", "which"}
NO_THING = known_words("no_thing") | {"chapter", "document", "example", "guide", "page", "section"}
ASIDE = re.compile(r"\([^()]*\)")
MINE = re.compile(r"\b(?:its|their|itself|themselves|he|she|they)\b")  # of the subject that isn't said
WHERE = frozenset({"in", "at", "under", "to", "into"})
CAN = re.compile(rf"^(?:either|{'|'.join(sorted(BETWEEN))}) ")
SUBORDINATE = re.compile(r"\b(?:if|when|that|which|whether|because|and|or|so|unless|while|to|but) ")
ANOTHER = re.compile(r"\b(?:and|but|while|which|that|who) ")  # verb may follow
OTHERS = re.compile(r", (?:you|we|i) ", re.IGNORECASE)  # whose clause is another one
FOLLOWS = known_words("follows")  # what goes on behind a noun
THINGS, NO_THINGS = re.compile(r"[a-z]{3,}s"), known_words("no_plurals")


class Asked(NamedTuple):
    question: str
    answer: str
    form: str


def questions_on(sentence: str, value: str) -> list[Asked]:
    """What the sentence answers, the most natural first: whether, which, how many. `value`: what can be asked after."""
    clause = clause_of(sentence)
    questions = list(_imperative(sentence)) if clause is None else list(_of_clause(clause, sentence, value))
    if clause is not None and value and sentence.count(value) == 1:
        questions += [Asked(asked, sentence, "in place") for asked in in_place(sentence, value)]
    return [
        Asked(question, asked.answer, asked.form) for asked in questions if _is_whole(question := _tidy(asked.question))
    ]


def order_of(sentence: str) -> str:
    """What an advice tells to do, its verb; empty for a sentence that is none."""
    asked = next(_imperative(sentence), None)
    return asked.question.split()[2] if asked and clause_of(sentence) is None else ""


def _of_clause(clause: Clause, sentence: str, value: str) -> Iterator[Asked]:
    simple = clause.short
    whole = f"{clause.auxiliary} {clause.subject} {simple}{clause.tail}"
    if value and sentence.count(value) == 1:
        yield from _after_value(clause, sentence, value)
    yield Asked(f"{whole}?", f"{'No' if clause.is_negative else 'Yes'}. {sentence}", "whether")
    if (
        clause.verb
        and not _is_state(clause)
        and len(clause.subject.split()) <= 5
        and clause.subject.lower() not in ANYONE
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


def _after_value(clause: Clause, sentence: str, value: str) -> Iterator[Asked]:
    """`How many`, `which option`, `where`: the value's place is asked for."""
    units = UNITS.search(value)
    kind = kind_of(value) or ("number" if units else "")
    verb = clause.verb or clause.auxiliary
    if value in clause.subject:
        before, after = (part.strip() for part in clause.subject.split(value, 1))
        if before.lower() in ("", "the"):
            noun, after = _noun(kind, after)
            if not kind or (kind == "duration" and after):  # `the 12 week period`
                return
            after = "" if after.startswith("and ") else after
            rest = clause.end if clause.verb else clause.rest
            yield Asked(f"{noun} {after} {verb} {rest}{clause.tail}?", sentence, "which")
        return
    if value not in clause.rest:
        return
    before, after = clause.rest.split(value, 1)
    if RANGE.search(before):
        return  # `15 to 30 minutes`
    before = BOUND.sub("", before)
    if (
        set(after) & set(",;(:")
        or set(before) & set(",:;")
        or SUBORDINATE.search(before.rpartition(" to ")[0] or before)
        or ANOTHER.search(after)
    ):
        return
    if kind == "duration" and after.startswith((" after ", " before ")):  # `expires one year after it is issued`
        said = f"{clause.auxiliary} {clause.subject} {UNTIL.sub('', before)}"
        yield Asked(f"How long{after} {said}{clause.tail}?", sentence, "which")
        return
    if kind == "duration" and (every := EVERY.fullmatch(before)):
        yield Asked(
            f"How often {clause.auxiliary} {clause.subject} {every['before']} {after}{clause.tail}?", sentence, "which"
        )
        return
    noun, after = _noun(kind, after.strip())
    if not kind and after and after.split()[0] not in FOLLOWS:
        thing, _, after = after.partition(" ")  # `Prometheus metrics`
        if not (value[0].isupper() and THINGS.fullmatch(thing) and thing not in SAYS and thing not in NO_THINGS):
            return
        noun = f"Which {thing}"
    if (
        kind == "number"
        and noun == "What"
        and (UNIT.match(after) or before.split()[-1:] != before.lower().split()[-1:])
    ):
        return  # `4000 rpm`, `Node 20`: what stands beside it belongs to the number
    is_equal = clause.auxiliary in BE and not clause.verb and not before.strip()
    if is_equal and (kind in ("size", "percent") or (kind == "number" and after.startswith("per "))):
        noun, after = "What", ""  # `the share is 80 %`, `the limit is 50 requests per second`
    noun = f"How many {units.group(1)}" if units and before.strip() else noun
    after = after.removeprefix("long").strip() if noun == "How long" else after
    if after.startswith("of ") and noun.startswith("How"):
        noun, after = f"{noun} {after}", ""  # `12 months of the birth`
    if kind == "number" and after[:1] != "/" and (counted := NUMBERED.fullmatch(before)):  # `listen on port 8080`
        asked = f"{counted['preposition'].title()} which" if counted["preposition"] else "Which"
        told = f"{clause.auxiliary} {clause.subject} {counted['before']} {after}{clause.tail}"
        yield Asked(f"{asked} {counted['noun']} {told}?", sentence, "which")
        return
    if (match := PREPOSITION.fullmatch(before)) and kind:
        before, preposition = match["before"], match["preposition"]
        if kind == "path" and preposition in WHERE:
            yield Asked(f"Where {clause.auxiliary} {clause.subject} {before} {after}{clause.tail}?", sentence, "where")
        if kind == "number" and noun == "What":
            if not YEAR.fullmatch(value):
                return  # `at 9`: of what isn't known
            noun = "Which year"
        asked = noun[0].lower() + noun[1:]
        yield Asked(
            f"{preposition.title()} {asked} {clause.auxiliary} {clause.subject} {before} {after}{clause.tail}?",
            sentence,
            "which",
        )
    elif match is None and (named := BESIDE.fullmatch(before)):
        asked = f"{named['preposition'].title()} which {named['noun']}"
        yield Asked(
            f"{asked} {clause.auxiliary} {clause.subject} {named['before']} {after}{clause.tail}?", sentence, "which"
        )
    elif match is None and (not before.strip() or clause.verb or before.strip() in VERBS):
        before = re.sub(r"\b(?:the|a|an)\s*$", "", before)
        if len(before.split()) > OBJECT:
            return  # `show the list of dates in column 2`
        yield Asked(f"{noun} {clause.auxiliary} {clause.subject} {before} {after}{clause.tail}?", sentence, "which")


def _noun(kind: str, after: str) -> tuple[str, str]:
    """What a question begins with, and what it leaves of the words after the value."""
    first, _, rest = after.partition(" ")
    if kind == "size" and first == "of":
        what, _, rest = rest.partition(" ")
        return f"How much {what}", rest
    if kind == "number" and (counted := SEVERAL.match(after)):
        return f"How many {counted[0]}", after[counted.end() :].strip()
    if first in NOUNS_OF.get(kind, ()):
        return f"Which {first}", rest
    return QUESTION_WORDS.get(kind, "What"), after


BE = frozenset({"is", "are", "was", "were", "am"})
NOUNS_OF = {
    "option": ("option", "flag"), "command": ("command",), "variable": ("variable",),
    "path": ("file", "directory", "folder"), "setting": ("setting", "option", "parameter", "key", "field"),
}  # fmt: skip


def _imperative(sentence: str) -> Iterator[Asked]:
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
    tail, answer = f" {lead[0].lower()}{lead[1:]}" if lead else "", f"{'No' if negative else 'Yes'}. {sentence}"
    act = first_clause(rest)
    yield Asked(f"Should I {verb} {act}{tail}?", answer, "should")
    if lead:
        yield Asked(f"What should I do{tail}?", sentence, "what")
        return
    yield Asked(f"{'May I' if negative else 'Do I have to'} {verb} {act}?", answer, "have to")
    thing = re.split(r",? (?:unless|if|when|because|so that|to|in|by|for|with|from|as|and)\b|[,;:(]", rest)[0]
    parts = thing.split()
    is_thing = 1 <= len(parts) <= 6 and not LITTLE & {parts[0], parts[-1]} and not parts[0][0].isdigit()
    if is_thing and verb not in NO_ACTS:
        yield Asked(f"What should I do about {thing}?", sentence, "about")


def _says(words: list[str]) -> bool:
    """Whether the first word is a verb and the second no noun that something is done to: `finds facts`, `files in`."""
    verb, after, *_ = *words, "", ""
    is_verb = verb.endswith("s") and bare(verb) in VERBS
    return is_verb and after.isalpha() and not after.endswith("ly") and after not in FOLLOWS | BREAKS | {"and", "or"}


def _is_whole(question: str) -> bool:
    """Short enough, and nothing in it is open."""
    return is_closed(question) and len(question.split()) <= LONGEST


def _tidy(text: str) -> str:
    text = " ".join(as_mine(text).split()).replace(" ?", "?").replace(" ,", ",").replace(" .", ".")
    return text[:1].upper() + text[1:]
