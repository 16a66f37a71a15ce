"""A fact's questions and answers, chosen by a hash: the same seed gives the same rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice, zip_longest
from typing import NamedTuple

from ftq.facts.checks import points, words
from ftq.facts.fact import Fact
from ftq.facts.place import place_of
from ftq.facts.rules.english import as_mine, as_purpose, as_serving
from ftq.facts.text.signs import ENDS
from ftq.questions import kinds
from ftq.questions.english.asked import Asked
from ftq.questions.english.sentence import questions_on
from ftq.questions.row import Lots, Options
from ftq.questions.stated.figures import stated_in
from ftq.questions.stated.keywords import keywords_of
from ftq.questions.wordings import Language

CLOZE = "____"
BACK, SHORT = 30, 12  # words of a value that a question can hold; of one that names its subject by an attribute
NUMERIC = re.compile(r"[`\"]?[-+~<>≤≥]?\s?\d")
FIGURE = re.compile(rf"(?:[£$€¥]\s?|\()?{NUMERIC.pattern}")  # of a sentence: `£200`, `(0341) 555 210`
CODE = re.compile(r"`([^`]+)`")
UNQUOTED = frozenset({"answer", "list", "command", "code_for", "purpose", "condition", "indirect"})
NAMED = frozenset({"attribute", "meaning", "default", "set"})  # subjects of which are names
ONE_WAY = frozenset({"lead", "purpose", "condition", "page", "answer", "list"})
FIRST_FORMS = ("amount", "which", "where", "how", "who")  # of a sentence's questions
AS_IT_IS = "{subject}"  # of a question that a document asks itself: the first of its wordings
WRITTEN = 2  # wordings of a question by a language model, which has written others, and of what only an example has
KEYWORDS, BY_WORDS = 5, 3  # of a sentence at most; how often it is asked for by them where questions can be made
PLAIN_AT = 8  # one question in so many is typed in haste: small letters, no question mark


class Draft(NamedTuple):
    """A row to be; `gist` is equal for answers that say the same."""

    question: str
    answer: str
    fact: Fact
    gist: str
    template: str


def drafts(fact: Fact, language: Language, options: Options) -> list[Draft]:
    """The fact's rows, the most direct first; one more than asked for, which `valid` can have."""
    writer = _Writer(fact, language, options)
    count = options.wordings
    if fact.relation == "term":
        return [*writer.cloze(2 if FIGURE.match(fact.value) else 1), *writer.about(1)]
    if fact.relation == "said":
        return list(writer.said(count + 1))
    if NUMERIC.match(fact.value):
        count *= 2  # numbers are harder to learn
    count = min(count, options.fact_rows, *([WRITTEN] if fact.rule == "W" or fact.relation == "set" else []))
    is_code = fact.relation == "meaning" and fact.subject.startswith("`")  # looked for as often as looked up
    back = writer.back(max(1, count // 2 if is_code else count // 3))
    return [*writer.forward(max(1, count - len(back)) + 1), *back]


class _Writer:
    def __init__(self, fact: Fact, language: Language, options: Options) -> None:
        self.fact, self.language, self.options = fact, language, options
        self.relation = kinds.relation_of(fact, language)
        self.lots, self.place = Lots(options.seed, fact.key), place_of(fact)

    def forward(self, count: int) -> Iterator[Draft]:
        """From the subject to the value; ways to ask that fit the kind of value come first."""
        says = self.language.templates(self.relation, "say") or self.language.templates(self.fact.relation, "say")
        answers = _answers(self.fact, says or ["{value}"], self.language)
        typed = self.language.own(self.relation, f"ask_{kinds.kind_of(self.fact.value)}")
        general = self._ordered(kinds.ways(self.fact, self.relation, self.language, "ask"))
        general.sort(key=lambda template: template != AS_IT_IS)
        templates = [one for pair in zip_longest(self._ordered(typed), general) for one in pair if one]
        given = {"purpose": as_mine(self.fact.attribute)} if self.relation == "set_for" else {}
        return self._worded(templates, answers, self.fact.value, count, **given)

    def back(self, count: int) -> list[Draft]:
        """From the value to the subject, where the value doesn't give it away."""
        fact, bare = self.fact, self.fact.subject.strip("`*\"' ").lower()
        if fact.relation == "default":
            return self.by_description(count) if fact.attribute else []
        relation = "does" if fact.relation == "meaning" and fact.attribute and fact.rule == "S" else self.relation
        relation = "meaning" if relation in ("code", "told") and not self.language.own(relation, "back") else relation
        told = fact.attribute if relation == "does" else fact.value
        longest = SHORT if fact.relation == "attribute" else BACK
        templates = kinds.ways(fact, relation, self.language, "back") if fact.relation not in ONE_WAY else []
        is_told = fact.relation == "meaning" and self.language.has("serves")
        purpose = as_serving(fact.value, kinds.called(fact.subject) == "command") if is_told else ""
        if purpose and bare not in purpose.lower():
            templates = self._ordered(self.language.templates("serves", "back"))
            answers = _answers(fact, self.language.templates("serves", "say"), self.language)
            return list(self._worded(templates, answers, fact.subject, count, purpose=purpose))
        if not templates or bare in told.lower() or words(told) > longest or not self._names(relation):
            return []
        answers = [fact.subject, f"{fact.subject}: {fact.value}"]
        answers = [_sentence(fact.subject)] if relation == "command" else answers
        return list(self._worded(self._ordered(templates), answers, fact.subject, count))

    def by_description(self, count: int) -> list[Draft]:
        """A default by what it is of: `How many workers run by default?`, `Does it ask first by default?`"""
        fact, (form, purpose) = self.fact, kinds.described_form(self.fact)
        answers = [fact.value, *_answers(fact, self.language.own("default", "described_say"), self.language)]
        if form == "does":
            yes = self.language.word("yes" if kinds.is_yes(fact.value) else "no")
            answers = [f"{yes} {answer}" for answer in answers[1:]]
        forms = (form, "described") if form.startswith("counted") else (form,)
        templates = [one for form in forms for one in self._ordered(self.language.own("default", form))]
        return list(self._worded(templates, answers, fact.value, count, purpose=purpose))

    def _names(self, relation: str) -> bool:
        """Whether the question's words can be had: what kind of thing, which attribute."""
        fact = self.fact
        if relation in ("attribute", "cell", "count", "several"):
            return bool(fact.kind) and relation != "cell" and (len(fact.value) > 1 or relation == "count")
        if relation == "item":
            return bool(fact.kind)
        if relation == "set":
            return kinds.is_telling(fact.value)
        if relation == "command":
            return "\n" not in fact.value and bool(as_purpose(fact.subject))
        if fact.relation == "meaning":
            return words(fact.value) >= 3 and not fact.value.endswith(":")
        return False

    def cloze(self, count: int) -> Iterator[Draft]:
        blanked = self.fact.sentence.replace(self.fact.value, CLOZE, 1)
        templates = self._ordered(self.language.templates("term", "ask"))
        return self._worded(templates, [self.fact.sentence], self.fact.sentence, count, blanked=blanked)

    def about(self, count: int) -> Iterator[Draft]:
        fact = self.fact
        if FIGURE.match(fact.value) or not fact.path or fact.value.strip("`").lower() in self.place.lower():
            return iter(())
        templates = self._ordered(self.language.templates("term", "about"))
        return self._worded(templates, [fact.sentence], fact.sentence, count, **self._thing())

    def _thing(self) -> dict[str, str]:
        """A plain word with its article: `the lost stage`."""
        subject = self._parts["subject"]
        is_plain = self.language.code == "en" and subject[:1].islower() and not kinds.is_plural(subject)
        return {"subject": f"the {subject}"} if is_plain else {}

    def said(self, count: int) -> Iterator[Draft]:
        """What a sentence answers: which, whether, how many; and its keywords, in any language with spaces."""
        fact, is_english = self.fact, self.language.code == "en"
        on_sentence = questions_on(fact.sentence, fact.attribute) if is_english and not fact.kind else []
        asked = on_sentence or ([] if fact.kind else stated_in(fact.sentence, self.language))
        asked.sort(key=lambda one: (one.form not in FIRST_FORMS, self.lots(one.form)))
        room = max(count // 3, min(count - len(asked), BY_WORDS)) if is_english else count
        mixed = (one for pair in zip_longest(asked, islice(self._by_words(), room)) for one in pair if one is not None)
        for number, one in enumerate(islice(mixed, count)):
            coin = self._coin(one.form)
            question = self._with_topic(self._reworded(one.question, number, coin), coin, is_turned=False)
            yield Draft(question, one.answer, fact, fact.value, one.form)

    def _by_words(self) -> Iterator[Asked]:
        """The sentence by some of its keywords; one that is clear under its heading only, with that."""
        fact, place, heavy = self.fact, self.place, keywords_of(self.fact, self.language)
        for template in self._ordered(self.language.templates("said", "ask") if len(heavy) > 2 else []):
            if keywords := self._keywords(heavy, template):
                question = template.format(keywords=keywords, place=place)
                if fact.kind and "{place}" not in template:
                    question = self.language.word("place").format(q=question, place=place)
                yield Asked(question, f"{fact.kind}: {fact.value}" if fact.kind else fact.value, template)

    def _keywords(self, heavy: list[str], template: str) -> str:
        """Some of the words, in their order."""
        if len(heavy) <= KEYWORDS:
            return " ".join(heavy)
        chosen = set(sorted(heavy, key=self.lots.after(template))[:KEYWORDS])
        return " ".join([word for word in heavy if word in chosen])

    def _ordered(self, templates: list[str]) -> list[str]:
        return sorted(templates, key=self.lots) if len(templates) > 1 else templates

    def _coin(self, form: str) -> int:
        return self.lots(f"{form}\0coins")[0]

    def _worded(
        self, templates: Sequence[str], answers: list[str], gist: str, count: int, **given: str
    ) -> Iterator[Draft]:
        """Each template once, then again with or without the topic, and with other words."""
        turns = [(template, turn) for turn in range(2 if self.options.topic else 1) for template in templates]
        for number, (template, turn) in enumerate(islice(turns, count)):
            coin = self._coin(template)
            question = self._filled(template, given)
            if template not in ("{blanked}", AS_IT_IS):
                question = self._reworded(question, number, coin)
            if self._needs_place and "{place}" not in template:
                question = self.language.word("place").format(q=question, place=self.place)
            if coin & 2:
                question = CODE.sub(r"\1", question)
            question = self._with_topic(question, coin, is_turned=turn == 1)
            yield Draft(question, answers[number % len(answers)], self.fact, gist, template)

    def _reworded(self, question: str, number: int, coin: int) -> str:
        """From the second on in other words; now and then as one types it in haste."""
        if number and "____" not in question:
            question = self.language.reworded(question, coin, self._given_names)
        if self.language.code == "en" and coin % PLAIN_AT == 0 and question[1:2].islower():
            question = question[0].lower() + question[1:].rstrip("?.")
        return question

    def _with_topic(self, question: str, coin: int, is_turned: bool) -> str:
        if not self.options.topic or (coin & 1) == is_turned:
            return question
        topics = self.language.topics
        return topics[coin // 4 % len(topics)].format(topic=self.options.topic, q=question)

    def _filled(self, template: str, given: dict[str, str]) -> str:
        text = template.format(**{**self._parts, **given})
        text = kinds.with_article(text, self._parts["kind"]) if "a {kind}" in template else text
        is_name = self.relation == "page"  # `What is Measures about?`
        return kinds.plural(text, self._parts["subject"]) if self.language.code == "en" and not is_name else text

    @cached_property
    def _parts(self) -> dict[str, str]:
        """What stands for the names in braces of all templates."""
        fact, is_english = self.fact, self.language.code == "en"
        name = fact.subject.rstrip("!.") or fact.subject  # of a heading: `Keep it simple!`
        name = name if fact.relation == "lead" else fact.subject
        is_whole = fact.relation == "lead" and (fact.subject.endswith(".") or fact.subject.startswith("About "))
        subject = name if self.relation in UNQUOTED else quoted(name, self.language, always=is_whole)
        if fact.relation in ("command", "lead", "list") and self.relation in ("command", "purpose") and is_english:
            subject = as_purpose(subject) or subject
        if self.relation == "indirect":
            subject = kinds.lowered(fact.subject)
        if is_english and self.relation in ("command", "purpose", "condition"):
            subject = as_mine(subject)
        attribute = kinds.english(fact.attribute) if is_english else fact.attribute
        value = f"`{fact.value}`" if fact.relation == "command" and "`" not in fact.value else fact.value
        is_quoted = fact.relation == "attribute" and self.relation != "count"
        return {
            "subject": subject,
            "attribute": quoted(fact.attribute, self.language, True) if self.relation in kinds.CELLS else attribute,
            "value": quoted(value, self.language, always=True) if is_quoted else value,
            "kind": kinds.kind_word(fact, self.language),
            "place": self.place,
        }

    @cached_property
    def _given_names(self) -> list[str]:
        """Names stay as they are given, in other words they would name something else."""
        fact, parts = self.fact, self._parts
        names = [self.place]
        if fact.relation in NAMED:
            names += [fact.subject, parts["subject"], *([parts["attribute"]] if fact.rule == "J" else ())]
        return names

    @cached_property
    def _needs_place(self) -> bool:
        return bool(self.fact.path) and (self.relation in kinds.CELLS or kinds.is_vague(self.fact))


def _answers(fact: Fact, says: list[str], language: Language) -> list[str]:
    """The answer's forms; none twice, and no sentence that lacks the value."""
    if fact.relation == "command":
        value = f"```\n{fact.value}\n```" if "\n" in fact.value or "`" in fact.value else f"`{fact.value}`"
        return [value, value if "\n" in value else f"{_sentence(fact.subject).rstrip('.')}: {value}"]
    if fact.relation == "list":
        items = fact.value.split("; ")
        return ["\n".join(f"- {item}" for item in items), f"{fact.subject}: {fact.value}"]
    if fact.relation in ("lead", "meaning") and points(fact.value):
        return [f"{fact.subject}: {fact.value}"]
    if fact.relation in ("answer", "lead", "purpose", "condition", "page"):
        return [fact.value]
    if language.code == "en" and (needed := kinds.is_needed(fact)) is not None:
        return [f"{language.word('yes' if needed else 'no')} {fact.subject} is {fact.value.lower()}."]
    attribute = kinds.english(fact.attribute) if language.code == "en" else fact.attribute
    filled = [
        text.format(subject=fact.subject, value=fact.value, attribute=attribute, sentence=fact.sentence)
        for text in says
        if "{sentence}" not in text or fact.value in fact.sentence
    ]
    if fact.relation == "meaning" and fact.subject.strip("`").lower() in fact.value.lower():
        filled = [fact.value]
    return [_stopped(text) for text in dict.fromkeys(filled)]


def _stopped(text: str) -> str:
    """`X is 5.` where the value had its own full stop."""
    return text[:-1] if text.endswith(("..", "?.", "!.")) and not text.endswith("...") else text


def quoted(text: str, language: Language, always: bool = False) -> str:
    """In quotes, unless it is code or, in English, short."""
    is_plain = language.code == "en" and len(text.split()) <= 3 and not always
    if text.startswith("`") or not text or is_plain or "\n" in text:
        return text
    return language.word("quotes").format(text)


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith(tuple(ENDS)) else f"{text}."
