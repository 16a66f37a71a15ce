"""What the doctor says, and how it looks everywhere at once without ever hanging."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ftq.errors import lines

Level = Literal["ok", "note", "warning", "problem"]
LEVELS: tuple[Level, ...] = ("ok", "note", "warning", "problem")  # from good to bad
SECONDS = 4.0  # what a check may take, unless it has a time of its own
CONNECT_SECONDS = 2  # what a database server may take for a connection: a check that asks it says more afterwards


@dataclass(frozen=True)
class Finding:
    """`fix` is what to type; `seconds` how long it took, where that is the point."""

    check: str
    level: Level
    message: str
    fix: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class Check:
    """`look` yields findings; what it yielded before its time was over counts. `silence` says what that means."""

    name: str
    look: Callable[[], Iterable[Finding]]
    silence: Level = "problem"
    fix: str = ""
    seconds: float | None = None  # None: what `examine` gives to all


@dataclass
class _Look:
    """A check in a thread of its own. One that hangs is left behind and ends with the process."""

    check: Check
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, name=f"doctor {self.check.name}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            for finding in self.check.look():
                self.findings.append(finding)
        except Exception as error:
            text = lines(f"{type(error).__name__}: {error}")[0]
            self.findings.append(
                Finding(self.check.name, "problem", f"the check itself failed: {text}", self.check.fix)
            )

    def result(self, began: float, seconds: float) -> list[Finding]:
        """The findings within `seconds` of `began`, and one more if the time ran out."""
        self.thread.join(max(0.0, began + seconds - time.monotonic()))
        findings = list(self.findings)
        if self.thread.is_alive():
            message = f"no answer within {seconds:g} s"
            findings.append(Finding(self.check.name, self.check.silence, message, self.check.fix))
        return findings


def examine(checks: Sequence[Check], seconds: float = SECONDS) -> Iterator[Finding]:
    """All checks at once; their findings in the order of the checks, each check's after `seconds` at the latest."""
    began = time.monotonic()
    looks = [_Look(check) for check in checks]
    for look in looks:
        yield from look.result(began, look.check.seconds or seconds)


def worst(findings: Iterable[Finding]) -> Level:
    return max((finding.level for finding in findings), key=LEVELS.index, default="ok")
