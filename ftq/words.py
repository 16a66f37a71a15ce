"""Numbers and names as people read them, and lines as programs do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

NAMED = 5  # names of a list, which has the number of the others


class LineBuffer:
    """The lines of bytes that come in pieces: they end at line feeds alone, as those of `ftq.errors.lines` do.

    `rest` is what has come of the next line.
    """

    def __init__(self) -> None:
        self.rest = b""

    def take(self, piece: bytes) -> list[bytes]:
        """The lines that are whole now, without their ends."""
        *whole, self.rest = (self.rest + piece).split(b"\n")
        return whole


def size(number: float) -> str:
    """Bytes: 999 B, 1.2 kB, 3.4 GB (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 99.95 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def bytes_of(text: str) -> int | None:
    """10G, 500MB, 3000 as bytes, in powers of 1000; None for anything else and for nothing."""
    match = re.fullmatch(r"([0-9]{1,15})([kMGT]?)B?", text.strip())
    return int(match[1]) * 1000 ** " kMGT".index(match[2] or " ") or None if match else None


def plural(number: int, word: str) -> str:
    """1 row, 1,200 rows."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def listed(names: Sequence[str], most: int = NAMED) -> str:
    """a, b, c; of more than `most`: a, b, c, d, e and 3 more."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def duration(seconds: float) -> str:
    """2.1 s, 1:23, 4:05:06."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def loss(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if value < 100 else f"{value:.3g}"


def time_left(progress: dict[str, Any]) -> str:
    """Of a stage's last report: 1:23 left."""
    eta = progress.get("eta_seconds")
    return "" if eta is None else f"{duration(eta)} left"


def numbers(progress: dict[str, Any]) -> str:
    """Of a stage's last report: step 5 of 60, loss 1.234, 412 tokens/s."""
    parts = list[str]()
    if progress.get("step") is not None:
        total = progress.get("total_steps")
        parts.append(f"step {progress['step']}" + (f" of {total}" if total else ""))
    if progress.get("loss") is not None:
        parts.append(f"loss {loss(progress['loss'])}")
    if progress.get("tokens_per_second") is not None:
        parts.append(f"{progress['tokens_per_second']:,.0f} tokens/s")
    if progress.get("doing"):
        parts.append(str(progress["doing"]))
    return ", ".join(parts)


def short(seconds: float) -> str:
    """How long ago, in one unit: 45s, 12m, 3h, 5d."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"
