"""Which questions a run is asked: those that its dataset holds back, the user's own, and some of general knowledge."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ftq.evaluation import own
from ftq.evaluation.evaluation import Kind, Question
from ftq.evaluation.scoring import holds, words_of
from ftq.examples.read import OWN_VALID, VALIDATION
from ftq.examples.recall import LONGEST
from ftq.facts.fact import SILENT
from ftq.files.run_dir import RunDir, read_jsonl
from ftq.questions.conflicts import asked
from ftq.questions.row import order

REFUSALS = 4  # one in so many questions of the dataset may be one that the documents don't answer
SHORT, LONG = 64, 256  # tokens of an answer: at least, at most
TOKENS_OF_WORD = 3  # room for an answer that says as much as the accepted one in other words


@dataclass(frozen=True)
class Chosen:
    """`available` counts the questions that there were to choose from."""

    questions: tuple[Question, ...]
    available: dict[Kind, int]

    @property
    def counts(self) -> dict[Kind, int]:
        return dict(Counter(question.kind for question in self.questions))


def choose(run: RunDir, most: int, seed: int) -> Chosen:
    """At most `most` questions of the dataset, always the same ones for a seed; all of the user's own; the general set.

    None if `most` is 0.
    """
    if not most:
        return Chosen((), {})
    mine = own.read(run.own_questions) if run.own_questions.is_file() else []
    worded, unanswerable = held_back(run.dataset)
    refusals = _sample(unanswerable, max(1, most // REFUSALS), seed)
    return _all(
        [*mine, *_sample(worded, most - len(refusals), seed), *refusals, *general()],
        [*mine, *worded, *unanswerable, *general()],
    )


def only(questions: Sequence[Question]) -> Chosen:
    """These, and nothing else."""
    return _all(questions, questions)


def held_back(dataset: Path) -> tuple[list[Question], list[Question]]:
    """(other wordings of what train has, questions that the documents don't answer) from valid.jsonl.

    A record or a section tests recall only where train has its answer too, unless the user has held it out: a
    `valid.jsonl` of the user's own is all questions.
    """
    rows = list(read_jsonl(dataset / "valid.jsonl")) if (dataset / "valid.jsonl").is_file() else []
    facts = [row for row in rows if row.get("rule")]
    others = [row for row in rows if not row.get("rule") and len(words_of(row["output"])) <= LONGEST]
    taught = _taught(dataset / "train.jsonl", others)
    others = [row for row in others if _is_users(row) or asked(row["output"]) in taught]
    worded = [_question(row) for row in [*facts, *others] if row.get("rule") != SILENT]
    unanswerable = [_question(row) for row in facts if row["rule"] == SILENT]
    return [one for one in worded if min(len(words_of(answer)) for answer in one.answers) <= LONGEST], unanswerable


@cache
def general() -> tuple[Question, ...]:
    """The set that ships with ftq: general.json, which states its licence."""
    value = json.loads(files("ftq.evaluation").joinpath("general.json").read_text(encoding="utf-8"))
    return tuple(Question(Kind.GENERAL, one["question"], tuple(one["answers"])) for one in value["questions"])


def most_tokens(questions: Iterable[Question], limit: int) -> int:
    """How long an answer may get: room for each accepted one and more, so that who goes on doesn't stop by itself.

    Never more than `limit`, the run's own.
    """
    longest = max((len(words_of(answer)) for one in questions for answer in one.answers), default=0)
    return min(limit, LONG, max(SHORT, TOKENS_OF_WORD * longest))


def _taught(train: Path, wanted: list[dict[str, Any]]) -> set[str]:
    """Which of the wanted rows' answers train has too."""
    left = {asked(row["output"]) for row in wanted}
    if not left or not train.is_file():
        return set()
    return {output for row in read_jsonl(train) if (output := asked(row["output"])) in left}


def _is_users(row: dict[str, Any]) -> bool:
    return str(row.get("source", "")).startswith(
        tuple(f"{folder}{name}#" for folder in ("", VALIDATION) for name in OWN_VALID)
    )


def _question(row: dict[str, Any]) -> Question:
    """A row's answers: its output, and the value alone unless the question gives that away."""
    text, before, source = row["instruction"], row.get("input") or "", row.get("source", "")
    if row.get("rule") == SILENT:
        return Question(Kind.UNANSWERABLE, text, input=before, source=source)
    value = row.get("value", "")
    told = (value,) if value and not holds(f"{text} {before}", [value]) else ()
    return Question(Kind.HELD_BACK, text, tuple(dict.fromkeys((*told, row["output"]))), before, source)


def _sample(questions: list[Question], most: int, seed: int) -> list[Question]:
    """So many, drawn by the seed, in the order of the dataset."""
    drawn = sorted(range(len(questions)), key=lambda number: order(seed, questions[number].text, "evaluate"))[:most]
    return [questions[number] for number in sorted(drawn)]


def _all(questions: Sequence[Question], available: Sequence[Question]) -> Chosen:
    return Chosen(tuple(questions), dict(Counter(question.kind for question in available)))
