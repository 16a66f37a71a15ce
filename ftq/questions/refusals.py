"""N: questions on near-by things that the documents don't have."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from heapq import nsmallest
from itertools import chain, islice, zip_longest

from ftq.facts.checks import is_closed, is_subject, known_words
from ftq.facts.fact import Fact
from ftq.facts.rules.english import ARTICLES, AUXILIARIES, GERUNDS, SAYS, VERBS, as_mine, as_purpose, clause_of
from ftq.questions.row import Lots, Options, order
from ftq.questions.together import Sections, words_of
from ftq.questions.wordings import Language
from ftq.questions.write import CODE, PLAIN_AT, Draft, drafts, quoted

PART = re.compile(r"[A-Za-z][a-z0-9]{2,}|[A-Z]{3,}")
NAME = re.compile(r"`(-{0,2}[A-Za-z][\w.-]{3,40}(?:\(\))?)`")
NAMES = 2_000  # that are combined
PURPOSE = re.compile(r"\w+ .{2,50}")
PERSONAL = known_words("personal")
VAGUE_VERBS = known_words("vague_verbs")
PREPOSITIONS = known_words("prepositions") | {"up", "out", "off", "down"}
POINTERS = frozenset({"i", "it", "they", "this", *GERUNDS})  # subjects of which nothing can be asked elsewhere
TURNS = 4  # of each subject, with another question
LEAST = 3  # refused questions of one beginning, whatever is answered


def refusals(
    facts: Sequence[Fact],
    known: Set[str],
    language: Language,
    options: Options,
    count: int,
    answered: Sequence[str] = (),
) -> list[Draft]:
    """`count` questions that nothing answers, in the forms of `answered` ones: the form must not tell.

    Invented names, other things, stock questions, attributes and relations that a real subject hasn't, two places'
    words in one question.
    """
    absent = _Absent(facts, known, language, options)
    kinds = [
        absent.invented(),
        absent.lacking(),
        absent.things(),
        absent.crossed(),
        absent.foreign(),
        absent.with_things(),
        absent.swapped(),
        absent.stock(),
    ]
    mixed = (draft for draft in chain.from_iterable(zip_longest(*kinds)) if draft is not None)
    room = {opening: max(LEAST, number // 2) for opening, number in Counter(map(_opening, answered)).items()}
    chosen: list[Draft] = []
    spare: list[Draft] = []
    for draft in islice(mixed, count * 6):
        opening = _opening(draft.question)
        room[opening] = room.get(opening, LEAST) - 1
        (chosen if room[opening] >= 0 else spare).append(draft)
        if len(chosen) >= count:
            break
    return (chosen + spare)[:count]


def _opening(question: str) -> str:
    """Its first words: `how many`, `is there`."""
    first = " ".join(question.split(None, 2)[:2])
    if "`" in first:
        first = " ".join(CODE.sub("x", question).split(None, 2)[:2])
    return first.lower()


class _Absent:
    """Questions on what the documents lack, kind by kind, each in an order that only the seed decides."""

    def __init__(self, facts: Sequence[Fact], known: Set[str], language: Language, options: Options) -> None:
        self.facts, self.known, self.language, self.options = facts, known, language, options
        self.is_english = language.code == "en"
        self.sections = Sections(facts, language.common)

    def invented(self) -> Iterator[Draft]:
        """A real name with one part of another."""
        named = [fact for fact in self.facts if NAME.fullmatch(fact.subject) and len(PART.findall(fact.subject)) >= 2]
        named = self._shuffled(named, "invented")
        parts = sorted({part.lower() for fact in named for part in PART.findall(fact.subject)})
        forms = self.language.templates("unknown", "ask")
        for fact in named:
            own = PART.findall(fact.subject)
            pick = self._pick(fact, "part")
            old, new = own[pick % len(own)], parts[pick // 7 % len(parts)]
            name = fact.subject.replace(
                old, new.upper() if old.isupper() else new.title() if old[0].isupper() else new, 1
            )
            if name.strip("`-()").lower() not in self.known:
                form = forms[pick // 11 % len(forms)]
                yield self._draft(form.format(subject=name if pick & 1 else name.strip("`"), place=""), fact)

    def things(self) -> Iterator[Draft]:
        """Well-known names that no document has."""
        forms = self._turned(self.language.without, "without")
        for number, thing in enumerate(self._unknown_things("things")):
            yield self._draft(forms[number % len(forms)].format(thing=thing))

    def with_things(self) -> Iterator[Draft]:
        """What one can do, with something that no document names."""
        forms, things = self._turned(self.language.own("using", "ask"), "with"), self._unknown_things("with")
        if not forms or not things:
            return
        for number, (fact, purpose) in enumerate(self._purposes("with")):
            form, thing = forms[number % len(forms)], things[number % len(things)]
            yield self._draft(form.format(subject=purpose, thing=thing), fact)

    def lacking(self) -> Iterator[Draft]:
        """What a real subject isn't said to have: no section with it has a word of that."""
        people = {fact.subject for fact in self.facts if fact.rule == "L" or fact.attribute.lower() in PERSONAL}
        subjects = [
            fact
            for fact in self.facts
            if fact.relation in ("meaning", "lead", "attribute", "default")
            and len(fact.subject.split()) <= 4
            and is_subject(fact.subject, longest=4)
            and _is_thing(fact.subject)
            and fact.subject not in people  # `What color is Joe?`
        ]
        asked = self.language.lacking
        subjects = self._shuffled(subjects, "lacking") if asked else []
        turns = [(fact, turn) for turn in range(TURNS) for fact in subjects]
        for number, (fact, turn) in enumerate(turns):
            question, about = asked[(number + turn + self.options.seed) % len(asked)]
            if not self.sections.together(fact.subject, about):
                yield self._draft(question.format(subject=quoted(fact.subject, self.language)), fact)

    def crossed(self) -> Iterator[Draft]:
        """One thing's verb with another one's object: no section has both."""
        if not self.is_english:
            return
        forms = self._turned(self.language.templates("purpose", "ask"), "crossed")
        both = zip(self._purposes("verbs"), self._purposes("objects"), strict=False)  # of many, each has other ones
        for number, ((fact, one), (_, other)) in enumerate(both):
            verb, thing = one.split(" ")[0], other.partition(" ")[2]
            if verb in VAGUE_VERBS or not {one.split(" ")[1], other.split(" ")[1]}.isdisjoint(PREPOSITIONS):
                continue  # `set x` may be `require x` elsewhere; `look at`: no other one's object
            if not self.sections.together(thing, {verb, f"{verb}s", f"{verb}ed"}, is_any=True):
                yield self._draft(forms[number % len(forms)].format(subject=f"{verb} {thing}"), fact)

    def swapped(self) -> Iterator[Draft]:
        """What one sentence says of its subject, asked of another one's."""
        if not self.is_english:
            return
        said = [fact for fact in self.facts if fact.relation == "said" and not fact.kind]
        others = map(clause_of, (fact.sentence for fact in self._shuffled(said, "swapped")))
        for fact, other in zip(self._shuffled(said, "said"), others, strict=True):
            one = clause_of(fact.sentence)
            if one is None or other is None:
                continue
            is_like = (
                one.auxiliary == other.auxiliary
                and one.subject != other.subject
                and one.subject.split()[0].lower() not in POINTERS
            )
            short = f"{other.short}{other.tail}"
            if is_like and len(short.split()) <= 16 and not self.sections.together(one.subject, self._rare(short)):
                yield self._draft(f"{one.auxiliary.capitalize()} {as_mine(f'{one.subject} {short}')}?", fact)

    def foreign(self) -> Iterator[Draft]:
        """An attribute that only subjects of another table have."""
        nouns = self.language.nouns
        cells = [
            fact
            for fact in self.facts
            if fact.relation == "attribute" and (not nouns or fact.attribute.lower() in nouns)
        ]
        owners: dict[str, set[str]] = {}
        for fact in cells:
            owners.setdefault(fact.attribute.lower(), set()).add(fact.kind.lower())
        attributes = sorted({(fact.attribute, fact.attribute.lower()) for fact in cells})
        chosen = self._shuffled(cells, "foreign")
        said: dict[str, set[str]] = {fact.subject.lower(): set() for fact in chosen}
        for fact in self.facts:
            if (words := said.get(fact.subject.lower())) is not None:
                words.update(words_of(f"{fact.attribute} {fact.value} {fact.sentence}"))
        for fact in chosen:
            attribute, lowered = attributes[self._pick(fact, "attribute") % len(attributes)]
            if fact.kind.lower() not in owners[lowered] and not words_of(lowered) & said[fact.subject.lower()]:
                asked = drafts(_like(fact, fact.subject, "attribute", attribute), self.language, self.options)
                yield from (draft._replace(answer=self.language.word("silent"), gist="") for draft in asked[:1])

    def stock(self) -> Iterator[Draft]:
        """What people ask of everything, where none of its words is said."""
        text = " ".join(self.known) if self.language.code in ("zh", "ja") else ""
        for question, about in sorted(self.language.stock, key=lambda pair: order(self.options.seed, pair[0], "stock")):
            if not about & self.known and not any(word in text for word in about if text):
                yield self._draft(question)

    def _purposes(self, purpose: str) -> Iterator[tuple[Fact, str]]:
        """What the documents tell how to do: a verb and its object."""
        acts = [fact for fact in self.facts if fact.relation in ("command", "purpose", "lead")]
        told = ((fact, as_mine(as_purpose(fact.subject))) for fact in self._shuffled(acts, purpose))
        return ((fact, act) for fact, act in told if PURPOSE.fullmatch(act) and is_closed(act))

    def _draft(self, question: str, fact: Fact | None = None) -> Draft:
        """A row on nothing; half of them name the topic, as other rows do."""
        coin = order(self.options.seed, question, "coins")[0]
        if self.options.topic and coin & 1:
            topics = self.language.topics
            question = topics[coin // 4 % len(topics)].format(topic=self.options.topic, q=question)
        elif self.is_english and coin % PLAIN_AT == 0 and question[1:2].islower():
            question = question[0].lower() + question[1:].rstrip("?.")
        like = fact or (self.facts[0] if self.facts else None)
        file = like.file if like else ""
        about = Fact(
            question, "answer", "", "", like.path if fact and like else (), file, like.line if fact and like else 1, "N"
        )
        return Draft(question, self.language.word("silent"), about, "", "")

    def _shuffled(self, facts: Sequence[Fact], purpose: str) -> list[Fact]:
        lots = Lots(self.options.seed)
        return nsmallest(NAMES, facts, key=lambda fact: lots(f"{fact.key}\0{purpose}"))

    def _turned(self, forms: Sequence[str], purpose: str) -> list[str]:
        return sorted(forms, key=lambda form: order(self.options.seed, form, purpose))

    def _pick(self, fact: Fact, purpose: str) -> int:
        return int.from_bytes(order(self.options.seed, fact.key, purpose), "big")

    def _unknown_things(self, purpose: str) -> list[str]:
        unknown = [thing for thing in self.language.things if thing.lower() not in self.known]
        return sorted(unknown, key=lambda thing: order(self.options.seed, thing, purpose))

    def _rare(self, text: str) -> set[str]:
        return {word for word in words_of(text) if len(word) > 3 and word not in self.language.common}


def _is_thing(name: str) -> bool:
    """One thing's name, not what one does."""
    first = name.partition(" ")[0].lower()
    if not is_closed(name) or "”" in name or (first.endswith("ing") and " " in name):
        return False  # `Being a lead`
    if not SAYS.isdisjoint(name.lower().split()) or not AUXILIARIES.isdisjoint(name.lower().split()):
        return False  # `Donations are awesome`
    return not (":" in name or name.endswith("s") or first in VERBS or first in GERUNDS or first in ARTICLES)


def _like(fact: Fact, subject: str, relation: str, attribute: str = "") -> Fact:
    return Fact(subject, relation, "", "", fact.path, fact.file, fact.line, "N", attribute, fact.kind)
