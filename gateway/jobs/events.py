"""What happened to a job, in the words that scripts wait for. The order is a sequence: many events share a second."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from ftq.store.gateway.jobs import Job
from ftq.store.records import Event, Run
from gateway import models
from gateway.errors import without_paths
from gateway.jobs import results, shown
from gateway.jobs.results import Line

DONE = frozenset({"succeeded", "cache_hit"})
AS_TOLD = {"note": "info", "warning": "warn", "lost": "warn", "retried": "info", "paused": "info", "resumed": "info"}
WANDB = (
    "Weights & Biases: project, entity and name are those that the worker is set up with (WANDB_PROJECT, WANDB_ENTITY)."
)


class Told(NamedTuple):
    """An event, before its words are put together: of a step there is the line, not yet the message."""

    id: str
    at: float
    level: str
    message: str
    line: Line | None = None
    total: int = 0  # steps


def history(run: Run, job: Job | None, events: Sequence[Event], lines: Sequence[Line]) -> Iterator[Told]:
    """Every event of the job, the newest first: of what the database has noted, with the steps of training between.

    Steps are told as they are asked for: a poll wants ten of thousands.
    """
    for some in reversed(list(_Teller(run, job, lines).tell(events))):
        yield from some


def shown_event(told: Told) -> dict[str, Any]:
    """The event object."""
    data = results.numbers(told.line) | {"total_steps": told.total} if told.line else {}
    return {
        "object": "fine_tuning.job.event",
        "id": told.id,
        "created_at": int(told.at),
        "level": told.level,
        "message": _of_step(data) if told.line else told.message,
        "data": data,
        "type": "metrics" if told.line else "message",
    }


class _Teller:
    def __init__(self, run: Run, job: Job | None, lines: Sequence[Line]) -> None:
        self.run, self.job, self.lines = run, job, lines
        self.told = 0  # lines
        self.at = run.created_at  # when training came as far as is told
        self.trains = False
        last = lines[-1]["step"] if lines else 0
        self.total = max((run.stage("train").progress or {}).get("total_steps") or 0, last)

    def tell(self, events: Sequence[Event]) -> Iterator[Iterable[Told]]:
        """What belongs together, the oldest first; inside it the newest is first."""
        for event in events:
            if event.stage == "train" and event.kind in ("claimed", "checkpoint"):
                if event.kind == "checkpoint" and event.data:
                    yield self._steps(event.data["step"])
                self.at = event.at
            elif self._ends_training(event):
                yield self._steps(None)
            prefix = f"ftevent-{self.run.id}e{event.id:08d}"
            words = [Told(f"{prefix}{number}", event.at, *said) for number, said in enumerate(self._words(event))]
            yield reversed(words)
        yield self._steps(None)

    def _ends_training(self, event: Event) -> bool:
        later = event.stage in ("export", "infer", "evaluate")
        return later or (event.stage == "train" and event.kind in (*DONE, "failed", "cancelled"))

    def _steps(self, up_to: int | None) -> Iterator[Told]:
        """The lines that aren't told yet, up to a step."""
        first, self.told = self.told, len(self.lines)
        if up_to is not None:
            self.told = max(first, bisect_right(self.lines, up_to, key=itemgetter("step")))
        at, prefix = self.at, f"ftevent-{self.run.id}m"  # as they are now
        lines = (self.lines[number] for number in reversed(range(first, self.told)))
        return (Told(f"{prefix}{line['step']:08d}", at, "info", "", line, self.total) for line in lines)

    def _words(self, event: Event) -> list[tuple[str, str]]:
        """(level, message) of each event that clients get for one of ours; none for what is ftq's own business."""
        if event.kind == "submitted":
            return self._created()
        if event.kind == "failed":
            error = shown.shown(self.run, self.job)["error"]
            return [("error", error["message"] if error else without_paths(event.message))]
        if event.kind == "cancelled" and event.stage is None:
            return [("info", "The job was cancelled")]
        if event.kind == "claimed" and event.stage == "train" and not self.trains:
            self.trains = True
            return [("info", "Fine-tuning job started")]
        if event.kind in DONE:
            return self._done(event.stage)
        level = AS_TOLD.get(event.kind)
        return [(level, without_paths(event.message))] if level else []

    def _created(self) -> list[tuple[str, str]]:
        asked = self.job.asked if self.job else {}
        files = f"training file: {asked.get('training_file', f'file-{self.run.id}')}"
        if asked.get("validation_file"):
            files += f" and validation file: {asked['validation_file']}"
        told = [f"Created fine-tuning job: {shown.job_id(self.run)}", f"Validating {files}"]
        return [("info", text) for text in told] + ([("warn", WANDB)] if asked.get("integrations") else [])

    def _done(self, stage: str | None) -> list[tuple[str, str]]:
        if stage == "prepare":
            return [("info", "Files validated, moving job to queued state")]
        if stage == "export":
            steps = models.checkpoint_steps(self.run)[:-1]
            names = [(step, models.checkpoint_name(self.run, self.job, step)) for step in steps]
            return [("info", f"Checkpoint created at step {step} with Snapshot ID: {name}") for step, name in names]
        if stage == "evaluate":
            name = models.name_of(self.run, self.job)
            return [("info", f"New fine-tuned model created: {name}"), ("info", "The job has successfully completed")]
        return []


def _of_step(data: dict[str, Any]) -> str:
    names = {"train_loss": "training loss", "valid_loss": "validation loss", "full_valid_loss": "full validation loss"}
    losses = ", ".join(f"{name}={data[key]:.2f}" for key, name in names.items() if key in data)
    return f"Step {data['step']}/{data['total_steps']}: {losses}"
