"""English sentences turned into the questions that they answer; other languages leave this out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ftq.facts.checks import known_words
from ftq.facts.rules.english import MORE_VERBS, NOUNS, THIRD_PERSON, VERBS, as_mine, bare
from ftq.questions.kinds import kind_of

AUXILIARIES = known_words("auxiliaries")
NEGATIVE = re.compile(r"(?P<auxiliary>is|are|was|were|ca|could|must|should|wo|would|do|does)n['’]t|(?P<can>can)not")
BREAKS = known_words("breaks")
BETWEEN = known_words("between")
ARTICLES = known_words("articles")
LEADING = re.compile(r"(?P<lead>[A-Z][^,;:()]{2,80}), (?P<main>(?:[a-z`]|[A-Z]).+)")
CONDITIONS = known_words("conditions")
NO_LEAD = re.compile(
    r"(?:For (?:example|instance)|In (?:addition|other words|fact|that|this|short|general)|If (?:so|not))\b"
)
PREPOSITION = re.compile(
    r"(?P<before>.*?)\s?\b(?P<preposition>in|to|from|at|on|with|by|for|under|after|within|into|of) (?:the |a |an )?$"
)
CODE = re.compile(r"`[^`]*`")
IMPERATIVES = known_words("imperatives")
DEEPEST = 9  # words before the verb at most
WHERE = frozenset({"in", "at", "under", "to", "into"})
NOT_SOON = re.compile(r"(?:\w+ )?(?:not|never) ")
SUBORDINATE = re.compile(r"\b(?:if|when|that|which|whether|because|and|or|so|unless|while|to|but) ")
MORE_CLAUSES = re.compile(r", (?:and|but|so|or|which|because|as|since)\b|[:;] ")
UNITS = re.compile(
    r"\d[\d.,]*\s?(seconds|minutes|hours|days|weeks|months|years|bytes|bits|percent|lines|cores|tokens)$"
)


@dataclass(frozen=True)
class Clause:
    """`subject` `auxiliary` `rest`, with what stands before it; a main verb has `does` and its bare form."""

    lead: str
    subject: str
    auxiliary: str
    rest: str
    is_negative: bool
    verb: str = ""  # as the sentence has it, where the auxiliary isn't in it
    end: str = ""  # what follows such a verb

    @property
    def short(self) -> str:
        """The rest up to where another clause begins."""
        return MORE_CLAUSES.split(self.rest)[0]

    @property
    def tail(self) -> str:
        return f" {self.lead[0].lower()}{self.lead[1:]}" if self.lead else ""


@dataclass(frozen=True)
class Asked:
    question: str
    answer: str
    form: str


def questions_on(sentence: str, value: str) -> list[Asked]:
    """What the sentence answers, the most natural first: whether, which, how many. `value`: what can be asked after."""
    clause = clause_of(sentence)
    questions = list(_imperative(sentence)) if clause is None else list(_of_clause(clause, sentence, value))
    if clause is not None and value and sentence.count(value) == 1:
        questions += _in_place(sentence, value)
    return [
        Asked(question, asked.answer, asked.form)
        for asked in questions
        if (question := _tidy(asked.question)) and len(question.split()) <= 32
    ]


# ---- a sentence's parts ----------------------------------------------------------------------------------


def clause_of(sentence: str) -> Clause | None:
    """The main clause, if its subject and verb can be told apart."""
    lead, text = "", sentence.rstrip(".!")
    if (match := LEADING.fullmatch(text)) and match["lead"].split()[0].lower() in CONDITIONS:
        if NO_LEAD.match(text) or "—" in match["lead"]:
            return None
        lead, text = match["lead"], match["main"]
    codes = CODE.findall(text)
    words = CODE.sub("\0", text).split(" ")
    for number, word in enumerate(words[1 : DEEPEST + 1], start=1):
        plain = word.lower()
        if words[number - 1].lower() in BREAKS - ({"you", "it", "they", "this"}) or words[number - 1][-1:] in ",;:—)":
            return None
        if plain in AUXILIARIES or NEGATIVE.fullmatch(plain):
            return _with_auxiliary(lead, words, number, codes)
        if (plain in THIRD_PERSON or plain in MORE_VERBS) and words[number - 1].lower() not in ARTICLES | {
            "to",
            "and",
            "or",
            "of",
        }:
            return _with_verb(lead, words, number, codes)
    return None


def _with_auxiliary(lead: str, words: list[str], number: int, codes: list[str]) -> Clause | None:
    auxiliary, rest = words[number].lower(), words[number + 1 :]
    negative = NEGATIVE.fullmatch(auxiliary)
    is_negative = negative is not None
    if negative:
        stem = negative["auxiliary"] or "can"
        auxiliary = {"ca": "can", "wo": "will"}.get(stem, stem)
    if rest and rest[0] == "not":
        is_negative, rest = True, rest[1:]
    before = words[:number]
    while len(before) > 1 and before[-1].lower() in BETWEEN:
        before = before[:-1]
    return _made(lead, before, auxiliary, rest, is_negative, "", codes)


def _with_verb(lead: str, words: list[str], number: int, codes: list[str]) -> Clause | None:
    before, between = words[:number], ""
    if len(before) > 1 and before[-1].lower() in BETWEEN:
        before, between = before[:-1], before[-1]
    verb = bare(words[number].lower())
    rest = [between, verb, *words[number + 1 :]] if between else [verb, *words[number + 1 :]]
    return _made(lead, before, "does", rest, between == "never", f"{between} {words[number]}".strip(), codes)


def _made(
    lead: str, before: list[str], auxiliary: str, rest: list[str], is_negative: bool, verb: str, codes: list[str]
) -> Clause | None:
    subject, after = " ".join(before), " ".join(rest)
    if not subject or not after or any(word.lower() in BREAKS - {"it", "they", "this"} for word in before):
        return None
    if len(before) == 1 and subject.lower() in ("it", "they", "this") and not lead:
        return None
    first = before[0].lower()
    is_adverbial = first in CONDITIONS | {"as"} or (first.endswith("ly") and len(before) == 1)
    if ("you" in before and len(before) > 1) or (not lead and (first in VERBS - NOUNS or is_adverbial)):
        return None
    is_negative = is_negative or NOT_SOON.match(after) is not None
    held = iter(codes)
    subject = re.sub("\0", lambda match: next(held, ""), subject)
    after = re.sub("\0", lambda match: next(held, ""), after)
    if subject.lower() == "you":
        subject = "I"
        auxiliary = "am" if auxiliary == "are" else auxiliary
    elif before[0].lower() in ARTICLES or re.fullmatch(r"[A-Z][a-z]{3,}s", subject):
        subject = subject[0].lower() + subject[1:]
    end = after.split(" ", len(verb.split()))[-1] if verb and len(after.split()) > len(verb.split()) else ""
    return Clause(lead, subject, auxiliary, after, is_negative, verb, end)


# ---- questions -------------------------------------------------------------------------------------------


def _of_clause(clause: Clause, sentence: str, value: str) -> Iterator[Asked]:
    simple = clause.short
    whole = f"{clause.auxiliary} {clause.subject} {simple}{clause.tail}"
    if value and sentence.count(value) == 1:
        yield from _after_value(clause, sentence, value)
    yield Asked(f"{whole}?", f"{'No' if clause.is_negative else 'Yes'}. {sentence}", "whether")
    if clause.verb and len(clause.subject.split()) <= 5:
        yield Asked(f"What does {clause.subject} do{clause.tail}?", sentence, "does")
    if clause.subject == "I" and clause.auxiliary in ("can", "could") and not clause.is_negative:
        act = re.sub(rf"^(?:{'|'.join(sorted(BETWEEN))}) ", "", simple)
        yield Asked(f"How can I {act}{clause.tail}?", sentence, "how")
        yield Asked(f"Is there a way to {act}{clause.tail}?", f"Yes. {sentence}", "way")
    if clause.lead.startswith(("If ", "When ", "Once ")) and clause.subject == "I":
        yield Asked(f"What should I do{clause.tail}?", sentence, "should")


def _after_value(clause: Clause, sentence: str, value: str) -> Iterator[Asked]:
    """`How many`, `which option`, `where`: the value's place is asked for."""
    kind = kind_of(value)
    verb = clause.verb or clause.auxiliary
    if value in clause.subject:
        before, after = (part.strip() for part in clause.subject.split(value, 1))
        if before.lower() in ("", "the"):
            noun, after = _noun(kind, after)
            if not kind:
                return
            after = "" if after.startswith("and ") else after
            rest = clause.end if clause.verb else clause.rest
            yield Asked(f"{noun} {after} {verb} {rest}{clause.tail}?", sentence, "which")
        return
    if value not in clause.rest:
        return
    before, after = clause.rest.split(value, 1)
    if (
        set(after) & set(",;(:")
        or set(before) & set(",:;")
        or SUBORDINATE.search(before.rpartition(" to ")[0] or before)
    ):
        return
    units = UNITS.search(value)
    noun, after = _noun(kind, after.strip())
    noun = f"How many {units.group(1)}" if units and before.strip() else noun
    if (match := PREPOSITION.fullmatch(before)) and kind:
        before, preposition = match["before"], match["preposition"]
        if kind == "path" and preposition in WHERE:
            yield Asked(f"Where {clause.auxiliary} {clause.subject} {before} {after}{clause.tail}?", sentence, "where")
        asked = noun[0].lower() + noun[1:]
        yield Asked(
            f"{preposition.title()} {asked} {clause.auxiliary} {clause.subject} {before} {after}{clause.tail}?",
            sentence, "which",
        )  # fmt: skip
    elif match is None and (not before.strip() or clause.verb or before.strip() in VERBS):
        before = re.sub(r"\b(?:the|a|an)\s*$", "", before)
        yield Asked(f"{noun} {clause.auxiliary} {clause.subject} {before} {after}{clause.tail}?", sentence, "which")


