"""How many rows of what: exposures, caps, shares, and the wordings that are held back for valid."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import lru_cache
from sys import intern

from ftq.facts import distinct
from ftq.facts.fact import Fact
from ftq.parallel import Processes, cores
from ftq.questions.conflicts import asked_hash, contradictions, resolved
from ftq.questions.likely import spoken_or_likely
from ftq.questions.refusals import refusals
from ftq.questions.row import Lots, Options, Report, Row, order
from ftq.questions.together import words_of
from ftq.questions.wordings import NEUTRAL, Language, Spoken, language
from ftq.questions.write import CLOZE, Draft, drafts

SAME_ANSWERS = 12  # are allowed in any set, however small
FIRST = 4  # times its cap is what a section with many facts may have, for two rows of each
SHARED, AT_ONCE = 10_000, 500  # facts from which on more processes write their questions; facts that one gets at a time
UNASKED = "unasked"  # the reason of facts that no question fits
FEW = 5  # exposures under which a fact is hardly learned
Section = tuple[str, tuple[str, ...]]  # its file, its headings
NEAR = 64  # answers that are remembered: a fact's rows have one or two, and stand together
SPARE, SHARE = 10, 5  # questions without an answer for valid: at most so many, and one for so many of train's


def rows_of(
    facts: Sequence[Fact], options: Options, known: Set[str] | None = None
) -> tuple[list[Row], list[Row], Report]:
    """(train, valid, report). `known`: the words of all documents, by `words_of`, so that refusals are true."""
    facts = distinct([fact for fact in facts if fact.rule in options.rules])
    spoken = spoken_or_likely(facts, options.language)
    written = _written(facts, spoken, options)
    drafted = {draft.fact.key for draft in written}
    unasked = [fact for fact in facts if fact.key not in drafted]
    single, conflicts = resolved(written, spoken)
    del written
    train, valid = _held_back(single.values(), facts, options)
    train, caps = _capped(train, options)
    here = {draft.fact.key for draft in train}
    valid = [draft for draft in valid if draft.fact.key in here]
    valid += _unused(valid, train, single.values(), facts, options)
    silent, spare = _silent(train, valid, single, facts, known, spoken, options)
    del single
    train, valid = train + silent, valid + spare
    report = _report(spoken, facts, train, options, {"two answers": conflicts, **caps}, unasked)
    lots, rows = Lots(options.seed), _rows(train)
    rows.sort(key=lambda row: lots(f"{row.instruction}\0{row.output}"))
    return rows, _rows(valid), report


def _written(facts: Sequence[Fact], spoken: Spoken, options: Options) -> list[Draft]:
    """The drafts of all facts; those of very many are written on every core."""
    if len(facts) < SHARED or cores() == 1:
        return [draft for fact in facts for draft in drafts(fact, spoken.of(fact.file), options)]
    written: list[Draft] = []
    some_of = [facts[at : at + AT_ONCE] for at in range(0, len(facts), AT_ONCE)]
    calls = [(some, [spoken.of(fact.file).code for fact in some], options) for some in some_of]
    with Processes("ftq.questions.mix:texts_of") as processes:
        for (some, *_), texts in zip(calls, processes.results(calls), strict=True):
            for fact, found in zip(some, texts, strict=True):
                value = fact.value  # most gists are equal to it: another text of its own for each would take memory
                written += [
                    Draft(question, answer, fact, value if gist == value else gist, intern(form))
                    for question, answer, gist, form in found
                ]
    return written


def texts_of(facts: Sequence[Fact], codes: Sequence[str], options: Options) -> list[list[tuple[str, str, str, str]]]:
    """The texts of each fact's drafts; called in a process of its own."""
    written = (drafts(fact, language(code), options) for fact, code in zip(facts, codes, strict=True))
    return [[(draft.question, draft.answer, draft.gist, draft.template) for draft in some] for some in written]


