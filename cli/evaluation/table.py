"""An evaluation as a table, a line for each model, and what is wrong with it in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from cli.screens import terminal
from ftq.errors import printable
from ftq.evaluation import words
from ftq.evaluation.evaluation import BASE, Evaluation, Kind, Scores
from ftq.evaluation.words import number, tally

GAP = 2  # blanks between two columns


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


def evaluation_view(evaluation: Evaluation, symbols: bool = True) -> list[RenderableType]:
    """The table, how it was asked, and what is wrong."""
    asked = sum(evaluation.counts.values())
    parts: list[RenderableType] = [Scoreboard(evaluation.subjects), Text(_how(evaluation), "dim")] if asked else []
    parts += [Text(printable(note), "dim") for note in evaluation.notes]
    parts += [Text(printable(f"! {text}"), "yellow") for text in evaluation.verdict]
    if evaluation.is_judged and not evaluation.verdict:
        parts.append(Text(f"{'✓' if symbols else '+'} these questions found nothing wrong", "green"))
    return parts


def _how(evaluation: Evaluation) -> str:
    return f"{words.asked(evaluation)}. Answers were ended after {evaluation.max_tokens} tokens."


class Scoreboard:
    """The table, with as many columns as the terminal has room for. Models stand in rows: base, then the tuned ones."""

    def __init__(self, subjects: Sequence[Scores]) -> None:
        self.subjects = subjects

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = self._fitting(options.max_width)
        table = terminal.table("EVALUATION")
        for column in columns:
            table.add_column(Text(column.heading, "dim"), justify="right", no_wrap=True)
        for one in self.subjects:
            name = Text(printable(one.subject), "dim" if one.subject == BASE else "bold")
            table.add_row(name, *(self._cell(column, one) for column in columns))
        yield table

    def _fitting(self, width: int) -> list[Column]:
        """Those that say anything, the least important left out until the rest fits."""
        said = [column for column in COLUMNS if any(column.cell(one) for one in self.subjects)]
        widths = {
            one.heading: GAP + max(len(one.heading), *(len(one.cell(each)) for each in self.subjects)) for one in said
        }
        left = width - max(len("EVALUATION"), *(len(printable(one.subject)) for one in self.subjects))
        while said and sum(widths[column.heading] for column in said) > left:
            said.remove(max(said, key=lambda column: column.rank))
        return said

    def _cell(self, column: Column, one: Scores) -> Text:
        return Text(
            column.cell(one), self._colour(one) if column.heading == "RIGHT" else "dim" if one.subject == BASE else ""
        )

    def _colour(self, one: Scores) -> str:
        """Green for who knows more than the base model, red for who knows less."""
        base = next((other for other in self.subjects if other.subject == BASE), None)
        if base is None or one is base or not one.answerable or one.right == base.right:
            return "" if one is not base else "dim"
        return "green" if one.right * base.answerable > base.right * one.answerable else "red"
