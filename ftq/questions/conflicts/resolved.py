"""One question, one answer: with its headings where it has two, left out where it still has."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from ftq.facts import READERS
from ftq.facts.fact import Fact
from ftq.facts.place import around, place_of
from ftq.facts.rules.english import SAYS
from ftq.questions.kinds import VAGUE
from ftq.questions.wordings import Spoken
from ftq.questions.write import Draft

COMPARED = ("attribute", "default")  # other relations may be worded in two ways and mean the same
TOPICAL = frozenset({*COMPARED, "item", "set", "meaning", "answer", "lead"})  # of the others only the words count
VAGUELY = ("meaning", "default")  # asked under their headings where their subjects are vague
NAMED = 5  # subjects of one section that an answer lists at most
Topic = tuple[str, str, str, str, str] | None
Place = tuple[str, tuple[str, ...]]
SIGNS = "\"'`“”„«»?.!"
IGNORED = str.maketrans(dict.fromkeys(SIGNS, " "))
# The same for bytes of ASCII, with every white space a single one.
LOWERED = bytes(
    ord(" " if chr(byte) in SIGNS or chr(byte).isspace() else chr(byte).lower()) if byte < 128 else byte
    for byte in range(256)
)
DIGIT = re.compile(r"\d")
FIGURE = re.compile(r"(?<![\w.`-])([^\W\d_]+) ([^\s\w`]?\d[\d.,:]*)(?![\w`])")  # and the word before it
LAST = 99
NAMES = 2**14  # subjects, values and headings of tables that are remembered: they come again and again
RANK = {letter: rank for rank, letter in enumerate(["F", *READERS, "J"])}


def asked(question: str) -> str:
    """Equal for questions that differ in case, quotes and end only."""
    if question.isascii():  # a table of bytes is several times as fast
        plain = question.encode().translate(LOWERED).decode().strip()
        return " ".join(plain.split()) if "  " in plain else plain
    return " ".join(question.translate(IGNORED).lower().split())


name_of = lru_cache(NAMES)(asked)


def asked_hash(question: str) -> int:
    """Equal in this process where `asked` is; for those of whom there may be millions."""
    return hash(asked(question))


def resolved(drafts: Sequence[Draft], spoken: Spoken) -> tuple[dict[int, Draft], list[Draft]]:
    """Each question once, by its `asked_hash`: with its headings where it has two answers, dropped where it still has;
    and those."""
    joined, many = _joined(drafts)
    clear, contested = _unambiguous(joined, spoken)
    kept, more = _settled(clear)
    apart, alike = _told_apart(contested)
    again, lost = _settled([_with_place(draft, place, spoken) for draft, place in [*apart, *_placed(more)]])
    lost += [*many, *alike, *(draft for question, draft in again.items() if question in kept)]
    kept.update((question, draft) for question, draft in again.items() if question not in kept)
    return kept, lost


def _joined(drafts: Iterable[Draft]) -> tuple[list[Draft], list[Draft]]:
    """(the drafts, those with too many answers): what several rows of a table have is asked for all of them at once."""
    names: dict[tuple[Place, Topic], dict[str, None]] = defaultdict(dict)
    for draft in filter(_asks_back, drafts):
        names[_place(draft), _topic(draft)][draft.fact.subject] = None
    kept: list[Draft] = []
    many: list[Draft] = []
    for draft in drafts:
        subjects = names[_place(draft), _topic(draft)] if _asks_back(draft) else {}
        if len(subjects) > NAMED:
            many.append(draft)
        else:
            every = ", ".join(subjects)
            kept.append(draft if len(subjects) < 2 else draft._replace(answer=every, gist=every))
    return kept, many


def _asks_back(draft: Draft) -> bool:
    return draft.fact.relation in ("attribute", "item") and draft.gist != draft.fact.value


def _told_apart(contested: Sequence[Draft]) -> tuple[list[tuple[Draft, str]], list[Draft]]:
    """(drafts with the headings that tell them from others, those that nothing tells from others): by what is asked,
    however it is worded. Files with the same headings are told apart by their names."""
    groups: dict[tuple[Topic, str], list[Draft]] = defaultdict(list)
    for draft, place in _placed(contested):
        groups[_topic(draft), place].append(draft)
    apart: list[tuple[Draft, str]] = []
    alike: list[Draft] = []
    for (topic, place), group in groups.items():
        if _say_the_same(group):
            apart += [(draft, place) for draft in group]
            continue
        of_file: dict[str, list[Draft]] = defaultdict(list)
        for draft in group:
            of_file[draft.fact.file].append(draft)
        for file, some in of_file.items():
            if _say_the_same(some) or topic is None:
                apart += [(draft, place if file in place else f"{place}, {file}") for draft in some]
            elif _are_captioned(some):
                named = "" if place == file and len(of_file) == 1 else f"{place}, "
                apart += [(draft, f"{named}{draft.fact.caption}") for draft in some]
            else:
                alike += some
    return apart, alike


def _are_captioned(group: Iterable[Draft]) -> bool:
    """Whether what stands above their tables tells the answers apart."""
    of_table: dict[str, list[Draft]] = defaultdict(list)
    for draft in group:
        of_table[draft.fact.caption].append(draft)
    return "" not in of_table and all(map(_say_the_same, of_table.values()))


def _placed(drafts: Iterable[Draft]) -> Iterator[tuple[Draft, str]]:
    """Each with its headings, less the one that the question has."""
    for draft in drafts:
        path = around(draft.fact)
        yield draft, ", ".join(path[-2:-1] if _has_place(draft) else path[-2:]) or draft.fact.file


def _with_place(draft: Draft, place: str, spoken: Spoken) -> Draft:
    """The question with its headings, where another one asks the same."""
    return draft._replace(question=spoken.of(draft.fact.file).word("place").format(q=draft.question, place=place))


def _unambiguous(drafts: Iterable[Draft], spoken: Spoken) -> tuple[list[Draft], list[Draft]]:
    """(clear, those that need their headings): by what is asked, however it is worded."""
    topics: dict[Topic, list[Draft]] = defaultdict(list)
    figures: dict[str, list[Draft]] = defaultdict(list)
    for draft in drafts:
        if figured := without_figures(draft.fact, spoken):
            figures[figured].append(draft)
        else:
            topics[_topic(draft)].append(draft)
    clear: list[Draft] = []
    contested: list[Draft] = []
    for group in figures.values():
        is_one = _say_the_same(group) or len({draft.fact.file for draft in group}) == 1
        (clear if is_one else contested).extend(group)
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


def without_figures(fact: Fact, spoken: Spoken) -> str:
    """A sentence with its numbers left open, so that it is equal to one that says another one; empty if it has none."""
    if fact.relation not in ("said", "term") or not DIGIT.search(fact.sentence):
        return ""
    common = spoken.of(fact.file).common

    def opened(match: re.Match[str]) -> str:
        word = match[1]
        return f"{word} …" if word in common or word in SAYS else match[0]  # no `step 2`

    figured = FIGURE.sub(opened, fact.sentence)
    return figured if figured != fact.sentence else ""


def _topic(draft: Draft) -> Topic:
    """What a question wants to know; None of what only its words tell."""
    fact = draft.fact
    if fact.relation not in TOPICAL:
        return None
    if fact.relation == "set":  # of an example
        told = fact.subject if draft.gist == fact.value else fact.value
        return fact.relation, "forward" if draft.gist == fact.value else "back", name_of(told), "", place_of(fact)
    if draft.gist == fact.value:
        attribute = fact.attribute if fact.relation == "attribute" else ""
        is_placed = fact.relation in VAGUELY and VAGUE.fullmatch(fact.subject) is not None
        place = place_of(fact) if is_placed and _has_place(draft) else ""
        return fact.relation, "forward", name_of(fact.subject), name_of(attribute), place
    return fact.relation, "back", name_of(fact.value), name_of(fact.attribute), name_of(fact.kind)


def _has_place(draft: Draft) -> bool:
    return place_of(draft.fact).replace("`", "") in draft.question.replace("`", "")


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
