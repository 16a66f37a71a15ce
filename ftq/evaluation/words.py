"""An evaluation's numbers as people read them, for the terminal's table and the page's."""

from __future__ import annotations

from collections.abc import Callable

from ftq.evaluation.evaluation import FEWEST, Evaluation, Kind, Scores, Tally
from ftq.words import plural, size

KINDS = {
    Kind.OWN: "of your own",
    Kind.HELD_BACK: "put as the training puts them",
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
    """For example `60 questions: 20 of your own, 16 (of 20) put as the training puts them`."""
    kinds = []
    for kind, count in evaluation.counts.items():
        more = evaluation.available.get(kind, count)
        kinds.append(f"{count:,}{f' (of {more:,})' if more > count else ''} {KINDS[kind]}")
    return f"{plural(sum(evaluation.counts.values()), 'question')}: {', '.join(kinds)}"


def learned(evaluation: Evaluation, mark: str = "{}") -> str:
    """What it learned: `It has 22 of 36 questions right, put as the training puts them (61%); its base model has 1.`

    The user's own questions come first where there are enough. Empty if nobody was asked about the documents. `mark` is
    put around the numbers.
    """
    first, base = _first(evaluation), evaluation.base
    if first is None:
        return ""
    own, held = first.of(Kind.OWN), first.of(Kind.HELD_BACK)
    by_own = own.asked >= FEWEST or not held.asked
    kind, one = (Kind.OWN, own) if by_own else (Kind.HELD_BACK, held)
    what = "of your own questions right" if by_own else f"questions right, {KINDS[Kind.HELD_BACK]}"
    before = f"; its base model has {mark.format(base.of(kind).right)}" if base and base.answerable else ""
    told = f"It has {mark.format(_of(one.right, one.asked))} {what}{_share(one)}{before}."
    name, other = (KINDS[Kind.HELD_BACK], held) if by_own else (KINDS[Kind.OWN], own)
    more = f" {name[0].upper()}{name[1:]}: {_of(other.right, other.asked)}{_share(other)}." if other.asked else ""
    return told + more


def untold(evaluation: Evaluation, run: str) -> str:
    """What these questions can't say, and what does; empty where enough of the user's own were asked, or few at all."""
    first = _first(evaluation)
    if first is None or first.of(Kind.OWN).asked >= FEWEST or first.answerable < FEWEST:
        return ""
    return f"How it answers people's own words: `ftq eval {run} --questions FILE`."


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


def _share(one: Tally) -> str:
    return f" ({100 * one.right // one.asked}%)" if one.asked >= FEWEST else ""


def _of(number: int, all: int) -> str:
    return f"{number} of {all}" if all else ""
