"""Word dropout: the questions that ftq made of the documents lose some of their words, other ones in each epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

from ftq.examples.report import DatasetReport
from ftq.examples.split import Example
from ftq.files.run_dir import read_jsonl
from ftq.questions.shortened import shortened
from ftq.questions.wordings import language
from ftq.spec.options import RunSpec
from worker.stages.model import rows
from worker.stages.model.rows import Row
from worker.stages.model.tokens import Tokens


def varied(whole: list[Row], dataset: Path, model_dir: Path, spec: RunSpec, report: DatasetReport) -> list[Row]:
    """The rows of train.jsonl, as `Varied` where the run asks for it and ftq has made questions."""
    return Varied(whole, dataset, model_dir, spec, report) if spec.word_dropout and report.questions else whole


class Varied(list[Row]):
    """The rows as an epoch has them: `begin` it. Sections, records and answers are always whole.

    What an epoch leaves out depends on the seed, the epoch and a row's number alone: all ranks leave out the same, and
    a resumed run goes on with the same. No row gets longer than its whole one, by which memory is planned.
    """

    def __init__(self, whole: list[Row], dataset: Path, model_dir: Path, spec: RunSpec, report: DatasetReport) -> None:
        super().__init__(whole)
        self._whole, self._examples, self._spec, self._stop = whole, dataset / "train.jsonl", spec, report.stop
        self._tokens = Tokens(model_dir, spec.format)
        self._common = language(report.questions.language).common if report.questions else frozenset[str]()
        self._counted: dict[int, int] = {}  # tokens of each epoch
        self._epoch: int | None = None

    def begin(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        self[:] = self._whole
        for number, row in self._shortened(epoch):
            if len(row["input_ids"]) < len(self._whole[number]["input_ids"]):
                self[number] = row
        self._epoch, self._counted[epoch] = epoch, sum(len(row["input_ids"]) for row in self)

    def tokens(self, epochs: float) -> int:
        """Tokens of so many epochs; of the last one maybe a part."""
        for epoch in set(range(math.ceil(epochs))) - set(self._counted):
            self.begin(epoch)
        return round(sum(self._counted[epoch] * min(1.0, epochs - epoch) for epoch in range(math.ceil(epochs))))

    def _shortened(self, epoch: int) -> Iterator[tuple[int, Row]]:
        fewer = self._with_fewer_words(epoch)
        while batch := list(islice(fewer, rows.BATCH)):
            examples = [example for _, example in batch]
            encoded = rows.encoded(self._tokens, examples, self._stop, self._spec.train_on_prompt)
            yield from zip((number for number, _ in batch), encoded, strict=True)

    def _with_fewer_words(self, epoch: int) -> Iterator[tuple[int, Example]]:
        share = float(self._spec.word_dropout)
        for number, example in enumerate(read_jsonl(self._examples)):
            if rule := example.get("rule"):
                random = Random(f"{self._spec.seed}.{epoch}.{number}")
                question = shortened(example["instruction"], rule, share, random, self._common)
                if question != example["instruction"]:
                    yield number, {**example, "instruction": question}
