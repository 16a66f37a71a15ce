"""The base model and each of the run's GGUF files answer the same questions: eval.json.

One llama.cpp server and one question at a time, so that a file answers the same on a busy machine. Answers end soon:
what counts is whether they hold an accepted one. `ftq eval` asks the same later, through a worker for questions.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ftq.errors import FtqError, Lost, OutOfMemory, UserError
from ftq.evaluation import measured
from ftq.evaluation.choose import choose, most_tokens
from ftq.evaluation.evaluation import BASE, Asked, Question, Scores, tuned
from ftq.evaluation.score import Replies, Reply, evaluation_of, scores, side_by_side
from ftq.examples.report import DatasetReport
from ftq.files.run_dir import RunDir, write_json
from ftq.report.gather import run_of
from ftq.spec.options import RunSpec
from worker.llama import answer as llama
from worker.llama.base import base_gguf
from worker.llama.pool import Pool
from worker.stages.evaluate.present import present
from worker.stages.process.main import Report


@dataclass(frozen=True)
class Subject:
    """Who answers: `base`, or a quantisation. `chat`: through the GGUF's chat template, not by ftq's own prompt."""

    name: str
    file: Path
    chat: bool


def evaluate(run: RunDir, out: Path, spec: RunSpec, report: Report) -> None:
    """Write eval.json into `out`, and the report.

    With eval_questions=0 nobody is asked: it has what earlier stages have measured.
    """
    began = time.monotonic()
    chosen = choose(run, spec.eval_questions, spec.seed)
    tokens = most_tokens(chosen.questions, spec.max_tokens)
    notes = [] if chosen.questions else ["Nobody was asked: eval_questions is 0."]
    files = _tuned(run, spec)
    base = _base(run, spec, notes) if chosen.questions else []
    replies = _ask([*base, *files], chosen.questions, tokens, spec.seed, report, notes)
    asked = side_by_side(chosen.questions, replies)
    seconds = {one.subject: one.seconds for one in replies}
    subjects = _scores(run, spec, [*base, *files], asked, seconds)
    answered = [one for one in subjects if one.subject in seconds]
    options = spec.model_dump()
    evaluation = evaluation_of(
        run, options, chosen, asked, subjects, answered, max_tokens=tokens, began=began, notes=notes
    )
    write_json(out / "eval.json", evaluation.to_json())
    present(run_of(run, "evaluate"), run, out, lambda text: report.event("warning", text))
    for text in evaluation.verdict:
        report.event("warning", text)
    report.progress(100)


def _tuned(run: RunDir, spec: RunSpec) -> list[Subject]:
    """The run's files, f16 first: the others are compared with it."""
    names = tuned(spec.quantizations)
    for name in names:
        if not run.gguf(name).is_file():
            raise UserError(f"{run.gguf(name)} is not there yet", "Run the export stage first.")
    return [Subject(name, run.gguf(name), spec.format == "chat") for name in names]


def _base(run: RunDir, spec: RunSpec, notes: list[str]) -> list[Subject]:
    """The untuned model as q8_0; none, with a note, if it can't be made: the others are worth asking all the same."""
    try:
        file = base_gguf(spec.model, DatasetReport.read(run.dataset).base_revision)
    except (Lost, OutOfMemory):
        raise
    except FtqError as error:
        notes.append(error.line)
        return []
    return [Subject(BASE, file, chat=True)]


def _ask(
    subjects: Sequence[Subject],
    questions: Sequence[Question],
    tokens: int,
    seed: int,
    report: Report,
    notes: list[str],
) -> list[Replies]:
    """Every subject's replies, one model in memory at a time. A file that this machine has too little for is noted."""
    pool, replies = Pool(most=1, slots=1), list[Replies]()
    try:
        for number, subject in enumerate(subjects if questions else ()):
            asked = [llama.Question(one.text, one.input, tokens, 0.0, seed, subject.chat) for one in questions]
            try:
                with pool.server(subject.file):  # loading the model isn't answering
                    began = time.monotonic()
                own = _replies(pool, subject, asked, report, number / len(subjects), len(subjects))
            except OutOfMemory as error:
                notes.append(f"{subject.name} wasn't asked: {error.line}")
                continue
            replies.append(Replies(subject.name, own, time.monotonic() - began))
            print(f"{subject.name}: {len(own)} answers in {replies[-1].seconds:.1f} s", flush=True)
    finally:
        pool.close()
    return replies


def _replies(
    pool: Pool, subject: Subject, asked: list[llama.Question], report: Report, done: float, subjects: int
) -> list[Reply]:
    replies = list[Reply]()
    for answer in pool.ask_all(subject.file, asked):
        replies.append(Reply(answer.answer, answer.stopped, answer.tokens))
        report.progress(100 * (done + len(replies) / len(asked) / subjects))
    return replies


def _scores(
    run: RunDir, spec: RunSpec, subjects: Sequence[Subject], asked: Sequence[Asked], seconds: dict[str, float]
) -> list[Scores]:
    """Each subject's scores, with what earlier stages have measured of its file."""
    files, losses = measured.of_files(run), {_first(subjects): measured.validation_loss(run, spec.keep_best)}
    return [
        scores(
            asked if one.name in seconds else [],
            one.name,
            seconds.get(one.name, 0.0),
            file_bytes=one.file.stat().st_size,
            validation_loss=losses.get(one.name),
            **(files.get(one.name, {}) if one.name != BASE else {}),
        )
        for one in subjects
    ]


def _first(subjects: Sequence[Subject]) -> str:
    return next(one.name for one in subjects if one.name != BASE)
