"""One question, one answer; and what files say differently."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache

from ftq.facts import READERS
from ftq.facts.checks import words
from ftq.facts.fact import Fact
from ftq.questions.row import Contradiction, Stated
from ftq.questions.wordings import Language
from ftq.questions.write import VAGUE, Draft, place_of

COMPARED = ("attribute", "default")  # other relations may be worded in two ways and mean the same
TOPICAL = frozenset({*COMPARED, "meaning", "answer"})  # of the others only the words count
VALUE = 8  # words of a value that can be compared
Topic = tuple[str, str, str, str, str] | None
Place = tuple[str, tuple[str, ...]]
SIGNS = "\"'`“”„«»?.!"
IGNORED = str.maketrans(dict.fromkeys(SIGNS, " "))
# The same for bytes of ASCII, with every white space a single one.
LOWERED = bytes(
    ord(" " if chr(byte) in SIGNS or chr(byte).isspace() else chr(byte).lower()) if byte < 128 else byte
    for byte in range(256)
)
LAST = 99
NAMES = 2**14  # subjects, values and headings of tables that are remembered: they come again and again
RANK = {letter: rank for rank, letter in enumerate(["F", *READERS, "J"])}


def asked(question: str) -> str:
    """Equal for questions that differ in case, quotes and end only."""
    if question.isascii():  # a table of bytes is several times as fast
        plain = question.encode().translate(LOWERED).decode().strip()
        return " ".join(plain.split()) if "  " in plain else plain
    return " ".join(question.translate(IGNORED).lower().split())


_name = lru_cache(NAMES)(asked)


def asked_hash(question: str) -> int:
    """Equal in this process where `asked` is; for those of whom there may be millions."""
    return hash(asked(question))


def resolved(drafts: Sequence[Draft], language: Language) -> tuple[dict[int, Draft], list[Draft]]:
    """Each question once, by its `asked_hash`: with its headings where it has two answers, dropped where it still has;
    and those."""
    clear, contested = _unambiguous(drafts)
    kept, more = _settled(clear)
    again, lost = _settled([_with_place(draft, language) for draft in [*contested, *more]])
    lost += [draft for question, draft in again.items() if question in kept]
    kept.update((question, draft) for question, draft in again.items() if question not in kept)
    return kept, lost


def _with_place(draft: Draft, language: Language) -> Draft:
    """The question with its headings, where another one asks the same."""
    fact, own = draft.fact, place_of(draft.fact)
    has_own = own.replace("`", "") in draft.question.replace("`", "")
    place = ", ".join(fact.path[-2:-1] if has_own else fact.path[-2:]) or fact.file
    return draft._replace(question=language.word("place").format(q=draft.question, place=place))


def _unambiguous(drafts: Iterable[Draft]) -> tuple[list[Draft], list[Draft]]:
    """(clear, those that need their headings): by what is asked, however it is worded."""
    topics: dict[Topic, list[Draft]] = defaultdict(list)
    for draft in drafts:
        topics[_topic(draft) if draft.fact.relation in TOPICAL else None].append(draft)
    clear: list[Draft] = []
    contested: list[Draft] = []
    for topic, group in topics.items():
        if topic is None or len(group) == 1 or _say_the_same(group):
            clear.extend(group)
            continue
        best = _first_of_sections(group) if topic[0] == "meaning" else _best_of_sections(group)
        winner = _winner(best) if topic[0] == "meaning" else None
        is_one = _say_the_same(best)
        for draft in best:
            (clear if is_one or draft.fact is winner else contested).append(draft)
    return clear, contested


def _topic(draft: Draft) -> Topic:
    """What a question wants to know."""
    fact = draft.fact
    if draft.gist == fact.value:
        attribute = fact.attribute if fact.relation == "attribute" else ""
        return fact.relation, "forward", _name(fact.subject), _name(attribute), ""
    return fact.relation, "back", _name(fact.value), _name(fact.attribute), _name(fact.kind)


def _say_the_same(group: Iterable[Draft]) -> bool:
    gists = {draft.gist for draft in group}
    return len(gists) == 1 or len(set(map(asked, gists))) == 1


def _first_of_sections(group: list[Draft]) -> list[Draft]:
    """Those of one fact in each section: of the most exact rule, and of its facts the first."""
    firsts: dict[Place, Draft] = {}
    for draft in group:
        first = firsts.setdefault(_place(draft), draft)
        if _rank(draft) < _rank(first):
            firsts[_place(draft)] = draft
    return [draft for draft in group if draft.fact is firsts[_place(draft)].fact]


def _winner(group: list[Draft]) -> Fact | None:
    """The one fact that needs no heading: defined once, or else said first."""
    best = min(map(_rank, group))
    facts = [draft.fact for draft in group if _rank(draft) == best]
    return facts[0] if best == RANK["S"] or all(fact is facts[0] for fact in facts) else None


def _settled(drafts: Iterable[Draft]) -> tuple[dict[int, Draft], list[Draft]]:
    """Questions with one answer by `asked_hash`, and the others. In one section the more exact rule wins."""
    kept: dict[int, Draft] = {}
    groups: dict[int, list[Draft]] = {}  # of the questions that several ask
    for draft in drafts:
        question = asked_hash(draft.question)
        first = kept.setdefault(question, draft)
        if first is not draft:
            groups.setdefault(question, [first]).append(draft)
    contested: list[Draft] = []
    for question in [question for question in kept if question in groups]:
        best = _best_of_sections(groups[question])
        if len(best) == 1 or _say_the_same(best):
            kept[question] = best[0]
        else:
            del kept[question]
            contested.extend(best)
    return kept, contested


def _best_of_sections(group: list[Draft]) -> list[Draft]:
    """Those of the most exact rule in each section."""
    ranks: dict[Place, int] = {}
    for draft in group:
        ranks[_place(draft)] = min(ranks.get(_place(draft), LAST), _rank(draft))
    return [draft for draft in group if _rank(draft) == ranks[_place(draft)]]


def _place(draft: Draft) -> Place:
    return draft.fact.file, draft.fact.path


def _rank(draft: Draft) -> int:
    return RANK.get(draft.fact.rule, LAST)


def contradictions(facts: Iterable[Fact]) -> tuple[Contradiction, ...]:
    """Values that differ between files, with the place of each."""
    stated: dict[tuple[str, ...], dict[str, Fact]] = defaultdict(dict)
    for fact in facts:
        if fact.relation in COMPARED and words(fact.value) <= VALUE and fact.rule != "J":
            attribute = "" if fact.relation == "default" else fact.attribute
            heading = fact.path[-1] if fact.path and VAGUE.fullmatch(fact.subject) else ""
            key = fact.relation, _name(fact.subject), _name(attribute), _name(fact.kind) if attribute else "", heading
            stated[key].setdefault(asked(fact.value), fact)
    found = []
    for values in stated.values():
        different = list(values.values())
        if len(different) > 1 and len({fact.file for fact in different}) > 1:
            places = tuple(Stated(fact.value, fact.file, fact.line) for fact in different)
            found.append(Contradiction(different[0].subject, different[0].attribute or "default", places))
    return tuple(found)