def _noun(kind: str, after: str) -> tuple[str, str]:
    """What a question begins with, and what it leaves of the words after the value."""
    first, _, rest = after.partition(" ")
    if kind == "size" and first == "of":
        what, _, rest = rest.partition(" ")
        return f"How much {what}", rest
    if kind == "number" and re.fullmatch(r"[a-z]{3,}s", first):
        return f"How many {first}", rest
    if first in NOUNS_OF.get(kind, ()):
        return f"Which {first}", rest
    return QUESTION_WORDS.get(kind, "What"), after


QUESTION_WORDS = {
    "duration": "How long", "size": "How much", "percent": "How much", "number": "How many", "version": "Which version",
    "path": "Which file", "option": "Which option", "variable": "Which variable", "command": "Which command",
    "setting": "Which setting",
}  # fmt: skip
NOUNS_OF = {
    "option": ("option", "flag"), "command": ("command",), "variable": ("variable",),
    "path": ("file", "directory", "folder"), "setting": ("setting", "option", "parameter", "key", "field"),
}  # fmt: skip
IN_PLACE = {**QUESTION_WORDS, "path": "which file or folder"}
NAMED = re.compile(r" (?:options?|flags?|commands?|settings?|files?|directory|folder|variables?|parameters?|keys?)\b")


