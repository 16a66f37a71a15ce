"""Where tables go: a terminal, with its colours and width, or a pipe."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from ftq.errors import RunError, printable
from ftq.files.artifact import Artifact
from ftq.store.records import Run, Stage, Version


def console(stderr: bool = False) -> Console:
    """A console as wide as the terminal, with colours; in a pipe plain, and so wide that nothing is cut."""
    out = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not out.is_terminal:
        out.width = 1000
    elif out.width < 1:  # COLUMNS=0: rich would cut all away
        out.width = 80
    return out


def can_redraw(out: Console) -> bool:
    """Whether what was printed can be printed over: not in a pipe, nor where TERM is dumb."""
    return out.is_terminal and not out.is_dumb_terminal


def put(out: Console, what: RenderableType) -> None:
    """Print; in a pipe without the blanks that fill a table's cells."""
    if out.is_terminal:
        out.print(what)
        return
    with out.capture() as captured:
        out.print(what)
    text = "".join(line.rstrip() + "\n" for line in captured.get().splitlines())
    click.echo(text, nl=False, err=out.stderr)


def has_symbols(out: Console) -> bool:
    return out.encoding.startswith("utf")


def table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for heading in headings:
        table.add_column(Text(heading, "dim"), no_wrap=True)
    return table


def clean(value: Any) -> Any:
    """A run, or a part of it, with all its text printable: any user of the database may have written it."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [clean(part) for part in value]
    if isinstance(value, dict):
        return {clean(name): clean(part) for name, part in value.items()}
    if isinstance(value, (Run, Stage, RunError, Artifact, Version)):
        return replace(value, **{name: clean(part) for name, part in vars(value).items()})
    return value
