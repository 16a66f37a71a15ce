"""What `ftq check` shows on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from rich.text import Text

from cli.common import say, tell
from cli.screens import terminal
from ftq.errors import printable
from ftq.words import plural

if TYPE_CHECKING:
    from ftq.check.check import Check, File
    from ftq.check.finding import Finding

FILES, PLACES = 30, 5  # that are shown
ALL = ": --html FILE and --json have all"
TEXT = 600  # characters of a row
BAR = 40
# level -> (colour, symbol where the terminal has UTF-8)
LOOKS = {"error": ("red", "✗"), "warning": ("yellow", "!"), "note": ("cyan", "·")}


def print_check(checked: Check) -> None:
    """All of it, what matters most first: findings, documents, rules, lengths, rows."""
    _findings(checked.findings)
    _documents(checked)
    _counts(checked)
    _rows(checked)


def _rows(checked: Check) -> None:
    from ftq.check.check import ROWS

    if checked.rows:
        _heading(f"{plural(len(checked.rows), 'row')} drawn at random, as the model sees them")
    for row in checked.rows:
        text = row.prompt + row.answer
        if (more := len(text) - TEXT) > 0:
            text = f"{text[:TEXT]}... ({more:,} more characters)"
        rule = f"{row.rule}  {ROWS.get(row.rule, '')}" if row.rule else "whole section or record"
        tell(click.style(printable(f"{rule}  ({row.source})", keep=""), dim=True))
        say(f"{text}\n")


def _documents(checked: Check) -> None:
    report, about = checked.report, "" if checked.exact else "about "
    _heading(f"{report.documents.counted}, in {checked.folder}")
    from ftq.check.check import told_of

    numbers = ("FACTS", "ROWS", "TOKENS")
    table = terminal.Rows(("DOCUMENT", *numbers, ""), numbers, {"DOCUMENT": 16, "": 16}, ("TOKENS", "FACTS"))
    shown = _first(checked.files)
    for file in shown:
        _add(table, file, told_of(file))
    terminal.put(terminal.console(), table)
    if others := len(checked.files) - len(shown):
        say(f"and {others:,} more{ALL}")
    say(
        f"\n{plural(checked.facts, 'fact')}, {plural(report.examples, 'row')} ({report.train:,} to train on, "
        f"{report.valid:,} held out), {about}{report.tokens.total:,} tokens, {report.tokens.longest:,} in the longest "
        f"(a row holds {report.max_seq_length:,})"
    )


def _first(files: Sequence[File]) -> list[File]:
    """The files that give nothing, and the largest, in their order."""
    ranked = sorted(files, key=lambda file: (file.outcome in ("used", "left out"), -file.tokens))[:FILES]
    return [file for file in files if file in ranked]


def _add(table: terminal.Rows, file: File, told: str) -> None:
    numbers = [f"{number:,}" if number else "" for number in (file.facts, file.rows, file.tokens)]
    style = "" if file.outcome == "used" else "dim" if file.outcome == "left out" else "yellow"
    table.add(Text(printable(file.path, keep=""), style), *numbers, Text(printable(told, keep=""), style))


def _counts(checked: Check) -> None:
    if not checked.rows:
        return
    _heading("Rows by rule")
    _bars([(name, number) for name, number in checked.rules.items()])
    _heading("Rows by length in tokens")
    _bars([(f"{one.low} to {one.high}", one.rows) for one in checked.lengths])


def _bars(rows: list[tuple[str, int]]) -> None:
    out = terminal.console()
    block, most = "█" if terminal.has_symbols(out) else "#", max(number for _, number in rows)
    table = terminal.Rows(("", " ", "  "), (" ",), {"": 12})
    for name, number in rows:
        table.add(name, f"{number:,}", Text(block * -(-BAR * number // most), "cyan"))
    terminal.put(out, table)


def _findings(findings: Sequence[Finding]) -> None:
    if findings:
        _heading("Findings")
    symbols = terminal.has_symbols(terminal.console())
    for finding in findings:
        colour, symbol = LOOKS[finding.level]
        level = click.style(f"{symbol} {finding.level}" if symbols else finding.level, fg=colour)
        tell(f"{level}  {printable(finding.message)}")
        for place in finding.places[:PLACES]:
            tell(f"    {printable(place, keep='')}")
        if more := finding.count - min(len(finding.places), PLACES):
            say(f"    and {more:,} more{ALL if len(finding.places) == finding.count else ''}")
        tell(click.style(f"  -> {printable(finding.fix)}", dim=True))


def _heading(text: str) -> None:
    tell(click.style(f"\n{printable(text)}", bold=True))