def _in_place(sentence: str, value: str) -> list[Asked]:
    """`The run stops after how long?`"""
    units = UNITS.search(value)
    words = f"how many {units.group(1)}" if units else IN_PLACE.get(kind_of(value), "")
    if not words or sentence.startswith(("For ", "Don't ", "Use ")):
        return []
    words = words[0].lower() + words[1:] if sentence.index(value) else words[0].upper() + words[1:]
    if NAMED.match(sentence, sentence.index(value) + len(value)):
        words = words.partition(" ")[0]
    asked = re.sub(rf"(?:\b[Tt]he )?{re.escape(value)}", lambda match: words, sentence, count=1)
    return [Asked(f"{asked.rstrip('.!')}?", sentence, "in place")]


def _imperative(sentence: str) -> Iterator[Asked]:
    """`Avoid jargon.` answers `Should I avoid jargon?`"""
    first, _, rest = sentence.rstrip(".!").partition(" ")
    verb, negative = first.lower().replace("’", "'"), False
    if verb in ("don't", "never") or sentence.startswith("Do not "):
        rest = rest.removeprefix("not ")
        verb, _, rest = rest.partition(" ")
        negative = True
    if not rest or not (verb in IMPERATIVES or verb in VERBS) or not verb.islower():
        return
    following = rest.split()[0].lower()
    if following in ("it", "them", "this", "these", "those", "that", "so"):
        return
    if verb in NOUNS and not negative and following in ("is", "are", "of", "for", "and", "or", "has", "in", "can"):
        return
    yield Asked(f"Should I {verb} {rest}?", f"{'No' if negative else 'Yes'}. {sentence}", "should")
    yield Asked(f"Do I have to {verb} {rest}?" if not negative else f"May I {verb} {rest}?",
                f"{'No' if negative else 'Yes'}. {sentence}", "have to")  # fmt: skip
    thing = re.split(r",? (?:unless|if|when|because|so that|to|in|by|for|with|from|as|and)\b|[,;:(]", rest)[0]
    if 1 <= len(thing.split()) <= 6:
        yield Asked(f"What should I do about {thing}?", sentence, "about")


def _tidy(text: str) -> str:
    text = re.sub(r"\s+([?,.])", r"\1", " ".join(as_mine(text).split()))
    return text[:1].upper() + text[1:]
