"""Where tables go: a terminal, with its colours and width, or a pipe. Nothing is cut in either."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import click
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from ftq.errors import RunError, printable
from ftq.files.artifact import Artifact
from ftq.store.records import Run, Stage, Version

ENDLESS = 100_000  # columns of a pipe
GAP = 2  # blanks between two columns of a table
WIDEST = 120  # to which a column is filled with blanks in a pipe: an answer may be far longer


def console(stderr: bool = False) -> Console:
    """A console as wide as the terminal, with colours; in a pipe plain, and so wide that nothing is cut."""
    out = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not out.is_terminal:
        out.width = ENDLESS
    elif out.width < 1:  # COLUMNS=0: rich would cut all away
        out.width = 80
    return out


def can_redraw(out: Console) -> bool:
    """Whether what was printed can be printed over: not in a pipe, nor where TERM is dumb."""
    return out.is_terminal and not out.is_dumb_terminal


def put(out: Console, what: RenderableType) -> None:
    """Print; in a pipe no line is wrapped, and none ends in blanks."""
    if out.is_terminal:
        out.print(what)
        return
    with out.capture() as captured:
        out.print(what, soft_wrap=True)
    text = "".join(line.rstrip() + "\n" for line in captured.get().removesuffix("\n").split("\n"))
    click.echo(text, nl=False, err=out.stderr)


def has_symbols(out: Console) -> bool:
    return out.encoding.startswith("utf")


@dataclass
class Rows:
    """A table of short texts; without headings, where all are blank.

    On a terminal a text of `folds` goes on in its next line, where there are fewer than so many columns for it those
    of `lost_first` are left out, and at last everything folds. In a pipe a row is a line, with all columns, and what
    is longer than WIDEST moves what follows it.
    """

    headings: Sequence[str]
    right: Sequence[str] = ()
    folds: Mapping[str, int] = field(default_factory=dict)
    lost_first: Sequence[str] = ()
    spaced: bool = False  # on a terminal, an empty line after each row

    def __post_init__(self) -> None:
        self._rows = [tuple(Text(heading, "dim") for heading in self.headings)]

    def add(self, *cells: str | Text) -> None:
        self._rows.append(tuple(cell if isinstance(cell, Text) else Text(cell) for cell in cells))

    @property
    def _is_headed(self) -> bool:
        return any(heading.strip() for heading in self.headings)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = [max(cell.cell_len for cell in column) for column in zip(*self._rows, strict=True)]
        needed = [min(width, self.folds.get(name, width)) for name, width in zip(self.headings, widths, strict=True)]
        kept = self._fitting(needed, options.max_width)
        if console.is_terminal:
            is_tight = _total([needed[index] for index in kept]) > options.max_width
            yield self._table(kept, is_tight)
        else:
            yield from self._lines(kept, [min(width, WIDEST) for width in widths])

    def _fitting(self, widths: Sequence[int], most: int) -> list[int]:
        """The columns for which there is room."""
        kept = list(range(len(self.headings)))
        for name in self.lost_first:
            if name in self.headings and _total([widths[index] for index in kept]) > most:
                kept.remove(self.headings.index(name))
        return kept

    def _table(self, kept: Sequence[int], is_tight: bool) -> Table:
        padding = (0, GAP, 1 if self.spaced else 0, 0)
        table = Table(box=None, pad_edge=False, padding=padding, header_style="", show_header=self._is_headed)
        for index in kept:
            name = self.headings[index]
            whole = name not in self.folds and not is_tight
            justify: Any = "right" if name in self.right else "left"
            table.add_column(self._rows[0][index], justify=justify, no_wrap=whole, overflow="fold")
        for row in self._rows[1:]:
            table.add_row(*(row[index] for index in kept))
        return table

    def _lines(self, kept: Sequence[int], widths: Sequence[int]) -> Iterator[Text]:
        for row in self._rows if self._is_headed else self._rows[1:]:
            cells = list[str]()
            for index in kept:
                text = re.sub(r"[\n\t]+", " ", row[index].plain)
                blanks = " " * (widths[index] - Text(text).cell_len)
                cells.append(blanks + text if self.headings[index] in self.right else text + blanks)
            yield Text((" " * GAP).join(cells).rstrip(), no_wrap=True, overflow="ignore")


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


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
