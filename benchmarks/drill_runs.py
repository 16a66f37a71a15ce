"""The drill's runs: submitted so that there is always work, watched until work goes on."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.drill_machine import Machine, Worker
from ftq.errors import Unavailable
from ftq.store.records import Event, Run

IN_FLIGHT = 3
SAVE_STEPS = 5
RECOVERY_SECONDS = 45.0  # after which a fault's run isn't waited for any more: the end of the drill judges it
FINISH_SECONDS = 300.0  # what is not finished so long after the last fault is lost; a wait after losses takes 120 s
GOES_ON = {"claimed", "started", "checkpoint", "progress", "succeeded", "cache_hit"}
BUG = "export ended with exit code 3 and said nothing"  # what the first export of some runs ends with, by design


@dataclass
class Injected:
    """One fault: which runs it hit, and after how many seconds work went on (None: nothing had to)."""

    kind: str
    at: float
    runs: list[str] = field(default_factory=list)
    seconds: float | None = None


class Drill:
    """What the faults need: runs in flight, a victim, and patience. `finish()` lets everything end."""

    def __init__(self, machine: Machine, seed: int, options: dict[str, Any], journal: Path | None) -> None:
        self.machine, self.client, self.store = machine, machine.client, machine.client.store
        self.random = random.Random(seed)
        self.options, self.journal = options, journal
        self.texts = machine.settings.home.parent / "texts"
        self.injected: list[Injected] = []
        self.cancelled: set[str] = set()
        self.submitted = 0
        self.submitting = True
        self.topped_up = 0.0
        self.next_fault = math.inf  # when the next one comes, whether work went on or not
        self.notes: list[str] = []
        self.progress: dict[str, list[tuple[float, int, int]]] = {}  # run -> (at, attempt, step) as the store showed it

    # -- the runs

    def unfinished(self) -> list[Run]:
        return [run for run in self.client.all() if not run.is_finished]

    def tend(self) -> None:
        """Keep runs in flight and workers up, and note how far trainings are."""
        if time.monotonic() - self.topped_up < 0.2:
            return
        self.topped_up = time.monotonic()
        runs = self.unfinished()
        for run in runs:
            self._note_progress(run)
        if self.submitting and len([run for run in runs if run.wanted == "run"]) < IN_FLIGHT:
            self.submit()

    def submit(self) -> None:
        """A run that differs from all others, so that none is a cache hit. Who is refused comes again."""
        self.submitted += 1
        folder = self.texts / str(self.submitted)
        folder.mkdir(parents=True)
        text = f"# Text {self.submitted}\n\nThis is text number {self.submitted} of the drill.\n"
        (folder / "text.md").write_text(text * 12)
        if self.journal and self.random.random() < 0.15:
            (folder / "behave.json").write_text(json.dumps({"export": {"1": "exit"}}))
        options = {"documents": str(folder), **self.options}
        try:
            self.client.submit(options, name=f"drill-{self.submitted}")
        except Unavailable as error:
            self.notes.append(f"drill-{self.submitted} was refused: {error.message}")

    def _note_progress(self, run: Run) -> None:
        train = run.stage("train")
        if train.status == "running" and train.progress and train.progress.get("step"):
            self.progress.setdefault(run.id, []).append((time.time(), train.attempt, train.progress["step"]))

    def wait(self, reached: Callable[[], Any], seconds: float) -> Any:
        """Poll until `reached()` is true; its value, or None after so many seconds."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            value = reached()
            if value:
                return value
            self.tend()
            time.sleep(0.03)
        return None

    def victim(self) -> tuple[Run, Worker] | None:
        """A run whose stage's process is running now, most often a training; and its worker."""

        def found() -> tuple[Run, Worker] | None:
            busy = [(run, worker) for run in self.unfinished() if (worker := self.machine.holder(run))]
            busy = [(run, worker) for run, worker in busy if self.machine.stage_pid(run) and run.wanted == "run"]
            training = [pair for pair in busy if pair[0].current and pair[0].current.name == "train"]
            pairs = training if training and self.random.random() < 0.8 else busy
            return self.random.choice(pairs) if pairs else None

        found_one: tuple[Run, Worker] | None = self.wait(found, self._patience(20))
        return found_one

    # -- waiting

    def _patience(self, seconds: float) -> float:
        return max(0.1, min(seconds, self.next_fault - time.monotonic()))

    def pause_for(self, seconds: float) -> None:
        self.wait(lambda: False, seconds)

    def await_next(self, injected: Injected, run: Run, began: float) -> None:
        """Wait for the run's next attempt, or (if the fault came too late for that) its next stage."""
        assert run.current
        attempt, stage = run.current.attempt, run.current.name
        injected.runs.append(run.id)

        def next_sign() -> Event | None:
            for event in self.store.events(run.id):
                later = event.stage == stage and (event.attempt or 0) > attempt
                if event.at >= began and event.kind in GOES_ON and (later or event.stage != stage):
                    return event
            return None

        patience = self._patience(RECOVERY_SECONDS)
        event = self.wait(lambda: next_sign() or self.store.get(run.id).is_finished, patience)
        if isinstance(event, Event):
            injected.seconds = max(injected.seconds or 0.0, event.at - began)
        elif event is None and patience == RECOVERY_SECONDS:
            self.notes.append(f"{injected.kind}: run {run.name} didn't go on within {RECOVERY_SECONDS:.0f} s")

    def await_claim(self, injected: Injected, since: float, run: Run | None = None) -> None:
        """Wait until a stage of the run (or of any) is claimed: the queue delivers again."""

        def claimed() -> float | None:
            ids = [run.id] if run else [one.id for one in self.client.all(12)]
            times = [event.at for one in ids for event in self.store.events(one) if event.kind == "claimed"]
            return min((at for at in times if at > since), default=None)

        patience = self._patience(RECOVERY_SECONDS)
        at = self.wait(claimed, patience)
        injected.seconds = at - since if at else None
        if at is None and patience == RECOVERY_SECONDS:
            self.notes.append(f"{injected.kind}: nothing was claimed within {RECOVERY_SECONDS:.0f} s")

    # -- the end

    def finish(self, seconds: float = FINISH_SECONDS) -> None:
        """No more runs, no more faults: what was paused is resumed, what failed is retried, all must end in time."""
        self.submitting, self.next_fault = False, math.inf
        self.machine.replace_the_dead()
        for run in self.client.all():
            if run.wanted == "pause" and not run.is_finished:
                self.client.resume(run.id)
        until = time.monotonic() + seconds
        while time.monotonic() < until and (self.unfinished() or any(map(failed_by_design, self.client.all()))):
            for run in filter(failed_by_design, self.client.all()):
                self.client.retry(run.id)
                self.cancelled.discard(run.id)
            self.pause_for(0.5)


def failed_by_design(run: Run) -> bool:
    return run.status == "failed" and run.error is not None and BUG in run.error.message
