"""Two runs side by side on the screen."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from cli.evaluation.table import scoreboard
from cli.screens import terminal, words
from ftq.errors import printable
from ftq.evaluation.compare import Comparison, Pair
from ftq.words import plural

LONGEST = 300  # characters of an answer
SIGNS = {True: ("✓ ", "+ ", "green"), False: ("✗ ", "x ", "red"), None: ("", "", "")}


def comparison_view(comparison: Comparison, most: int, symbols: bool) -> RenderableType:
    """The options that differ, the scores, and `most` answers."""
    parts = [*_options(comparison), "", *_scores(comparison), *_answers(comparison, most, symbols)]
    parts += [Text(printable(f"! {note}"), "yellow") for note in comparison.notes]
    return Group(*parts)


def _options(comparison: Comparison) -> Iterator[RenderableType]:
    if not comparison.options:
        yield Text("no option differs", "dim")
        return
    table = _three_columns("OPTION", comparison)
    for option in comparison.options:
        table.add(Text(option.name, "bold"), _value(option.a), _value(option.b))
    yield table


def _scores(comparison: Comparison) -> Iterator[RenderableType]:
    for name, loss in zip((comparison.a, comparison.b), comparison.losses, strict=True):
        if loss is not None:
            yield Text(printable(f"{name}: training loss {words.loss(loss)} at last"), "dim")
    if comparison.subjects:
        yield scoreboard(comparison.subjects)
        both = f"counted on the {plural(comparison.asked, 'question')} that both were asked"
        yield Text(both if comparison.asked else "no score: there is no question that both were asked", "dim")


def _answers(comparison: Comparison, most: int, symbols: bool) -> Iterator[RenderableType]:
    """A table for all pairs that the same files answered."""
    for files, pairs in groupby(comparison.pairs[:most], lambda pair: (pair.a_file, pair.b_file)):
        table = _three_columns("QUESTION", comparison, *files, spaced=True)
        for pair in pairs:
            table.add(printable(" ".join(pair.question.split())), *_signed(pair, symbols))
        yield ""
        yield table
    if (more := len(comparison.pairs) - most) > 0:
        yield Text(f"{more:,} more: --all", "dim")


def _three_columns(
    first: str, comparison: Comparison, a_file: str = "", b_file: str = "", spaced: bool = False
) -> terminal.Rows:
    headings = [printable(text).rstrip() for text in (first, f"{comparison.a} {a_file}", f"{comparison.b} {b_file}")]
    return terminal.Rows(headings, folds=dict.fromkeys(headings, 8), spaced=spaced)


def _signed(pair: Pair, symbols: bool) -> Iterator[Text]:
    for answer, right in ((pair.a, pair.a_right), (pair.b, pair.b_right)):
        sign, plain_sign, colour = SIGNS[right]
        text = " ".join(answer.split())
        shown = text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text) - LONGEST:,} more characters)"
        yield Text.assemble((sign if symbols else plain_sign, colour), printable(shown))


def _value(value: Any) -> str:
    from ftq.spec.explain import show

    return printable(show(value))