def _held_back(single: Iterable[Draft], facts: Sequence[Fact], options: Options) -> tuple[list[Draft], list[Draft]]:
    """(train, valid): the last forward wording goes, to valid for every twentieth fact that keeps another."""
    of_fact: dict[str, list[Draft]] = defaultdict(list)
    for draft in single:
        of_fact[draft.fact.key].append(draft)
    train: list[Draft] = []
    valid: list[Draft] = []
    turn = 0
    for fact in facts:
        rows = of_fact.pop(fact.key, [])
        forward = [draft for draft in rows if draft.gist == fact.value]
        spare = forward[-1] if len(forward) > 1 and forward[-1].template != forward[0].template else None
        if spare is not None and fact.relation != "term":
            if turn % options.valid_every == options.valid_every - 1:
                valid.append(spare)
            if len(forward) > options.wordings or turn % options.valid_every == options.valid_every - 1:
                rows = [draft for draft in rows if draft is not spare]
            turn += 1
        train.extend(rows)
    return train, valid


def _unused(
    valid: list[Draft], train: list[Draft], written: Iterable[Draft], facts: Sequence[Fact], options: Options
) -> list[Draft]:
    """What valid lacks to tell something of few facts: wordings that train doesn't have, spread over the facts.

    They cost the training nothing. `written` has the drafts of all facts.
    """
    missing = options.valid_least - len(valid)
    if missing <= 0:
        return []
    taken, forms = set(map(id, train)), defaultdict[str, set[str]](set)  # of a fact's wordings in train
    for draft in filter(_asks_for_value, train):
        forms[draft.fact.key].add(draft.template)
    held, spare = {draft.fact.key for draft in valid}, dict[str, Draft]()
    for draft in filter(_asks_for_value, written):
        key = draft.fact.key
        if id(draft) not in taken and key not in held and key in forms and draft.template not in forms[key]:
            spare[key] = draft
    keys = [key for key in dict.fromkeys(fact.key for fact in facts) if key in spare]
    count = min(len(keys), missing)
    return [spare[keys[number * len(keys) // count]] for number in range(count)]


def _asks_for_value(draft: Draft) -> bool:
    """Whether it goes from the subject to the value, and leaves no gap."""
    return draft.gist == draft.fact.value and draft.fact.relation != "term"


def _capped(train: list[Draft], options: Options) -> tuple[list[Draft], dict[str, list[Draft]]]:
    """In turns: every fact's first row before any fact's second, so that a cap takes the repetitions.

    What is kept stays in the order of the facts: rows that lie together in memory are read several times as fast.
    """
    same, most = max(SAME_ANSWERS, int(options.answer_share * len(train))), options.section_rows
    left_out: dict[str, list[Draft]] = defaultdict(list)
    sections, answers, beyond = defaultdict[int, int](int), defaultdict[int, int](int), set[int]()
    hashed = lru_cache(NEAR)(asked_hash)
    section_of, answer_of = _sections(train), [hashed(draft.answer) for draft in train]
    for turn, rows in enumerate(_turns(train)):
        room = most if turn > 1 else most * FIRST
        for number in rows:
            section, answer = section_of[number], answer_of[number]
            if turn >= options.fact_rows:
                why = "rows of a fact"
            elif sections[section] >= room:
                why = "rows of a section"
            elif answers[answer] >= same:
                why = "same answer"
            else:
                sections[section] += 1
                answers[answer] += 1
                continue
            left_out[why].append(train[number])
            beyond.add(number)
    kept, cloze = _with_share([draft for number, draft in enumerate(train) if number not in beyond], options)
    return kept, {**left_out, "cloze": cloze}


def _turns(train: list[Draft]) -> list[list[int]]:
    """The numbers of each fact's first row, of each fact's second, and so on. A fact's rows come one after another."""
    turns, turn, last = list[list[int]](), 0, ""
    for number, draft in enumerate(train):
        key = draft.fact.key
        turn, last = (turn + 1, last) if key == last else (0, key)
        if turn == len(turns):
            turns.append([])
        turns[turn].append(number)
    return turns


def _sections(train: list[Draft]) -> list[int]:
    """The number of each row's section."""
    numbers, of_rows, fact, number = dict[Section, int](), list[int](), None, 0
    for draft in train:
        if draft.fact is not fact:
            fact = draft.fact
            number = numbers.setdefault(_section(fact), len(numbers))
        of_rows.append(number)
    return of_rows


def _section(fact: Fact) -> Section:
    """What has a share of rows: a section; each record of JSON."""
    return fact.file, (*fact.path, fact.subject if fact.rule == "J" else "")


def _with_share(kept: list[Draft], options: Options) -> tuple[list[Draft], list[Draft]]:
    """Cloze rows up to their share of the tokens, counted as characters."""
    cloze = [draft for draft in kept if CLOZE in draft.question]
    others = sum(map(_size, kept)) - sum(map(_size, cloze)) if cloze else 0
    if not others:
        return kept, []
    room = others * options.cloze_share / (1 - options.cloze_share) if options.cloze_share < 1 else float("inf")
    beyond = set[int]()
    for draft in sorted(cloze, key=lambda draft: order(options.seed, draft.question)):
        room -= _size(draft)
        if room < 0:
            beyond.add(id(draft))
    return [draft for draft in kept if id(draft) not in beyond], [draft for draft in cloze if id(draft) in beyond]


def _size(draft: Draft) -> int:
    return len(draft.question) + len(draft.answer)


def _silent(
    train: list[Draft],
    valid: list[Draft],
    single: Mapping[int, Draft],
    facts: Sequence[Fact],
    known: Set[str] | None,
    spoken: Spoken,
    options: Options,
) -> tuple[list[Draft], list[Draft]]:
    """Questions that the documents don't answer: (for train, others for valid where it has any rows). They are in the
    language of most files, and on these.

    `single` has the others by their `asked_hash`.
    """
    if "N" not in options.rules or options.refusals <= 0:
        return [], []
    if known is None:
        known = words_of(" ".join(f"{fact.subject} {fact.attribute} {fact.value} {fact.sentence}" for fact in facts))
    count = round(len(train) * options.refusals / (1 - min(options.refusals, 0.9)))
    spare = min(SPARE, -(-count // SHARE)) if valid else 0
    here, fresh = set(map(id, [*train, *valid])), set[int]()
    silent: list[list[Draft]] = [[], []]
    asked_before = [draft.question for draft in train]
    most = _known_most(facts, spoken)
    usual = [fact for fact in facts if spoken.of(fact.file) is most] if spoken.files else facts
    for number, draft in enumerate(refusals(usual, known, most, options, count + spare, asked_before)):
        question = asked_hash(draft.question)
        if question not in fresh and id(single.get(question)) not in here:
            fresh.add(question)
            silent[number >= count].append(draft)
    return silent[0], silent[1]


def _known_most(facts: Sequence[Fact], spoken: Spoken) -> Language:
    """The language of most; where that isn't known, the one of most facts whose language is."""
    if spoken.most.code != NEUTRAL or not spoken.files:
        return spoken.most
    counts = Counter(spoken.files[fact.file].code for fact in facts if fact.file in spoken.files)
    return language(counts.most_common(1)[0][0])


def _rows(drafts: list[Draft]) -> list[Row]:
    """The drafts as rows. The list is emptied, so that not all are in memory twice."""
    rows, sources = list[Row](), dict[tuple[str, str], str]()  # a source is one text for all its rows
    drafts.reverse()
    while drafts:
        question, answer, fact, gist, _ = draft = drafts.pop()
        place = fact.file, fact.path[-1] if fact.path else ""
        source = sources.get(place) or sources.setdefault(place, _source(draft))
        rows.append(Row(question, "", answer, source, fact.rule, fact.key, gist, fact.file))
    return rows


def _source(draft: Draft) -> str:
    fact = draft.fact
    return f"{fact.file}#{fact.path[-1]}" if fact.path else fact.file


def _report(
    spoken: Spoken,
    facts: Sequence[Fact],
    train: list[Draft],
    options: Options,
    left_out: dict[str, list[Draft]],
    unasked: list[Fact],
) -> Report:
    rows = Counter([draft.fact.rule for draft in train])
    met = Counter([draft.fact.key for draft in train])
    counted = [fact for fact in facts if fact.relation not in ("term", "said")]  # of a sentence some parts are asked
    few = tuple(fact.key for fact in counted if met[fact.key] * options.epochs < FEW)
    numbers = {reason: len(drafts) for reason, drafts in left_out.items()}
    places = {
        reason: dict(Counter(map(_source, drafts)).most_common()) for reason, drafts in left_out.items() if drafts
    }
    if unasked:
        numbers[UNASKED] = len(unasked)
        places[UNASKED] = dict(Counter(f"{fact.file}:{fact.line}" for fact in unasked).most_common())
    told = contradictions(facts, spoken)
    return Report(spoken.most.code, len(facts), dict(sorted(rows.items())), told, few, numbers, places)
