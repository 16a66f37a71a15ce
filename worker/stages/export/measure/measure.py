"""What is measured on a run's model, step by step, and put together as export.json."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ftq.errors import UserError
from ftq.files.disk import size_of
from ftq.files.export_report import Distance, ExportReport, GgufReport, Parity, Stops
from ftq.files.run_dir import RunDir, read_jsonl
from worker.gguf.holds import held
from worker.llama import logits
from worker.llama.pool import Pool
from worker.machine import hardware
from worker.stages.export.measure import agreement, bounds, checks
from worker.stages.export.measure.sample import Sample
from worker.stages.export.measure.steps import Steps
from worker.stages.model.check import parity
from worker.stages.model.tokens import Tokens
from worker.stages.process.main import Report

CONTEXT = 512  # tokens: the checks need no more, and a model's whole context would take gigabytes
USABLE = 0.8  # of the machine's memory: a larger model would be read from the disk again for every row


class Measure:
    """Call `merged`, `converted` and `files` in this order. Each tells the user what is worth knowing."""

    def __init__(self, sample: Sample, tokens: Tokens, stop: str, report: Report, scratch: Path, steps: Steps) -> None:
        self._steps, self._done, self._checks = steps, 0, 1
        self._sample, self._tokens, self._stop, self._report = sample, tokens, stop, report
        self._merged, self._f16 = scratch / "merged.npy", scratch / "f16.npy"
        self._notes = list[str]()
        self._merge: Distance | None = None
        self._first: logits.Scored | None = None
        self._first_kind = ""

    def merged(self, model_dir: Path, adapter: Path, merged: Path) -> None:
        """Compare the merged model with base + adapter. UserError if it is no merge of them."""
        if self._can_compute(merged):
            with self._steps.step("comparing the merged model with base and adapter"):
                self._merge = agreement.check(model_dir, adapter, merged, self._sample.rows, self._merged)
            self._tell(bounds.rounded("the merged model", "base and adapter", self._merge, bounds.MERGED_KL))

    def converted(self, file: Path, kind: str) -> None:
        """Compare the converter's first file with the merged model. UserError if it computes something else."""
        self._first_kind = kind
        with self._steps.step(f"comparing {file.name} with the merged model"):
            self._first = self._score(file, self._merged, self._f16)
        if not self._first or not (distance := self._first.distance):
            return
        if bounds.is_misread(distance):
            raise UserError(
                f"{file.name} doesn't say what the merged model says: a KL of {distance.kl:.3f}, the same next token "
                f"at {distance.top1:.0%} of {distance.positions} positions: llama.cpp's converter misreads this model",
                "Take another base model, or use the adapter as it is: `ftq pull RUN --as adapter`.",
            )
        self._tell(bounds.rounded(file.name, "the merged model", distance, bounds.CONVERTED_KL))

    def files(self, run: RunDir, merged: Path, files: dict[str, Path], weighed: list[str]) -> ExportReport:
        """Ask every file, and measure those that were quantised. FtqError for a file that is no use."""
        same: Parity | None = None
        examples = read_jsonl(run.dataset / "train.jsonl")
        reports = list[GgufReport]()
        pool, self._checks = Pool(most=1, context=CONTEXT), 3 * len(files)
        try:
            for kind, file in files.items():
                with self._checking(f"loading {file.name}"), pool.server(file) as server:
                    end = checks.end_of_sequence(server, file, self._stop)
                if not same:
                    with self._steps.step("comparing prompts"), pool.server(file) as server:
                        same = parity.check(examples, self._tokens, self._stop, server, merged)
                with self._checking(f"asking {file.name} {len(self._sample.questions)} questions"):
                    stops = checks.ask(pool, file, self._sample)
                with self._checking(f"measuring {file.name}"):
                    report = self._of_file(file, kind, end, stops)
                reports.append(replace(report, importance=kind in weighed))
        finally:
            pool.close()
        assert same
        self._tell_parity(same)
        conversion = self._first.distance if self._first else None
        taken = self._steps.taken
        return ExportReport(self._stop, same, tuple(reports), self._merge, conversion, tuple(self._notes), taken)

    @contextmanager
    def _checking(self, name: str) -> Generator[None]:
        """A step of the checks of files, after which the export is as much further."""
        with self._steps.step(name):
            yield
        self._done += 1
        self._steps.reached(70 + 30 * self._done / self._checks)

    def _of_file(self, file: Path, kind: str, end: int, stops: Stops) -> GgufReport:
        f16 = self._first if self._first_kind == "f16" else None
        scored = self._first if kind == self._first_kind else self._score(file, self._f16 if f16 else None)
        report = GgufReport(file.name, kind, size_of(file), checks.sha256(file), end, stops, holds=held(file))
        if scored:
            against = scored.distance if f16 and kind != "f16" else None
            report = replace(report, perplexity=scored.perplexity, against_f16=against)
        notes = bounds.notes(report, f16.perplexity if f16 else None)
        for note in notes:
            self._report.event("warning", note)
        return replace(report, notes=tuple(notes))

    def _score(self, file: Path, reference: Path | None, keep: Path | None = None) -> logits.Scored | None:
        """None if it can't be computed here; the server, whose llama.cpp may be newer, then decides on the file."""
        if not self._sample.rows or not self._can_compute(file):
            return None
        known = reference if reference and reference.is_file() else None
        try:
            return logits.score(file, self._sample.rows, reference=known, keep=keep)
        except logits.Unreadable as error:
            self._note(f"{file.name} isn't measured: {error.message}")
            return None

    def _can_compute(self, model: Path) -> bool:
        if not self._sample.rows:
            return False
        need, have = size_of(model), hardware.machine_memory()
        if need > USABLE * have:
            self._note(f"{model.name} isn't measured: it has {need / 1e9:.1f} GB, this machine {have / 1e9:.1f}")
            return False
        return True

    def _tell_parity(self, same: Parity) -> None:
        if same.different:
            self._note(
                f"{same.different} of {same.prompts} prompts aren't the same in ftq, transformers and llama.cpp: "
                f"answers may be worse. {same.examples[0]}"
            )

    def _tell(self, notes: list[str]) -> None:
        for note in notes:
            self._note(note)

    def _note(self, text: str) -> None:
        self._notes.append(text)
        self._report.event("warning", text)
