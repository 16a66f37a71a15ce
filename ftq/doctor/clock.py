"""Clocks that differ: leases are held and ended by the clocks of different machines."""

from __future__ import annotations

from collections.abc import Iterator

from ftq.doctor.findings import Finding

TOLERATED = 5.0  # seconds; a worker's sign of life may be that old anyway
FIX = "timedatectl set-ntp true   (on the machine whose clock is wrong)"


def compare(who: str, ahead: float, lease_seconds: float | None = None) -> Iterator[Finding]:
    """`ahead`: by how many seconds that clock is ahead of this machine's. A problem from half a lease on."""
    if abs(ahead) <= TOLERATED:
        if lease_seconds is None:
            yield Finding("clock", "ok", f"{who} and this machine agree within {max(abs(ahead), 0.001):.3f} s")
        return
    wrong = lease_seconds is not None and abs(ahead) > lease_seconds / 2
    message = f"the clock of {who} is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    consequence = ": workers would take each other's runs away" if wrong else ""
    yield Finding("clock", "problem" if wrong else "warning", message + consequence, FIX)
