"""What was taken from the broker and couldn't be used: told in the log, and with the worker's signs of life."""

from __future__ import annotations

import logging
from collections import Counter

log = logging.getLogger("ftq.worker")
SHOWN = 80  # bytes


class Dropped:
    """Counts by reason. A flood gets few lines: the first of each kind, the tenth, the hundredth."""

    def __init__(self) -> None:
        self._counts = Counter[str]()
        self._last: dict[str, str] = {}

    def add(self, why: str, queue: str, raw: object) -> None:
        """Note what is dropped. Nothing is lost: a message only says that the database has work, and is sent again."""
        self._counts[why] += 1
        shown = ascii(raw[:SHOWN] if isinstance(raw, bytes | str) else raw)[: SHOWN + 3]
        self._last = {"why": why, "queue": ascii(queue)[1:-1][:SHOWN], "begins": shown}
        number = self._counts[why]
        if set(str(number)[1:]) <= {"0"} and str(number)[0] == "1":
            log.warning("dropped from the queue %s: it %s (number %d): %s", queue, why, number, shown)

    def facts(self) -> dict[str, object]:
        """{"dropped": how many, "dropped_last": the last one's why, queue and first bytes}; empty without any."""
        number = self._counts.total()
        return {"dropped": number, "dropped_last": dict(self._last)} if number else {}


dropped = Dropped()  # of this process
