"""Questions to a finished run, scored: `ftq eval`. A worker answers them as it does those of `ftq infer`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftq.client import view
from ftq.errors import FtqError, Refused, UserError
from ftq.evaluation import own
from ftq.evaluation.choose import Chosen, choose, most_tokens, only
from ftq.evaluation.compare import Comparison, Side, same_file
from ftq.evaluation.compare import compare as compare_sides
from ftq.evaluation.evaluation import BASE, DOCUMENTS, Asked, Evaluation, Question, Scores, tuned
from ftq.evaluation.score import Replies, Reply, evaluation_of, scores, side_by_side
from ftq.evaluation.verdicts import is_worse
from ftq.files.artifact import gguf_name
from ftq.files.run_dir import STAGES, read_jsonl
from ftq.store.records import Run

if TYPE_CHECKING:
    from ftq.client.client import Client

EVALUATE = STAGES[-1]
SAME, TWO = "both names mean the run {}", "Name another one: `ftq status` lists them."
ASKED = 60  # of the dataset's questions, where the run's own evaluation was switched off
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Subject:
    """Who is asked: `name` in the table, the run, and the options of its questions."""

    name: str
    run: Run
    options: dict[str, Any]


def evaluate(
    client: Client,
    wanted: str,
    questions: Path | None = None,
    against: str | None = None,
    progress: Progress = lambda subject, done, of: None,
) -> Evaluation:
    """Ask the run's base model and each of its files, and with `against` another run's file, the same questions.

    That file is of a quantization that both have, else its first. The questions are those of `questions`, else those
    that the run's evaluation asks. FtqError if nobody answers.
    """
    began = time.monotonic()
    run = client.find(wanted)
    other = client.find(against) if against else None
    if against and other and other.id == run.id:
        raise UserError(SAME.format(run.name), TWO)
    for one in (run, other):
        if one:
            client.check_bucket(one)
    chosen, notes = _without_context(_questions(client, run, questions))
    if not chosen.questions:
        raise Refused(f"there is no question to ask {run.name}", "Name a file with --questions: docs/evaluation.md.")
    tokens = most_tokens(chosen.questions, run.spec["max_tokens"])
    files = _quantizations(client, run)
    pair = same_file(files, _quantizations(client, other)) if other else ("", "")
    subjects = _subjects(run, files, other, pair[1])
    replies = list(_ask(client, subjects, chosen.questions, tokens, notes, progress))
    asked = side_by_side(chosen.questions, replies)
    scores = [_scores(client, run, asked, one.subject) for one in replies]
    mine = [one for one in scores if other is None or not one.subject.startswith(f"{other.name} ")]
    folder = client.run_dir(run.id)
    evaluation = evaluation_of(
        folder, run.spec, chosen, asked, scores, mine, max_tokens=tokens, began=began, notes=notes
    )
    return replace(evaluation, against=_against(run, other, asked, scores, pair[0]) if other else "").of_run(run.name)


def compare(client: Client, a: str, b: str) -> Comparison:
    """Two runs side by side, from what is recorded of them. Nobody is asked. UserError for one run under two names."""
    runs = [client.find(wanted) for wanted in (a, b)]
    sides = [_side(client, run) for run in runs]
    if runs[0].id == runs[1].id:
        raise UserError(SAME.format(runs[0].name), TWO)
    return compare_sides(*sides)


def _questions(client: Client, run: Run, file: Path | None) -> Chosen:
    if file:
        return only(own.read(file, "--questions FILE"))
    spec = run.spec
    return choose(client.report_dir(run), spec.get("eval_questions") or ASKED, spec["seed"])


def _without_context(chosen: Chosen) -> tuple[Chosen, list[str]]:
    """Only questions that stand alone can be sent to a worker: (those, a note on the others)."""
    alone = tuple(one for one in chosen.questions if not one.input)
    left = len(chosen.questions) - len(alone)
    notes = [f"{left} questions go on from a chat: only the stage evaluate can ask them."] if left else []
    return replace(chosen, questions=alone), notes


def _subjects(run: Run, files: Sequence[str], other: Run | None, theirs: str) -> list[Subject]:
    """Base, the run's files in the order of its options, a file of the other run."""
    own_files = [Subject(quant, run, {"quant": quant}) for quant in files]
    others = [Subject(f"{other.name} {theirs}", other, {"quant": theirs})] if other else []
    return [Subject(BASE, run, {"base": True}), *own_files, *others]


