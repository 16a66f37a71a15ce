"""An evaluation's numbers as people read them, for the terminal's table and the page's."""

from __future__ import annotations

from collections.abc import Callable

from ftq.evaluation.evaluation import FEWEST, Evaluation, Kind, Scores
from ftq.words import plural, size

KINDS = {
    Kind.OWN: "of your own",
    Kind.HELD_BACK: "in words that training didn't have",
    Kind.UNANSWERABLE: "that nothing answers",
    Kind.GENERAL: "of general knowledge",
}


def said(one: object, attribute: str, format: str) -> str:
    """The number in this form; empty where it isn't known."""
    value = getattr(one, attribute, None)
    return "" if value is None else format.format(value)


def number(attribute: str, format: str) -> Callable[[Scores], str]:
    """A cell with one number of a subject."""
    return lambda one: said(one, attribute, format)


def tally(kind: Kind, attribute: str) -> Callable[[Scores], str]:
    """A cell such as `3 of 10`; empty where nobody asked such questions."""
    return lambda one: _of(getattr(one.of(kind), attribute), one.of(kind).asked)


def right(one: Scores) -> str:
    return _of(one.right, one.answerable)


def gave_up(one: Scores) -> str:
    return _of(one.refused_wrongly, one.answerable)


def file_size(one: Scores) -> str:
    return "" if one.file_bytes is None else size(one.file_bytes)


def asked(evaluation: Evaluation) -> str:
    """For example `60 questions: 20 of your own, 16 (of 20) in words that training didn't have`."""
    kinds = []
    for kind, count in evaluation.counts.items():
        more = evaluation.available.get(kind, count)
        kinds.append(f"{count:,}{f' (of {more:,})' if more > count else ''} {KINDS[kind]}")
    return f"{plural(sum(evaluation.counts.values()), 'question')}: {', '.join(kinds)}"


def learned(evaluation: Evaluation, mark: str = "{}") -> str:
    """What it learned: `It has 22 of 36 questions on its documents right (61%); its base model has 1.`

    Empty if nobody was asked about it. `mark` is put around the numbers.
    """
    first, base = _first(evaluation), evaluation.base
    if first is None:
        return ""
    share = f" ({100 * first.right // first.answerable}%)" if first.answerable >= FEWEST else ""
    before = f"; its base model has {mark.format(base.right)}" if base and base.answerable else ""
    return f"It has {mark.format(right(first))} questions on its documents right{share}{before}."


def unblamed(evaluation: Evaluation) -> str:
    """What is left to say where no rule found a fault: how many answers aren't right all the same. Else empty."""
    first = _first(evaluation)
    if evaluation.verdict or first is None or first.answerable < FEWEST:
        return ""
    unknown = first.of(Kind.UNANSWERABLE)
    told = []
    if lost := first.answerable - first.right:
        isnt, one = ("isn't", "that answer") if lost == 1 else ("aren't", "those answers")
        told.append(
            f"{lost} of {first.answerable} {isnt} right, for none of the reasons that ftq looks for: read {one}."
        )
    if unknown.refused < unknown.asked:
        invented = unknown.asked - unknown.refused
        told.append(
            f"It answered {invented} of {plural(unknown.asked, 'question')} that nothing in the documents answers."
        )
    return " ".join(told) or "No fault was found."


def _first(evaluation: Evaluation) -> Scores | None:
    """The first tuned file that was asked about the documents."""
    return next((one for one in evaluation.tuned if one.answerable), None)


def _of(number: int, all: int) -> str:
    return f"{number} of {all}" if all else ""
