"""The dataset that a folder of documents makes: its examples, train and valid, and the report on all of it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, takewhile
from pathlib import Path

from ftq.errors import utf8
from ftq.examples.answers import Answers
from ftq.examples.read import NO_RULES, OWN_VALID, VALIDATION, gives_examples, read
from ftq.examples.recall import Part, Recall
from ftq.examples.records.given import Candidate, LeftOut, Note, Read, Stated
from ftq.examples.records.known import FACT
from ftq.examples.records.stated import MOST_WORDS
from ftq.examples.report import DatasetReport, Documents, Skipped, SkippedRecord, TokenCounts, Used
from ftq.examples.split import EMPTY, Example, Row, split
from ftq.facts import ALL, Cut, Fact
from ftq.facts.most import Facts
from ftq.files import snapshot
from ftq.questions import Options, Report, rows_of
from ftq.questions.conflicts import asked_hash
from ftq.spec.options import RunSpec

NEVER = 10**9  # facts of which one has a wording held back
LIMIT, FILLS = "max_seq_length", "its question alone fills"  # in the reasons for which rows are too long
FACTS, WORDS, COMPARED = FACT, "word", "record not compared with others"  # what a limit of all documents leaves out


class Examples:
    """The examples of a folder, one after another, each with its part; the counts are whole once all have been taken.

    With `questions` the documents' facts become rows too, with the questions that a `writer` makes of the sections. Of
    `validation` all is held out, and then nothing else is. `keeps_equal`: a record that was there before stays.
    """

    def __init__(
        self,
        folder: Path,
        row: Row,
        home: Path | None = None,
        progress: Callable[[float], None] = lambda share: None,
        questions: Options | None = None,
        writer: Callable[[list[Candidate]], Sequence[Fact]] | None = None,
        validation: Path | None = None,
        keeps_equal: bool = False,
    ) -> None:
        self.documents, self.records_skipped = Documents(), list[SkippedRecord]()
        self.count = self.duplicates = self.split_into_parts = 0
        self.questions: Report | None = None
        self._own_valid = validation is not None or _has_own_valid(folder, home)
        self._options, self._writer, self._row = questions, writer, row
        self._validation, self._keeps_equal = validation, keeps_equal
        self.answers, self._cuts, self._sections = Answers(), list[Cut](), list[Candidate]()
        self._facts, self._words, self._words_left_out = Facts(), set[str](), Counter[str]()
        rules = questions.rules if questions else NO_RULES
        self._read = read(folder, home, progress, rules, lambda: self._facts.limit)
        self._asked: set[int] = set()  # questions of sections and records
        self._seen: dict[int, str] = {}  # where an example was first
        self._instructions: set[int] = set()  # of these
        self._same_as = ""
        self._filled = ("", 0)  # where an input was too long for a row, and how long it was

    def __iter__(self) -> Iterator[tuple[Example, Part]]:
        for name, rows in groupby(self._read, key=lambda row: row.document):
            for example, is_record in self._document(name, rows):
                if self._options:
                    self._asked.add(asked_hash(example["instruction"]))
                yield example, self._part(name, is_record)
        if self._options:
            yield from self._of_facts(self._options)
        if self._validation:
            yield from self._held_out(self._validation)

    def report(
        self,
        valid: int,
        lengths: Sequence[int],
        max_seq_length: int,
        stop: str,
        base_revision: str | None = None,
        tested: int | None = None,
    ) -> DatasetReport:
        """All that is to be told of them, once they have been taken. `lengths` are their tokens, `valid` of them held
        out, and `tested` of these ask for what the others teach."""
        return DatasetReport(
            documents=self.documents,
            records_skipped=self.records_skipped,
            examples=self.count,
            duplicates=self.duplicates,
            split_into_parts=self.split_into_parts,
            train=self.count - valid,
            valid=valid,
            tested=tested,
            tokens=TokenCounts.of(lengths),
            max_seq_length=max_seq_length,
            stop=stop,
            base_revision=base_revision,
            questions=self.questions,
            contradictions=self.answers.contradictions,
            cuts=tuple(self._all_cuts()),
        )

    def _all_cuts(self) -> Iterator[Cut]:
        yield from self._cuts
        yield from (Cut(file, 0, FACTS, number) for file, number in self._facts.left_out.items())
        yield from (Cut(file, 0, WORDS, number) for file, number in self._words_left_out.items())
        if self.answers.left_out:
            yield Cut("", 0, COMPARED, self.answers.left_out)

    def _part(self, name: str, is_record: bool) -> Part:
        """Sections teach and are never held out where questions on them are; a user's own valid.jsonl always is."""
        if name in OWN_VALID:
            return Part.VALID
        return Part.TRAIN if self._own_valid or (self._options and not is_record) else Part.DRAWN

    def _held_out(self, folder: Path) -> Iterator[tuple[Example, Part]]:
        """The examples of a folder of their own. One that is trained on too is measured on all the same."""
        self._seen = {}
        for name, rows in groupby(map(_of_validation, read(folder)), key=lambda row: row.document):
            yield from ((example, Part.VALID) for example, _ in self._document(name, rows))

    def _of_facts(self, options: Options) -> Iterator[tuple[Example, Part]]:
        """The rows of all facts. A question that a section or a record asks too tests nothing: it is for train."""
        if self._words_left_out:  # what isn't known to be said can't be said to be missing
            options = replace(options, refusals=0.0)
        written = self._writer(self._sections) if self._writer else []
        train, valid, self.questions = rows_of([*self._facts.all(), *written], options, self._words)
        for part, rows in ((Part.TRAIN, train), (Part.VALID, [] if self._own_valid else valid)):
            for question, given, answer, source, rule, key, value, document in rows:
                example = {
                    "instruction": question,
                    "input": given,
                    "output": answer,
                    "source": source,
                    "document": document,
                    "rule": rule,
                }
                if part is Part.VALID and value:
                    example["value"] = value  # what an answer has to say, in whatever words
                # Of these rows no two ask the same: only one of a document can be equal.
                if hash(question) in self._instructions and self._is_duplicate(example, source):
                    self.duplicates += 1
                elif self._row.fits(example):
                    self.count += 1
                    is_test = part is Part.VALID and asked_hash(question) not in self._asked
                    yield example, Part.VALID if is_test else Part.TRAIN
                else:
                    line = key.removeprefix(f"{document}:").partition(":")[0]
                    self._skip_long(f"{document}:{line}", "a question with its answer is longer than")

    def _document(self, name: str, rows: Iterator[Read]) -> Iterator[tuple[Example, bool]]:
        """(example, whether a record is one)."""
        count, same, parts, skipped = self.count, self.duplicates, self.split_into_parts, len(self.documents.skipped)
        records, stated = len(self.records_skipped), 0
        for row in rows:
            if isinstance(row, Candidate):
                if self._writer and not row.is_record:
                    self._sections.append(row)
                if row.is_record and not row.input:
                    self.answers.add(row.instruction, "\n\n".join(row.blocks), row.where)
                for example in self._fitting(row):
                    self.count += 1
                    yield {**example, "document": name}, row.is_record
            elif isinstance(row, Stated):
                told = replace(row, facts=[]) if name in OWN_VALID else row
                stated += len(told.facts)
                self._note(told)
            elif isinstance(row, Note):
                self.documents.notes.append(utf8(f"{row.document}: {row.text}"))
            elif row.where:
                self._skip_record(row.where, row.reason, row.count)
            else:
                self.documents.skipped.append(Skipped(name, utf8(row.reason)))
        if len(self.documents.skipped) > skipped:
            return
        twice = self.duplicates - same
        if self.count > count or twice or stated:
            parts, same_as = self.split_into_parts - parts, self._same_as if twice else ""
            self.documents.used.append(Used(name, self.count - count, stated, parts, twice, same_as))
        else:
            first = self.records_skipped[records]
            place = first.where.removeprefix(f"{utf8(name)}: ")
            where = f"{place}: " if place.startswith("line ") else ""
            self.documents.skipped.append(Skipped(name, f"nothing usable: {where}{first.reason}"))

    def _note(self, stated: Stated) -> None:
        self._facts.add(stated.facts)
        self._cuts += stated.cuts
        if len(self._words) < MOST_WORDS:
            self._words |= stated.words
            if len(stated.words) > MOST_WORDS:
                self._words_left_out[stated.document] += 1
        elif fresh := len(stated.words - self._words):
            self._words_left_out[stated.document] += fresh

    def _fitting(self, candidate: Candidate) -> Iterator[Example]:
        """The candidate as one example, or as several where its text is too long for a row."""
        whole = {
            "instruction": candidate.instruction,
            "input": candidate.input,
            "output": "\n\n".join(candidate.blocks).strip(),
            "source": candidate.source,
            "document": candidate.document,
        }
        whole |= {"turns": candidate.turns} if candidate.turns else {}
        if self._is_filled(candidate):
            self._skip_long(candidate.where, FILLS)
        elif self._is_duplicate(whole, candidate.document):
            self.duplicates += 1
        elif self._row.fits(whole):
            yield whole
        elif parts := split(whole, candidate.blocks, self._row):
            self.split_into_parts += 1
            yield from parts
        else:
            if not self._row.fits({**EMPTY, "input": candidate.input, "turns": candidate.turns}):
                self._filled = (candidate.where, len(candidate.input))
            self._skip_long(candidate.where, FILLS)

    def _is_duplicate(self, example: Example, document: str) -> bool:
        key, seen = hash((example["instruction"], example["input"], example["output"])), len(self._seen)
        self._instructions.add(hash(example["instruction"]))
        first = self._seen.setdefault(key, document)
        is_known = len(self._seen) == seen and not self._keeps_equal
        self._same_as = first if is_known else self._same_as
        return is_known

    def _is_filled(self, candidate: Candidate) -> bool:
        """Whether what was said in a chat was too long for a row already at an earlier answer."""
        where, size = self._filled
        return candidate.where == where and len(candidate.input) >= size

    def _skip_long(self, where: str, why: str) -> None:
        self._skip_record(where, f"{why} a row of {self._row.limit} tokens ({LIMIT})")

    def _skip_record(self, where: str, reason: str, count: int = 1) -> None:
        """Note a record. Its keys may hold what no file and no database takes."""
        self.records_skipped.append(SkippedRecord(utf8(where), utf8(reason), count))


