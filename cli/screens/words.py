"""States, times and numbers of runs in a few letters."""

from __future__ import annotations

from datetime import datetime

from rich.text import Text

from ftq.store.records import Run
from ftq.words import duration as duration
from ftq.words import loss as loss
from ftq.words import numbers as numbers
from ftq.words import short as short
from ftq.words import time_left as time_left

# status -> (colour, symbol, symbol where the terminal has no UTF-8)
LOOKS = {
    "queued": ("yellow", "○", "."),
    "running": ("cyan", "●", ">"),
    "paused": ("magenta", "‖", "="),
    "succeeded": ("green", "✓", "+"),
    "failed": ("red", "✗", "x"),
    "cancelled": ("bright_black", "–", "-"),
}


def status(run: Run, symbols: bool) -> Text:
    colour, *_ = LOOKS[run.status]
    return Text(f"{symbol(run.status, symbols)} {run.state}", colour)


def symbol(status: str, symbols: bool) -> str:
    return LOOKS[status][1 if symbols else 2]


def clock(at: float) -> str:
    """The local time; the day too unless it is today's."""
    moment = datetime.fromtimestamp(at)
    today = moment.date() == datetime.now().date()
    return moment.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")