def _quantizations(client: Client, run: Run) -> list[str]:
    made = client.quantizations(run)
    there = [name for name in tuned(run.spec["quantizations"]) if name in made]
    if not there:
        raise client.no_model(run)
    return there


def _ask(
    client: Client,
    subjects: Sequence[Subject],
    questions: Sequence[Question],
    tokens: int,
    notes: list[str],
    progress: Progress,
) -> Iterator[Replies]:
    """Everybody's replies. A base model that can't be asked is noted: the others are worth asking all the same."""
    for subject in subjects:
        try:
            yield Replies(subject.name, list(_replies(client, subject, questions, tokens, progress)), 0.0)
        except FtqError as error:
            if subject.name != BASE:
                raise
            notes.append(error.line)


def _replies(
    client: Client, subject: Subject, questions: Sequence[Question], tokens: int, progress: Progress
) -> Iterator[Reply]:
    options = {**subject.options, "max_tokens": tokens, "temperature": 0.0, "seed": subject.run.spec["seed"]}
    progress(subject.name, 0, len(questions))
    prompts = [question.text for question in questions]
    for number, answer in enumerate(client.ask_many(subject.run.id, prompts, **options), start=1):
        if error := answer.get("error"):
            raise FtqError(error["message"], error["hint"])
        yield Reply(answer["answer"], answer["stopped"], answer["tokens"])
        progress(subject.name, number, len(questions))


def _scores(client: Client, run: Run, asked: Sequence[Any], subject: str) -> Scores:
    return scores(asked, subject, 0.0, file_bytes=client.bytes_of(run, gguf_name(subject)))


def _against(run: Run, other: Run, asked: Sequence[Asked], scores: Sequence[Scores], file: str) -> str:
    """Which of the two runs knows more, or that the difference may be chance; empty if nothing was asked of that.

    `file` is which of the run's own is compared with the other run's.
    """
    mine, theirs = next(one for one in scores if one.subject == file), scores[-1]
    counts = f"{mine.right} of {mine.answerable} right, {other.name} {theirs.right}"
    if not mine.answerable:
        return ""
    if is_worse(asked, mine.subject, theirs.subject, *DOCUMENTS):
        text = f"{run.name} is worse than {other.name}: {counts}."
    elif is_worse(asked, theirs.subject, mine.subject, *DOCUMENTS):
        text = f"{run.name} is better than {other.name}: {counts}."
    elif mine.right != theirs.right:
        how = "worse" if mine.right < theirs.right else "better"
        text = f"Whether {run.name} is {how} than {other.name} is uncertain: {counts}, which may be chance."
    else:
        text = f"{run.name} has as many right as {other.name}: {mine.right} of {mine.answerable}."
    return f"{text} `ftq compare {run.name} {other.name}` shows what differs."


def _side(client: Client, run: Run) -> Side:
    path = client.report_dir(run).answers
    answers = {row["prompt"]: row["answer"] for row in read_jsonl(path)} if path.is_file() else {}
    evaluation = view.evaluation(run, client.settings.home)
    why = "" if evaluation else _unevaluated(client, run)
    return Side(run.name, run.spec, run.documents_hash, view.loss(run), evaluation, answers, why)


def _unevaluated(client: Client, run: Run) -> str:
    """Why a run has no evaluation, and what to type."""
    name, stage = run.name, run.current.name if run.current else EVALUATE
    if run.status == "succeeded" or (stage == EVALUATE and len(run.stages) < len(STAGES)):
        away = client.elsewhere(run) if run.status == "succeeded" else None
        return away.text if away else f"{name} has no evaluation: `ftq retry {name} --from {EVALUATE}` makes one."
    why, then = run.standing
    is_none = "isn't evaluated yet" if run.goes_on else "has no evaluation"
    return f"{name} {is_none}, {why}: {then}"
