"""From answers to an evaluation: each answer judged, one subject's answers counted, and what is to be said of it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ftq.evaluation.choose import Chosen
from ftq.evaluation.evaluation import DOCUMENTS, Asked, Evaluation, Kind, Question, Said, Scores, Tally, Verdict, kept
from ftq.evaluation.measured import as_trained
from ftq.evaluation.scoring import f1, is_exact, judge, rouge_l
from ftq.evaluation.verdicts import verdicts
from ftq.files.run_dir import RunDir


@dataclass(frozen=True)
class Reply:
    """What a model answered; `stopped`: it ended the answer itself. `tokens` counts the answer's."""

    text: str
    stopped: bool
    tokens: int


@dataclass(frozen=True)
class Replies:
    """One subject's replies to all questions, in their order, and how long they took together."""

    subject: str
    replies: Sequence[Reply]
    seconds: float


def side_by_side(questions: Sequence[Question], subjects: Sequence[Replies]) -> list[Asked]:
    """Each question with what every subject said to it."""
    return [
        Asked(question, {one.subject: _said(question, one.replies[number]) for one in subjects})
        for number, question in enumerate(questions)
    ]


def evaluation_of(
    run: RunDir,
    spec: dict[str, Any],
    chosen: Chosen,
    asked: Sequence[Asked],
    subjects: Sequence[Scores],
    judged: Sequence[Scores],
    *,
    max_tokens: int,
    began: float,
    notes: Sequence[str],
) -> Evaluation:
    """The evaluation of a run; the verdict is on `judged`, some of the subjects. `began` is time.monotonic's."""
    questions, left_out = kept(asked)
    left = sum(chosen.available.get(kind, 0) - chosen.counts.get(kind, 0) for kind in DOCUMENTS)
    return Evaluation(
        model=spec["model"],
        counts=chosen.counts,
        available=chosen.available,
        max_tokens=max_tokens,
        seconds=round(time.monotonic() - began, 1),
        subjects=tuple(subjects),
        questions=questions,
        left_out=left_out,
        verdict=tuple(verdicts(asked, judged, as_trained(run, spec), left)),
        notes=tuple(notes),
    )


def scores(asked: Sequence[Asked], subject: str, seconds: float, **known: Any) -> Scores:
    """One subject's scores; `known` are those of its file."""
    if not asked:
        return Scores(subject=subject, tally={}, **known)
    said = [(one.question, one.said[subject]) for one in asked]
    on_documents = [(question, one) for question, one in said if question.kind in DOCUMENTS]
    tokens = sum(one.tokens for _, one in said)
    return Scores(
        subject=subject,
        tally=_tally(said),
        exact=_mean([float(is_exact(one.answer, question.answers)) for question, one in on_documents]),
        f1=_mean([one.f1 for _, one in on_documents]),
        rouge_l=_mean([rouge_l(one.answer, question.answers) for question, one in on_documents]),
        stop_rate=_mean([float(one.stopped) for _, one in said]),
        mean_tokens=round(tokens / len(said), 1),
        tokens_per_second=round(tokens / seconds, 1) if seconds else None,
        seconds=round(seconds, 1) if seconds else None,
        **known,
    )


def _said(question: Question, reply: Reply) -> Said:
    similar = round(f1(reply.text, question.answers), 4)
    return Said(reply.text, judge(question, reply.text), similar, reply.stopped, reply.tokens)


def _tally(said: Sequence[tuple[Question, Said]]) -> dict[Kind, Tally]:
    verdicts: Mapping[Kind, list[Verdict]] = defaultdict(list)
    for question, one in said:
        verdicts[question.kind].append(one.verdict)
    return {
        kind: Tally(len(of_kind), *(of_kind.count(one) for one in (Verdict.RIGHT, Verdict.WRONG, Verdict.REFUSED)))
        for kind, of_kind in verdicts.items()
    }


def _mean(values: Sequence[float]) -> float | None:
    return round(fmean(values), 4) if values else None
