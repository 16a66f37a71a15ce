"""The line with which an attempt begins in a stage's log."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

BEGINS = b"--- "
STARTED = re.compile(rb"--- (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC ")
_ATTEMPT = re.compile(STARTED.pattern + rb"(?:[a-z]+, |--)attempt (\d+)")  # an earlier version wrote: UTC --attempt 2
LONGEST = 200  # bytes up to the attempt's number, and more


def head(stage: str, arguments: Sequence[str]) -> bytes:
    """For example `--- 2026-01-02 03:00:00 UTC train, attempt 2`, of what the stage's process is started with.

    A later attempt's begins with an empty line: the one before may have been killed in the midst of its own.
    """
    what = f"{stage}, {' '.join(arguments).removeprefix('--')}"
    gap = "" if what.endswith((" attempt 0", " attempt 1")) else "\n"
    return f"{gap}--- {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC {what}\n".encode()


class OneAttempt:
    """Of a log, piece by piece, what one attempt has written. A head may be in two pieces.

    `met` are the attempts whose heads have come by.
    """

    def __init__(self, attempt: int) -> None:
        self._attempt, self._is_on, self._held = attempt, False, b""
        self.met = list[int]()

    def take(self, piece: bytes) -> bytes:
        lines = (self._held + piece).splitlines(keepends=True)
        may_go_on = lines and not lines[-1].endswith(b"\n") and len(lines[-1]) < LONGEST
        self._held = lines.pop() if may_go_on and BEGINS.startswith(lines[-1][: len(BEGINS)]) else b""
        return b"".join(line for line in lines if self._belongs(line))

    def _belongs(self, line: bytes) -> bool:
        if began := _ATTEMPT.match(line):
            self.met.append(int(began[2]))
            self._is_on = self.met[-1] == self._attempt
        return self._is_on
