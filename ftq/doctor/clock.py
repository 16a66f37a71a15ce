"""Clocks that differ: leases are held and ended by the clocks of different machines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from ftq.doctor.findings import Finding

TOLERATED = 5.0  # seconds
QUESTIONS = 5  # to a clock: on a busy machine an answer may take seconds, the fastest says most
FIX = "timedatectl set-ntp true   (on the machine whose clock is wrong)"


def difference(ask: Callable[[], float]) -> tuple[float, float]:
    """(seconds by which a server's clock is ahead of this machine's, how unsure that is). `ask` is its time."""
    answers = []
    for _ in range(QUESTIONS):
        before, began = time.time(), time.perf_counter()
        there = ask()
        half = (time.perf_counter() - began) / 2
        answers.append((half, there - before - half))
    half, ahead = min(answers)
    return ahead, half


def compare(who: str, ahead: float, lease_seconds: float | None = None, unsure: float = 0.0) -> Iterator[Finding]:
    """`ahead`: by how many seconds that clock is ahead of this machine's, give or take `unsure`.

    A problem from half a lease on.
    """
    least = abs(ahead) - unsure
    if least <= TOLERATED:
        if lease_seconds is None:
            yield Finding("clock", "ok", f"{who} and this machine agree within {max(abs(ahead), 0.001):.3f} s")
        return
    wrong = lease_seconds is not None and least > lease_seconds / 2
    message = f"the clock of {who} is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    consequence = ": workers would take each other's runs away" if wrong else ""
    yield Finding("clock", "problem" if wrong else "warning", message + consequence, FIX)