def _of_validation(row: Read) -> Read:
    """The row, by a name that tells which folder it is from."""
    row = replace(row, document=f"{VALIDATION}{row.document}")
    if isinstance(row, Candidate):
        return replace(row, where=f"{VALIDATION}{row.where}", source=f"{VALIDATION}{row.source}")
    if isinstance(row, Stated):
        return replace(row, cuts=tuple(replace(cut, file=f"{VALIDATION}{cut.file}") for cut in row.cuts))
    return replace(row, where=f"{VALIDATION}{row.where}") if isinstance(row, LeftOut) and row.where else row


def _has_own_valid(folder: Path, home: Path | None) -> bool:
    """Whether one with a record lies in the folder itself, and is neither ignored nor a link that leads out."""
    top = takewhile(lambda found: found[0].parent == folder, snapshot.walk(folder, home))
    return any(path.name in OWN_VALID and not reason and gives_examples(path) for path, reason in top)


def questions_of(spec: RunSpec) -> Options | None:
    """How a run's facts become rows; None if they don't."""
    if spec.questions == "none":
        return None
    every = round(min(NEVER, 1 / spec.valid_fraction)) if spec.valid_fraction else NEVER
    return Options(
        topic=spec.topic,
        exposures=spec.exposures,
        epochs=math.ceil(spec.epochs),
        refusals=spec.refusals,
        rules=ALL - set(spec.skip_rules),
        seed=spec.seed,
        valid_every=every,
        valid_least=Options.valid_least if spec.valid_fraction else 0,
    )


def write(
    examples: Iterable[tuple[Example, Part]], dataset: Path, seed: int, valid_fraction: float
) -> tuple[int, int, int]:
    """Write train.jsonl and valid.jsonl: (rows of train, of valid, those of valid that ask for what train teaches).

    No more than one example is held in memory.
    """
    everything, recall, encoder = dataset / "examples.jsonl", Recall(seed), json.JSONEncoder(ensure_ascii=False)
    with everything.open("wb") as lines:
        for example, part in examples:
            lines.write(f"{encoder.encode(example)}\n".encode(errors="backslashreplace"))
            recall.see(example, part)
    valid = recall.valid(valid_fraction)
    with (
        everything.open("rb") as lines,
        (dataset / "train.jsonl").open("wb") as to_train,
        (dataset / "valid.jsonl").open("wb") as to_valid,
    ):
        for number, line in enumerate(lines):
            (to_valid if number in valid else to_train).write(line)
    everything.unlink()
    return len(recall.shares) - len(valid), len(valid), recall.count(valid)
