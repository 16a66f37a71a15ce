"""Sections in, question-answer pairs out. Each section is asked once; a second call asks what is missing.

For a sentence that was chosen by rule the model writes the question; a strong model writes whole pairs as well.
`dataset/questions.jsonl` holds what is kept, as records that a person may edit and put among the documents;
questions_dropped.log beside it, which no reader takes for a document, holds the rest with the reasons.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ftq.examples.records.given import Read
from ftq.facts.fact import Fact
from ftq.files.run_dir import RunDir, write_jsonl
from worker.llama.base import base_gguf
from worker.questions import endpoint, schema
from worker.questions.ask import Asker, BaseModel
from worker.questions.filters import Dropped, Pair, is_worth_checking, sift
from worker.questions.journal import Entry, Item, Journal
from worker.questions.schema import Request
from worker.questions.section import Section, sections_of, sentences

KEPT, DROPPED = "questions.jsonl", "questions_dropped.log"
RULE = "W"  # written by a model
Tell = Callable[[str, str], None]  # (a kind of event, its message)


@dataclass(frozen=True)
class Options:
    """`check` asks each question again with the section to read: one more request for each pair that passes so far."""

    sentences: int = 6  # of a section, that are asked for
    wordings: int = 1  # of a sentence's question
    pairs: int = 0  # that the model writes on a section by itself
    check: bool = False


# A base model is small: half of what it writes makes no sense, and the check finds most of that.
OPTIONS = {"base": Options(check=True), "endpoint": Options(sentences=6, wordings=3, pairs=5)}


@dataclass(frozen=True)
class Written:
    """`sections` were asked about, `before` of them by an earlier call; `unreadable` answers were no JSON."""

    kept: list[Pair]
    dropped: list[Dropped]
    sections: int
    before: int
    unreadable: int

    @property
    def reasons(self) -> dict[str, int]:
        """How many were dropped why, the most first."""
        return dict(Counter(dropped.reason for dropped in self.dropped).most_common())

    @property
    def facts(self) -> list[Fact]:
        """What is kept, as facts: their rows are worded, compared and capped as all others."""
        return [_fact(pair) for pair in self.kept]

    def summary(self) -> str:
        """One line for people."""
        text = f"{len(self.kept)} of {len(self.kept) + len(self.dropped)} written questions are kept"
        text += f", from {self.sections} sections" + (f" ({self.before} asked before)" if self.before else "")
        text += "".join(f"; {count}: {reason}" for reason, count in self.reasons.items())
        return text + (f"; {self.unreadable} answers were no JSON" if self.unreadable else "")


def of_run(
    run: RunDir,
    dataset: Path,
    by: Literal["base", "endpoint"],
    model: str,
    tell: Tell,
    progress: Callable[[float], None] = lambda share: None,
    revision: str | None = None,
) -> Callable[[Iterable[Read]], Written]:
    """What asks about the run's documents, once they are read, and writes the files into `dataset`.

    UserError where the endpoint can't be used: that is known before the documents are read.
    """
    asker = _opened(by, model, revision, tell)

    def ask(rows: Iterable[Read]) -> Written:
        with closing(asker):
            written = write(sections_of(rows), asker, OPTIONS[by], run.questions, progress)
        save(written, dataset)
        tell("note", written.summary())
        return written

    return ask


def _opened(by: str, model: str, revision: str | None, tell: Tell) -> Asker:
    if by == "endpoint":
        return endpoint.Endpoint(endpoint.Access.from_env())
    base = BaseModel(base_gguf(model, revision))
    if base.is_small:
        tell("warning", f"{model} is small: under half a billion parameters a model writes few questions worth keeping")
    return base


def write(
    sections: Iterable[Section],
    asker: Asker,
    options: Options,
    file: Path,
    progress: Callable[[float], None] = lambda share: None,
    known: Set[str] = frozenset(),
) -> Written:
    """Ask about each section that `file` doesn't have yet, several at once, and sift all that was written.

    `known` holds questions that are there already. An error of the asker's ends it; what was written stays in `file`.
    """
    wanted = {_key(section, asker.name, options): section for section in sections}
    with closing(Journal(file)) as journal:
        missing = {key: section for key, section in wanted.items() if key not in journal.entries}
        _ask_all(missing, asker, options, journal, progress)
        entries = [(section, journal.entries[key]) for key, section in wanted.items()]
    pairs = (pair for section, entry in entries for pair in _pairs(section, entry))
    kept, dropped = sift(pairs, known, options.wordings)
    unreadable = sum(entry.unreadable for _, entry in entries)
    return Written(kept, dropped, len(wanted), len(wanted) - len(missing), unreadable)


def _fact(pair: Pair) -> Fact:
    section, line = pair.section, pair.section.where.rpartition(":")[2]
    number = int(line) if line.isdigit() else 1
    return Fact(pair.question, "answer", pair.answer, "", section.path, section.document, number, RULE)


def save(written: Written, dataset: Path) -> None:
    """Write what is kept and what is dropped, a record a line."""
    write_jsonl(dataset / KEPT, [_record(pair) for pair in written.kept])
    write_jsonl(dataset / DROPPED, [{"reason": one.reason, **_record(one.pair)} for one in written.dropped])


def _record(pair: Pair) -> dict[str, Any]:
    return {"question": pair.question, "answer": pair.answer, "source": pair.section.source}


def _key(section: Section, name: str, options: Options) -> str:
    """What tells a section's questions from all others: the section, who writes, and all that is asked."""
    requests = [request.prompt for request, _ in _requests(section, options)]
    content = [name, asdict(options), section.document, section.path, section.text, requests]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]


