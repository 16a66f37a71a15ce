"""What the doctor says, and how it looks everywhere at once without ever hanging."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["ok", "note", "warning", "problem"]
LEVELS: tuple[Level, ...] = ("ok", "note", "warning", "problem")  # from good to bad
SECONDS = 2.5  # what a check may take


@dataclass(frozen=True)
class Finding:
    """`mend` is what to type; `seconds` how long it took, where that is the point."""

    check: str
    level: Level
    message: str
    mend: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class Check:
    """`look` yields findings; what it yielded before its time was over counts. `silence` says what that means."""

    name: str
    look: Callable[[], Iterable[Finding]]
    silence: Level = "problem"
    mend: str = ""


@dataclass
class _Look:
    """A check at work in a thread of its own: one that hangs is left behind, it ends with the process."""

    check: Check
    found: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, name=f"doctor {self.check.name}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            for finding in self.check.look():
                self.found.append(finding)
        except Exception as error:
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            self.found.append(Finding(self.check.name, "problem", f"the check itself failed: {text}", self.check.mend))

    def result(self, until: float, seconds: float) -> list[Finding]:
        self.thread.join(max(0.0, until - time.monotonic()))
        found = list(self.found)
        if self.thread.is_alive():
            message = f"no answer within {seconds:g} s"
            found.append(Finding(self.check.name, self.check.silence, message, self.check.mend))
        return found


def examine(checks: Sequence[Check], seconds: float = SECONDS) -> list[Finding]:
    """All checks at once; their findings in the order of the checks, after `seconds` at the latest."""
    until = time.monotonic() + seconds
    looks = [_Look(check) for check in checks]
    return [finding for look in looks for finding in look.result(until, seconds)]


def worst(findings: Iterable[Finding]) -> Level:
    return max((finding.level for finding in findings), key=LEVELS.index, default="ok")
