"""Stages' logs in the bucket: <run id>/logs/<stage>.<attempt>/<offset>, pieces that are written once each."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

from ftq.files.remote.bucket import Bucket

PIECE = 2**20  # bytes that are sent at once
SHORT, LONG = 2.0, 20.0  # seconds between two pieces: of a young attempt, of one that has been going on for minutes
LOOK_SECONDS = 1.0  # how old a list of the pieces may be
_NAME = re.compile(r"([a-z]+)\.(\d{1,9})/(\d{1,15})")


def seconds_between(age: float) -> float:
    """A day's log shall not become ten thousand objects."""
    return min(LONG, max(SHORT, age / 20))


class LogSender:
    """Sends what an attempt adds to its stage's log, which may hold earlier attempts' lines."""

    def __init__(self, bucket: Bucket, run_id: str, stage: str, attempt: int, log: Path) -> None:
        self._bucket, self._log = bucket, log
        self._prefix = f"{run_id}/logs/{stage}.{attempt}"
        self._begin = self._sent = log.stat().st_size if log.is_file() else 0

    def send(self) -> None:
        """Send what is new. OutOfReach leaves it to the next call."""
        if not self._log.is_file():
            return
        with self._log.open("rb") as log:
            log.seek(self._sent)
            while piece := log.read(PIECE):
                self._bucket.write(f"{self._prefix}/{self._sent - self._begin:012}", piece)
                self._sent += len(piece)


class Logs:
    """Reads a run's logs as if each stage had one file."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._list: tuple[str, float, dict[str, int]] = ("", 0.0, {})

    def has(self, run_id: str, stages: tuple[str, ...]) -> bool:
        return any(self._pieces(run_id, stage) for stage in stages)

    def length(self, run_id: str, stage: str) -> int | None:
        """How long a stage's log is; None where there is none."""
        sizes = [size for _, size in self._pieces(run_id, stage)]
        return sum(sizes) if sizes else None

    def read(self, run_id: str, stage: str, offset: int) -> Iterator[bytes]:
        """The pieces of the log from the offset on, of all attempts in their order."""
        at = 0
        for key, size in self._pieces(run_id, stage):
            if offset < at + size:
                yield self._bucket.read(key)[max(0, offset - at) :]
            at += size

    def _pieces(self, run_id: str, stage: str) -> list[tuple[str, int]]:
        """(key, bytes) of the pieces that a stage has, in order."""
        known, at, sizes = self._list
        if known != run_id or time.monotonic() - at > LOOK_SECONDS:
            sizes = self._bucket.sizes(f"{run_id}/logs")
            self._list = (run_id, time.monotonic(), sizes)
        prefix, found = f"{run_id}/logs/", list[tuple[int, int, str, int]]()
        for key, size in sizes.items():
            match = _NAME.fullmatch(key.removeprefix(prefix))
            if match and match[1] == stage:
                found.append((int(match[2]), int(match[3]), key, size))
        return [(key, size) for _, _, key, size in sorted(found)]
