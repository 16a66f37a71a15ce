"""The list of runs."""

from __future__ import annotations

import time

from rich.console import RenderableType
from rich.text import Text

from cli.screens import terminal, words
from ftq.client import view
from ftq.store.records import Run
from ftq.words import size

LOST_FIRST = ("MODEL", "LOSS", "AGE", "%", "STAGE", "ID")  # of the list's columns, where the terminal is narrow
NAME_WIDTH = 16  # a longer name goes on in the next line before a column is lost for it


def runs_table(runs: list[Run], now: float, symbols: bool = True) -> RenderableType:
    """The columns for which there is room. Nothing is cut."""
    headings = ("ID", "NAME", "MODEL", "STATUS", "STAGE", "%", "LOSS", "AGE")
    table = terminal.Rows(headings, ("%", "LOSS", "AGE"), {"NAME": NAME_WIDTH}, LOST_FIRST)
    for run in map(terminal.clean, runs):
        at_work = run.current if run.status in ("running", "paused", "failed") else None
        percent = (view.progress(run) or {}).get("percent") if at_work else None
        table.add(
            Text(run.id, "dim"),
            Text(run.name, "bold"),
            run.model.rpartition("/")[2],
            words.status(run, symbols),
            at_work.name if at_work else "",
            "" if percent is None else f"{percent:.0f}",
            words.loss(view.loss(run)),
            words.short(now - run.created_at),
        )
    return table


def print_runs(runs: list[Run]) -> None:
    out = terminal.console()
    terminal.put(out, runs_table(runs, time.time(), terminal.has_symbols(out)))


def print_sizes(runs: list[tuple[Run, int]]) -> None:
    headings, lost = ("ID", "NAME", "STATUS", "AGE", "SIZE"), ("AGE", "ID", "STATUS")
    table = terminal.Rows(headings, ("SIZE",), {"NAME": NAME_WIDTH}, lost)
    out = terminal.console()
    for run, number in runs:
        run = terminal.clean(run)
        state, age = words.status(run, terminal.has_symbols(out)), words.short(time.time() - run.created_at)
        table.add(Text(run.id, "dim"), Text(run.name, "bold"), state, age, size(number))
    terminal.put(out, table)
