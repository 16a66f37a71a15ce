"""An evaluation as a table, a line for each model, and what is wrong with it in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.text import Text

from cli.screens import terminal
from ftq.errors import printable
from ftq.evaluation import words
from ftq.evaluation.evaluation import BASE, Evaluation, Kind, Scores
from ftq.evaluation.words import number, tally


@dataclass(frozen=True)
class Column:
    """`rank`: where the terminal is narrow, the columns of the highest ranks are left out."""

    heading: str
    rank: int
    cell: Callable[[Scores], str]


COLUMNS = (
    Column("RIGHT", 0, words.right),
    Column("EXACT", 11, number("exact", "{:.2f}")),
    Column("F1", 6, number("f1", "{:.2f}")),
    Column("ROUGE-L", 12, number("rouge_l", "{:.2f}")),
    Column("REFUSED", 1, tally(Kind.UNANSWERABLE, "refused")),
    Column("GAVE UP", 7, words.gave_up),
    Column("GENERAL", 2, tally(Kind.GENERAL, "right")),
    Column("STOPS", 3, number("stop_rate", "{:.0%}")),
    Column("TOKENS", 9, number("mean_tokens", "{:.0f}")),
    Column("LOSS", 10, number("validation_loss", "{:.3f}")),
    Column("PPL", 8, number("perplexity", "{:.2f}")),
    Column("KL", 13, number("kl", "{:.3f}")),
    Column("TOK/S", 5, number("tokens_per_second", "{:,.0f}")),
    Column("SIZE", 4, words.file_size),
)


def evaluation_view(evaluation: Evaluation, run: str) -> list[RenderableType]:
    """The table, how it was asked, the numbers in a sentence, what they can't say, and what is wrong."""
    asked = sum(evaluation.counts.values())
    parts: list[RenderableType] = [scoreboard(evaluation.subjects), Text(_how(evaluation), "dim")] if asked else []
    parts += [Text(printable(note), "dim") for note in evaluation.notes]
    parts += [Text(told, "bold")] if (told := words.learned(evaluation)) else []
    parts += [Text(printable(told), "dim")] if (told := words.untold(evaluation, run)) else []
    parts += [Text(printable(evaluation.against), "bold")] if evaluation.against else []
    parts += [Text(printable(f"! {text}"), "yellow") for text in evaluation.verdict]
    parts += [Text(told)] if (told := words.unblamed(evaluation)) else []
    return parts


def _how(evaluation: Evaluation) -> str:
    return f"{words.asked(evaluation)}. Answers were ended after {evaluation.max_tokens} tokens."


def scoreboard(subjects: Sequence[Scores]) -> RenderableType:
    """The table, with as many columns as there is room for. Models stand in rows: base, then the tuned ones."""
    columns = [column for column in COLUMNS if any(column.cell(one) for one in subjects)]
    headings = [column.heading for column in columns]
    lost = [column.heading for column in sorted(columns, key=lambda column: -column.rank)]
    table = terminal.Rows(("EVALUATION", *headings), headings, lost_first=lost)
    for one in subjects:
        name = Text(printable(one.subject), "dim" if one.subject == BASE else "bold")
        table.add(name, *(_cell(column, one, subjects) for column in columns))
    return table


def _cell(column: Column, one: Scores, subjects: Sequence[Scores]) -> Text:
    other = "dim" if one.subject == BASE else ""
    return Text(column.cell(one), _colour(one, subjects) if column.heading == "RIGHT" else other)


def _colour(one: Scores, subjects: Sequence[Scores]) -> str:
    """Green for who knows more than the base model, red for who knows less."""
    base = next((other for other in subjects if other.subject == BASE), None)
    if base is None or one is base or not one.answerable or one.right == base.right:
        return "" if one is not base else "dim"
    return "green" if one.right * base.answerable > base.right * one.answerable else "red"
