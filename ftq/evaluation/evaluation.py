"""eval.json: how the base model and each file of a run answered the same questions."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from ftq.errors import UNREADABLE, with_run

FORMAT = 1
BASE = "base"  # the subject that wasn't tuned
FEWEST = 5  # questions on the documents that say anything of a model
KEPT_QUESTIONS = 100  # of each kind, whose answers eval.json has; all of them are counted
KEPT_CHARACTERS = 1000  # of an answer


def tuned(quantizations: Sequence[str]) -> list[str]:
    """The tuned subjects, f16 first: the others are compared with it."""
    return sorted(quantizations, key=lambda name: name != "f16")


class Kind(StrEnum):
    """Where a question comes from, and so what its answer tells."""

    HELD_BACK = "held_back"  # another wording of what training had
    OWN = "own"  # from the user's own file, with accepted answers
    UNANSWERABLE = "unanswerable"  # nothing in the documents answers it
    GENERAL = "general"  # general knowledge, which training may have wiped out


DOCUMENTS = (Kind.HELD_BACK, Kind.OWN)  # what the documents answer


class Verdict(StrEnum):
    RIGHT = "right"
    WRONG = "wrong"
    REFUSED = "refused"  # says that it doesn't know


@dataclass(frozen=True)
class Question:
    """`answers` are those that are accepted; none if nothing in the documents answers it. `input` is what was said
    before. `source` says which document the answer stands in."""

    kind: Kind
    text: str
    answers: tuple[str, ...] = ()
    input: str = ""
    source: str = ""


@dataclass(frozen=True)
class Said:
    """One subject's answer. `cut` counts the characters that eval.json leaves out at its end."""

    answer: str
    verdict: Verdict
    f1: float
    stopped: bool
    tokens: int
    cut: int = 0


@dataclass(frozen=True)
class Asked:
    """A question, and what each subject said."""

    question: Question
    said: dict[str, Said]


@dataclass(frozen=True)
class Tally:
    """Verdicts on the questions of one kind. For the unanswerable ones `refused` is what is right."""

    asked: int = 0
    right: int = 0
    wrong: int = 0
    refused: int = 0


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How one subject did. `subject` is `base` or a quantisation.

    `exact`, `f1` and `rouge_l` are means from 0 to 1 over the questions that the documents answer, None without any.
    `stop_rate` is the share of the answers that the model ended by itself, `tokens_per_second` that of all questions
    together. What isn't known is None: `validation_loss` comes from training, `perplexity` and `kl` (against f16) from
    the export. The validation loss stands with the first tuned subject: it is that of the adapter.
    """

    subject: str
    tally: dict[Kind, Tally]
    exact: float | None = None
    f1: float | None = None
    rouge_l: float | None = None
    stop_rate: float | None = None
    mean_tokens: float | None = None
    tokens_per_second: float | None = None
    seconds: float | None = None
    file_bytes: int | None = None
    validation_loss: float | None = None
    perplexity: float | None = None
    kl: float | None = None

    @property
    def answerable(self) -> int:
        """Questions that the documents answer."""
        return sum(self.of(kind).asked for kind in DOCUMENTS)

    @property
    def right(self) -> int:
        """Of the answerable questions."""
        return sum(self.of(kind).right for kind in DOCUMENTS)

    @property
    def refused_wrongly(self) -> int:
        """Of the answerable questions."""
        return sum(self.of(kind).refused for kind in DOCUMENTS)

    def of(self, kind: Kind) -> Tally:
        return self.tally.get(kind, Tally())


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What came of a run. `subjects` are the base model, then the tuned files, f16 first.

    `counts` says how many questions of each kind were asked, `available` how many there were to choose from.
    `questions` has the first KEPT_QUESTIONS of each kind with the answers, `left_out` counts the others. `verdict` says
    what is wrong and what to change, a sentence or two each; it is empty if nothing is wrong. `notes` says what
    couldn't be asked, and why. `against` says how another run did that was asked the same, if one was.
    """

    model: str
    counts: dict[Kind, int]
    available: dict[Kind, int]
    max_tokens: int
    seconds: float
    subjects: tuple[Scores, ...]
    questions: tuple[Asked, ...] = ()
    left_out: int = 0
    verdict: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    against: str = ""
    format: int = FORMAT

    @property
    def base(self) -> Scores | None:
        return next((one for one in self.subjects if one.subject == BASE), None)

    @property
    def tuned(self) -> tuple[Scores, ...]:
        return tuple(one for one in self.subjects if one.subject != BASE)

    def of_run(self, name: str) -> Evaluation:
        """Put the run's name into the commands: the file has none, for several runs may share it."""
        return replace(self, verdict=tuple(with_run(text, name) for text in self.verdict))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"format": self.format, **asdict(self)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Evaluation:
        """KeyError or TypeError for what is no evaluation; keys of a later version are left aside."""
        return cls(
            **_known(cls, value)
            | {
                "counts": {Kind(kind): count for kind, count in value["counts"].items()},
                "available": {Kind(kind): count for kind, count in value["available"].items()},
                "subjects": tuple(map(_scores, value["subjects"])),
                "questions": tuple(map(_asked, value["questions"])),
                "verdict": tuple(value["verdict"]),
                "notes": tuple(value["notes"]),
            }
        )

    @classmethod
    def read(cls, path: Path) -> Evaluation:
        """An eval.json. OSError if there is none."""
        return cls.from_json(json.loads(path.read_text(encoding="utf-8")))

    @classmethod
    def read_if_whole(cls, path: Path) -> Evaluation | None:
        """An eval.json; None if there is none, or none that can be read."""
        with contextlib.suppress(*UNREADABLE):
            return cls.read(path)
        return None


def kept(asked: Sequence[Asked]) -> tuple[tuple[Asked, ...], int]:
    """(what eval.json holds of the answers, how many questions it leaves out)."""
    met, first = Counter[Kind](), list[Asked]()
    for one in asked:
        met[one.question.kind] += 1
        if met[one.question.kind] <= KEPT_QUESTIONS:
            first.append(replace(one, said={subject: _short(said) for subject, said in one.said.items()}))
    return tuple(first), len(asked) - len(first)


def _short(said: Said) -> Said:
    cut = max(0, len(said.answer) - KEPT_CHARACTERS)
    return replace(said, answer=said.answer[:KEPT_CHARACTERS], cut=cut)


def _scores(value: dict[str, Any]) -> Scores:
    tally = {Kind(kind): Tally(**counts) for kind, counts in value["tally"].items()}
    return Scores(**_known(Scores, value) | {"tally": tally})


def _asked(value: dict[str, Any]) -> Asked:
    raw, said = value["question"], value["said"]
    question = _known(Question, raw) | {"kind": Kind(raw["kind"]), "answers": tuple(raw["answers"])}
    answers = {name: Said(**_known(Said, one) | {"verdict": Verdict(one["verdict"])}) for name, one in said.items()}
    return Asked(Question(**question), answers)


def _known(cls: Any, value: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(cls)}
    return {name: given for name, given in value.items() if name in names}
