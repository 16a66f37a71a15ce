"""The list of runs."""

from __future__ import annotations

import time

from rich.console import RenderableType
from rich.text import Text

from cli.common import size
from cli.screens import terminal, words
from ftq.client import view
from ftq.store.records import Run

LOST_FIRST = ("MODEL", "LOSS", "AGE", "%", "STAGE", "ID")  # of the list's columns, where the terminal is narrow
NAME_WIDTH = 16  # a longer name goes on in the next line before a column is lost for it


def runs_table(runs: list[Run], now: float, width: int, symbols: bool = True) -> RenderableType:
    """The columns for which there is room. Nothing is cut."""
    columns: dict[str, list[Text]] = {
        name: [Text(name, "dim")] for name in ("ID", "NAME", "MODEL", "STATUS", "STAGE", "%", "LOSS", "AGE")
    }
    for run in map(terminal.clean, runs):
        at_work = run.current if run.status in ("running", "paused", "failed") else None
        percent = (view.progress(run) or {}).get("percent") if at_work else None
        cells = (
            Text(run.id, "dim"),
            Text(run.name, "bold"),
            Text(run.model.rpartition("/")[2]),
            words.status(run, symbols),
            Text(at_work.name if at_work else ""),
            Text("" if percent is None else f"{percent:.0f}"),
            Text(words.loss(view.loss(run))),
            Text(words.short(now - run.created_at)),
        )
        for column, cell in zip(columns.values(), cells, strict=True):
            column.append(cell)
    for name in LOST_FIRST:
        widths = {name: max(cell.cell_len for cell in column) for name, column in columns.items()}
        if sum(widths.values()) + 2 * len(widths) - 2 + min(0, NAME_WIDTH - widths["NAME"]) > width:
            del columns[name]
    table = terminal.table()
    for name, column in columns.items():
        right, whole = name in ("%", "LOSS", "AGE"), name != "NAME"
        table.add_column(column[0], justify="right" if right else "left", no_wrap=whole, overflow="fold")
    for row in list(zip(*columns.values(), strict=True))[1:]:
        table.add_row(*row)
    return table


def print_runs(runs: list[Run]) -> None:
    out = terminal.console()
    terminal.put(out, runs_table(runs, time.time(), out.width, terminal.has_symbols(out)))


def print_sizes(runs: list[tuple[Run, int]]) -> None:
    table = terminal.table("ID", "NAME", "STATUS", "AGE")
    table.add_column(Text("SIZE", "dim"), justify="right", no_wrap=True)
    out = terminal.console()
    for run, number in runs:
        run = terminal.clean(run)
        age = words.short(time.time() - run.created_at)
        table.add_row(
            Text(run.id, "dim"), Text(run.name, "bold"), words.status(run, terminal.has_symbols(out)), age, size(number)
        )
    terminal.put(out, table)