def _requests(section: Section, options: Options) -> Iterator[tuple[Request, str]]:
    """(what is asked, the sentence that is its answer; empty for pairs)."""
    for sentence in sentences(section, options.sentences):
        yield schema.of_sentence(section, sentence, options.wordings), sentence
    if options.pairs:
        yield schema.of_section(section, options.pairs), ""


def _ask_all(
    missing: dict[str, Section], asker: Asker, options: Options, journal: Journal, progress: Callable[[float], None]
) -> None:
    def ask(key: str, section: Section) -> None:
        journal.add(key, _ask(section, asker, options))

    threads = ThreadPoolExecutor(asker.at_once)
    try:
        asking = [threads.submit(ask, key, section) for key, section in missing.items()]
        for number, done in enumerate(as_completed(asking), start=1):
            done.result()
            progress(number / len(missing))
    finally:
        threads.shutdown(cancel_futures=True)


def _ask(section: Section, asker: Asker, options: Options) -> Entry:
    """All that the model writes about a section."""
    items, unreadable = list[Item](), 0
    for request, sentence in _requests(section, options):
        try:
            items += _items(schema.value(asker.ask(request)), sentence)
        except (ValueError, KeyError, TypeError, AttributeError):
            unreadable += 1
    if options.check:
        items = [_checked(item, section, asker) for item in items]
    return Entry(tuple(items), unreadable)


def _items(value: dict[str, Any], sentence: str) -> Iterator[Item]:
    """What the model's JSON holds. KeyError, TypeError or AttributeError where it holds something else."""
    if sentence:
        yield from (Item(question.strip(), sentence, True) for question in value["questions"])
    else:
        yield from (Item(pair["question"].strip(), pair["answer"].strip(), False) for pair in value["pairs"])


def _checked(item: Item, section: Section, asker: Asker) -> Item:
    """The item with the model's answer to its question, if it passes so far."""
    if not is_worth_checking(Pair(item.question, item.answer, section, item.is_sentence)):
        return item
    try:
        again = schema.value(asker.ask(schema.of_check(section, item.question)))["answer"]
    except (ValueError, KeyError):
        return item
    return replace(item, again=again) if isinstance(again, str) else item


def _pairs(section: Section, entry: Entry) -> Iterator[Pair]:
    for item in entry.items:
        yield Pair(item.question, item.answer, section, item.is_sentence, item.again)
