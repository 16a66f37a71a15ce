"""Two runs side by side: options that differ, scores on the questions that both were asked, their answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ftq.evaluation.evaluation import BASE, Asked, Evaluation, Question, Said, Scores

OTHERS = "None of the questions was asked of both"
# What stays with a subject whatever it is asked.
KEPT = ("file_bytes", "validation_loss", "perplexity", "kl", "tokens_per_second", "seconds")


@dataclass(frozen=True)
class Side:
    """One of the runs. `answers` are those to its own prompts: {prompt: answer}.

    `unevaluated` says why there is no evaluation, and what to type.
    """

    name: str
    spec: Mapping[str, Any]
    documents_hash: str
    loss: float | None
    evaluation: Evaluation | None
    answers: Mapping[str, str]
    unevaluated: str = ""


@dataclass(frozen=True)
class Option:
    name: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Pair:
    """The answers of both to one question; `a_right` and `b_right` are None for a prompt that has no accepted one.

    `a_file` and `b_file` say which quantization of the run answered, or `adapter`.
    """

    question: str
    a: str
    b: str
    a_file: str
    b_file: str
    a_right: bool | None = None
    b_right: bool | None = None

    @property
    def differs(self) -> bool:
        return self.a_right != self.b_right


@dataclass(frozen=True)
class Comparison:
    """`subjects` are those of A, then of B, named `A q8_0`; a base model that both have is `base`.

    `asked` counts the questions that they share.
    """

    a: str
    b: str
    options: tuple[Option, ...]
    losses: tuple[float | None, float | None]
    asked: int
    subjects: tuple[Scores, ...]
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(a: Side, b: Side) -> Comparison:
    """The comparison of two runs; `notes` say what one of them lacks."""
    shared = _shared(a.evaluation, b.evaluation)
    return Comparison(
        a=a.name,
        b=b.name,
        options=tuple(_options(a, b)),
        losses=(a.loss, b.loss),
        asked=len(shared),
        subjects=tuple(_subjects(a, b, shared)),
        pairs=tuple(_pairs(a, b, shared)),
        notes=tuple(_notes(a, b, len(shared))),
    )


def why_worse(new: Evaluation | None, latest: Evaluation | None) -> str:
    """Why a run isn't as good as the latest version, by the questions that both were asked; empty if it is.

    They are counted, for the same quantization where both have one. Without such questions nobody knows, so that is a
    reason too.
    """
    from ftq.evaluation.scoring import is_chance  # which imports what makes questions

    if new is None or latest is None:
        return f"{'it' if new is None else 'the latest version'} has no evaluation to compare by"
    mine, theirs = _files(new, latest)
    shared = [
        (said, answer, one.question)
        for one, other in _shared(new, latest)
        if (said := one.said.get(mine)) and (answer := other.said.get(theirs))
    ]
    if not shared:
        return "no question was asked of both"
    right = [(_is_right(question, said), _is_right(question, answer)) for said, answer, question in shared]
    its, latests = map(sum, zip(*right, strict=True))
    if its >= latests:
        return ""
    counts = f"of {len(shared)} questions that both were asked it has {its} right, the latest version {latests}"
    return (
        f"{counts}, which may be chance"
        if is_chance(right.count((True, False)), right.count((False, True)))
        else counts
    )


def same_file(mine: Sequence[str], theirs: Sequence[str]) -> tuple[str, str]:
    """The first quantization that both have, else the first of each: another one would hide what the options did."""
    both = [name for name in mine if name in theirs]
    return next(zip(both or mine, both or theirs, strict=False), ("", ""))


def _options(a: Side, b: Side) -> Iterator[Option]:
    """Those that differ. An option that a run of an earlier version lacks has its default."""
    from ftq.spec.options import RunSpec

    for name, field in RunSpec.model_fields.items():
        one, other = (side.spec.get(name, field.get_default()) for side in (a, b))
        if one != other:
            yield Option(name, one, other)
    if a.documents_hash != b.documents_hash and a.spec.get("documents") == b.spec.get("documents"):
        yield Option("documents", "as they were", "changed since")


def _shared(a: Evaluation | None, b: Evaluation | None) -> list[tuple[Asked, Asked]]:
    """The questions that both were asked, with the same accepted answers."""
    asked = {_key(one.question): one for one in b.questions} if b else {}
    return [(one, asked[_key(one.question)]) for one in a.questions if _key(one.question) in asked] if a else []


def _key(question: Question) -> tuple[str, ...]:
    return (question.kind, question.text, question.input, *question.answers)


def _subjects(a: Side, b: Side, shared: Sequence[tuple[Asked, Asked]]) -> Iterator[Scores]:
    """Both sides' subjects with their scores on the shared questions alone; a base model that both have stands once."""
    from ftq.evaluation.score import scores  # which imports what makes questions

    same, is_told = a.spec.get("model") == b.spec.get("model"), False
    for number, side in enumerate((a, b)):
        asked = [pair[number] for pair in shared]
        for one in side.evaluation.subjects if side.evaluation else ():
            is_base = same and one.subject == BASE
            if is_base and is_told:
                continue
            is_told |= is_base
            known = {name: getattr(one, name) for name in KEPT}
            name = BASE if is_base else f"{side.name} {one.subject}"
            yield replace(scores(asked, one.subject, 0.0), **known, subject=name)


def _pairs(a: Side, b: Side, shared: Sequence[tuple[Asked, Asked]]) -> Iterator[Pair]:
    """The runs' own prompts first, then the questions of which one got more right."""
    for prompt, answer in a.answers.items():
        if prompt in b.answers:
            yield Pair(prompt, answer, b.answers[prompt], _prompted(a), _prompted(b))
    files = _files(a.evaluation, b.evaluation)
    pairs = [pair for one, other in shared if (pair := _pair(one, other, *files))]
    yield from sorted(pairs, key=lambda pair: not pair.differs)


def _prompted(side: Side) -> str:
    """What answered the run's own prompts."""
    return "adapter" if side.spec.get("infer_with") == "adapter" else next(iter(side.spec.get("quantizations", ())), "")


def _files(a: Evaluation | None, b: Evaluation | None) -> tuple[str, str]:
    mine, theirs = ([one.subject for one in made.tuned] if made else [] for made in (a, b))
    return same_file(mine, theirs)


def _pair(one: Asked, other: Asked, a_file: str, b_file: str) -> Pair | None:
    a, b, question = one.said.get(a_file), other.said.get(b_file), one.question
    if a is None or b is None:
        return None
    return Pair(question.text, a.answer, b.answer, a_file, b_file, _is_right(question, a), _is_right(question, b))


def _is_right(question: Question, said: Said) -> bool:
    return said.verdict == ("right" if question.answers else "refused")


def _notes(a: Side, b: Side, shared: int) -> Iterator[str]:
    yield from (side.unevaluated for side in (a, b) if side.unevaluated)
    if a.evaluation and b.evaluation and not shared:
        idle = [side.name for side in (a, b) if side.evaluation and not sum(side.evaluation.counts.values())]
        why = f"{' and '.join(idle)} {'were' if idle[1:] else 'was'} asked nothing" if idle else OTHERS
        yield f"{why}, so there is nothing to score: `ftq eval {a.name} --against {b.name}` asks both the same."
