"""`check` reads a folder as prepare would, and tells all of it; `check_of` tells the same of what prepare has made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ftq.check.finding import LEVELS, Finding, Level
from ftq.check.findings import CORRECT, NOTHING, findings_of, is_copy, outcome
from ftq.check.survey import Shown, Survey, Tally, counted
from ftq.check.written import Expected
from ftq.errors import UserError
from ftq.examples import dataset, lengths
from ftq.examples.dataset import Examples
from ftq.examples.prompt import completion, prompt
from ftq.examples.recall import Part, Recall
from ftq.examples.report import DatasetReport
from ftq.examples.split import Example, Row
from ftq.facts.fact import RULES
from ftq.spec import models
from ftq.spec.options import RunSpec

STOP = "<end>"  # stands for the stop token of a model that isn't known here
TEMPLATE = Finding(
    "note",
    "rows are shown, and their tokens guessed, without the model's chat template: the worker has it",
    "dataset/preview.html of a run shows them with it.",
)
QUICK = 500_000  # bytes of documents that are read in a second or two
SHOWN = 5  # documents that an error names
Ratio = Callable[[], float]
# what the rows of a rule are called
ROWS = {**RULES, "": "whole sections and records"}


@dataclass(frozen=True)
class File:
    """What one document gives. `outcome` is used, duplicate, empty, no converter, needs OCR, unusable or left out."""

    path: str
    outcome: str
    why: str
    facts: int = 0
    rows: int = 0
    short: int = 0
    tokens: int = 0
    split: int = 0
    duplicates: int = 0


@dataclass(frozen=True)
class Bin:
    """Rows of `low` to `high` tokens."""

    low: int
    high: int
    rows: int


@dataclass(frozen=True)
class Check:
    """`exact`: the tokens are counted, not guessed. `expected` says what a model will be asked. `rules` has the rows of
    each rule; `deviation` is the standard deviation of the rows' lengths."""

    folder: str
    model: str
    exact: bool
    report: DatasetReport
    files: list[File]
    rules: dict[str, int]
    lengths: list[Bin]
    deviation: float
    rows: list[Shown]
    findings: list[Finding]
    expected: str = ""

    @property
    def facts(self) -> int:
        return self.report.questions.facts if self.report.questions else 0

    def of(self, level: Level) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == level]

    def with_finding(self, level: Level, message: str, fix: str) -> Check:
        """The same with one more, behind those of its level."""
        found = sorted([*self.findings, Finding(level, message, fix)], key=lambda one: LEVELS.index(one.level))
        return replace(self, findings=found)

    def refused(self, message: str, fix: str) -> Check:
        """The same with the error for which submit takes none of the documents."""
        none = f"{CORRECT}as long as submit refuses a line, nothing is used."
        found = [replace(one, fix=none) if one.fix.startswith(CORRECT) else one for one in self.findings]
        return replace(self, findings=found).with_finding("error", message, fix)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def check(
    folder: Path,
    spec: RunSpec,
    home: Path | None = None,
    progress: Callable[[float], None] = lambda share: None,
    bytes_per_token: Ratio = lambda: lengths.BYTES_PER_TOKEN,
) -> Check:
    """What the folder would give to a run of this spec; no model in it stands for any.

    `bytes_per_token` is asked where the model's tokenizer isn't here.
    """
    known, context = models.find(spec.model), models.context_of(spec.model)
    is_plain = spec.format == "alpaca"
    counter = lengths.counter_of(spec.model, bytes_per_token) if is_plain else lengths.Guess(bytes_per_token())
    stop = known.stop if known else STOP
    row = Row(min(context or spec.max_seq_length, spec.max_seq_length), counter.one)
    held_out, recall = Path(spec.validation) if spec.validation else None, Recall(spec.seed)
    survey = Survey(folder, lambda example: _texts(example, spec, stop), spec.seed, held_out)
    asked = dataset.questions_of(spec)
    examples = Examples(folder, row, home, progress, asked, validation=held_out, keeps_equal=spec.strict)
    expected = Expected(spec.questions, spec.model)
    for batch, counts in counted(_noted(examples, expected, recall), counter.each, counter.is_native):
        survey.add(batch, [min(row.limit, tokens) for tokens in counts])
    valid = recall.valid(spec.valid_fraction)
    tokens = list(survey.lengths.elements())
    report = examples.report(len(valid), tokens, row.limit, stop, tested=recall.count(valid))
    checked = check_of(str(folder), spec.model, report, survey, counter.exact)
    notes = [Finding("note", expected.said, "They aren't in the numbers here: the worker writes them.")]
    notes = [*(notes if expected.said else []), *([] if is_plain else [TEMPLATE])]
    return replace(checked, findings=[*checked.findings, *notes], expected=expected.said)


