"""States, times and numbers of runs in a few letters."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rich.text import Text

from ftq.store.records import Run
from ftq.words import duration as duration
from ftq.words import loss as loss

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
    word = (
        {"cancel": "stopping", "pause": "pausing"}.get(run.wanted, "running") if run.status == "running" else run.status
    )
    return Text(f"{symbol(run.status, symbols)} {word}", colour)


def symbol(status: str, symbols: bool) -> str:
    return LOOKS[status][1 if symbols else 2]


def time_left(progress: dict[str, Any]) -> str:
    eta = progress.get("eta_seconds")
    return "" if eta is None else f"{duration(eta)} left"


def numbers(progress: dict[str, Any]) -> str:
    found = []
    if progress.get("step") is not None:
        total = progress.get("total_steps")
        found.append(f"step {progress['step']}" + (f" of {total}" if total else ""))
    if progress.get("loss") is not None:
        found.append(f"loss {loss(progress['loss'])}")
    if progress.get("tokens_per_second") is not None:
        found.append(f"{progress['tokens_per_second']:,.0f} tokens/s")
    return ", ".join(found)


def short(seconds: float) -> str:
    """How long ago, in one unit: 45s, 12m, 3h, 5d."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def clock(at: float) -> str:
    """The local time; the day too unless it is today's."""
    moment = datetime.fromtimestamp(at)
    today = moment.date() == datetime.now().date()
    return moment.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")
