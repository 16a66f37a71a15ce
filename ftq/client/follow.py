"""A run, its events and its logs as they come, until the run is finished. The database may be gone for a moment."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from ftq.errors import FtqError, NotFound, Unavailable
from ftq.files.run_dir import RunDir
from ftq.settings import Settings
from ftq.store.records import Event, Run
from ftq.store.wire.reads import Reads

Answer = TypeVar("Answer")
ReadLog = Callable[[str, int], Iterator[bytes]]  # (stage, offset): the pieces of its log from there on
AWAY_SECONDS = 3.0  # between two looks for a bucket that is out of reach
REREAD = 50  # of the last events: PostgreSQL may show an event after one with a greater id


class Following(ABC):
    """The part of a client that follows a run: the same over the database and through a server."""

    log_seconds = 0.3  # between two looks at logs

    @property
    @abstractmethod
    def settings(self) -> Settings: ...

    @property
    @abstractmethod
    def store(self) -> Reads: ...

    @abstractmethod
    def log_from(self, run_id: str, stage: str, offset: int) -> Iterator[bytes]: ...

    def follow(self, run_id: str, seconds: float = 1.0) -> Iterator[Run]:
        """Yield the run every `seconds` until it is finished. Unavailable after a lease without a database."""
        return states(self.store, run_id, seconds, self.settings.lease_seconds)

    def follow_events(self, run_id: str, follow: bool) -> Iterator[Event]:
        """The run's events; with `follow` the coming ones too, until the run is finished."""
        return new_events(self.store, self._states(run_id, follow, 0.5), self.settings.lease_seconds)

    def follow_logs(
        self, run_id: str, stages: Sequence[str], follow: bool, away: Callable[[Unavailable], None] = lambda error: None
    ) -> Iterator[tuple[str, bytes]]:
        """(stage, the next piece of its log); with `follow` the coming ones too, until the run is finished.

        Who follows waits for a bucket that is out of reach: `away` is told so, once each time.
        """
        read_log: ReadLog = partial(self.log_from, run_id)
        read_log = partial(_when_in_reach, read_log, away) if follow else read_log
        return new_log_pieces(read_log, self._states(run_id, follow, self.log_seconds), stages)

    def _states(self, run_id: str, follow: bool, seconds: float) -> Iterator[Run]:
        return self.follow(run_id, seconds) if follow else iter([self.store.get(run_id)])


def patiently(read: Callable[[], Answer], patience: float) -> Answer:
    """Call `read` again until the database is reachable. Unavailable after `patience` seconds."""
    until = time.monotonic() + patience
    while True:
        try:
            return read()
        except Unavailable:
            if time.monotonic() >= until:
                raise
            time.sleep(0.5)


def states(store: Reads, run_id: str, seconds: float, patience: float) -> Iterator[Run]:
    """Yield the run now and every `seconds` until it is finished."""
    run = store.get(run_id)
    while True:
        yield run
        if run.is_finished:
            return
        time.sleep(seconds)
        try:
            run = patiently(lambda: store.get(run_id), patience)
        except NotFound:
            raise FtqError(f"run {run.name} was deleted meanwhile", "`ftq status` lists the runs.") from None


def new_events(store: Reads, runs: Iterator[Run], patience: float) -> Iterator[Event]:
    """Yield the events that are new at each state of the run."""
    seen = [0]
    for run in runs:
        read = patiently(partial(store.events, run.id, seen[0]), patience)
        new = [event for event in read if event.id not in seen]
        seen = sorted([*seen, *(event.id for event in new)])[-REREAD:]
        yield from new


def new_log_pieces(read_log: ReadLog, runs: Iterator[Run], stages: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (stage, the next piece of its log) at each state of the run."""
    read = dict.fromkeys(stages, 0)
    for _ in runs:
        for stage in stages:
            for piece in read_log(stage, read[stage]):
                read[stage] += len(piece)
                yield stage, piece


def _when_in_reach(read_log: ReadLog, away: Callable[[Unavailable], None], stage: str, offset: int) -> Iterator[bytes]:
    """The pieces of a log, waiting while the bucket that has them is out of reach."""
    from ftq.files.remote.bucket import OutOfReach

    is_told = False
    while True:
        try:
            for piece in read_log(stage, offset):
                offset += len(piece)
                yield piece
            return
        except OutOfReach as error:
            if not is_told:
                away(error)
            is_told = True
            time.sleep(AWAY_SECONDS)


def log_from(folder: RunDir, stage: str, offset: int) -> Iterator[bytes]:
    """The pieces of a stage's log in the run's folder, from `offset` on; none if it has none."""
    path = folder.log(stage)
    if not path.is_file():
        return
    with path.open("rb") as file:
        file.seek(offset)
        while piece := file.read(65536):
            yield piece