def quick(
    folder: Path,
    size: int,
    spec: RunSpec,
    home: Path | None = None,
    bytes_per_token: Ratio = lambda: lengths.BYTES_PER_TOKEN,
) -> Check | None:
    """`check` for somebody who waits: of a large folder (`size` in bytes) only that it isn't useless, and None.

    UserError if no example is in it.
    """
    checked = None
    if size > QUICK:
        examples = Examples(folder, Row(spec.max_seq_length, lengths.Guess().one), home)
        if next(iter(examples), None):
            return None
        skipped = examples.documents.skipped
    else:
        checked = check(folder, spec, home, bytes_per_token=bytes_per_token)
        skipped = checked.report.documents.skipped
    errors = checked.of("error") if checked else [NOTHING]
    if not errors:
        return checked
    why = [f"\n  {file.path}: {file.reason}" for file in skipped]
    more = f"\n  and {len(why) - SHOWN:,} more" if len(why) > SHOWN else ""
    raise UserError(f"documents {folder}: {errors[0].message}{''.join(why[:SHOWN])}{more}", errors[0].fix)


def check_of(folder: str, model: str, report: DatasetReport, survey: Survey, exact: bool = True) -> Check:
    """A check from a dataset's report and from what was seen of its rows."""
    rules = {ROWS.get(rule, rule): number for rule, number in survey.rules.most_common()}
    files, bins, found = _files(report, survey), _bins(survey), findings_of(report, survey)
    return Check(folder, model, exact, report, files, rules, bins, survey.deviation, survey.shown, found)


def told_of(file: File) -> str:
    """What is to be said of a document beside its numbers, or nothing."""
    if file.outcome == "used":
        return file.why
    if file.outcome == "duplicate":
        return f"duplicate {file.why}"
    return file.why if file.why.startswith(file.outcome) else f"{file.outcome}: {file.why}"


def _texts(example: Example, spec: RunSpec, stop: str) -> tuple[str, str]:
    if spec.format == "alpaca":
        return prompt(example["instruction"], example["input"]), completion(example["output"], stop)
    return "\n".join(filter(None, (example["input"], example["instruction"], ""))), example["output"]


def _noted(examples: Iterable[tuple[Example, Part]], expected: Expected, recall: Recall) -> Iterator[Example]:
    for example, part in examples:
        if part is not Part.VALID:
            expected.see(example)
        recall.see(example, part)
        yield example


def _files(report: DatasetReport, survey: Survey) -> list[File]:
    files = []
    for used in report.documents.used:
        tally = survey.files.get(used.path, Tally())
        word, why = ("duplicate", f"of {used.same_as}") if is_copy(used) else ("used", "")
        if used.split:
            why = f"{used.split:,} too long for a row, split"
        files.append(
            File(used.path, word, why, used.facts, tally.rows, tally.short, tally.tokens, used.split, used.duplicates)
        )
    skipped = [File(file.path, outcome(file), file.reason) for file in report.documents.skipped]
    return sorted([*files, *skipped], key=lambda file: file.path)


def _bins(survey: Survey) -> list[Bin]:
    """Bins by powers of two, without the empty ones at both ends."""
    if not survey.lengths:
        return []
    first, last = min(survey.lengths).bit_length(), max(survey.lengths).bit_length()
    counts = dict.fromkeys(range(first, last + 1), 0)
    for tokens, number in survey.lengths.items():
        counts[tokens.bit_length()] += number
    return [Bin(2 ** (bits - 1) if bits else 0, 2**bits - 1, number) for bits, number in counts.items()]
