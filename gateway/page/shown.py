"""A run in words, as templates show it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from ftq.client import view
from ftq.client.client import Client
from ftq.errors import first_line
from ftq.store.records import Run, Stage
from ftq.words import duration, numbers, time_left

SYMBOLS = {"queued": "○", "running": "●", "paused": "‖", "succeeded": "✓", "failed": "✗", "cancelled": "–"}
UPLOADED = re.compile(r"/\.[^/]+\.partial/(documents|training)$")  # by this page, or as a job's training file
ACTIONS = {
    "pause": "Pause",
    "resume": "Resume",
    "cancel": "Cancel",
    "retry": "Retry",
    "promote": "Make it latest",
    "keep": "Keep",
    "release": "Don't keep",
    "delete": "Delete",
}


@dataclass(frozen=True)
class State:
    """A status: its word, the symbol before it and the class of its colour."""

    word: str
    symbol: str
    kind: str


@dataclass(frozen=True)
class ShownStage:
    name: str
    state: State
    attempt: str
    time: str
    remark: str


@dataclass(frozen=True)
class Shown:
    """`percent` of the stage at work, None where none is; `told` is how it goes in a line; `age` in seconds."""

    id: str
    name: str
    model: str
    documents: str
    state: State
    percent: float | None
    stage: str
    told: str
    age: float
    submitted: str


def shown(run: Run, now: float) -> Shown:
    progress = view.progress(run) or {}
    percent = progress.get("percent") if run.current and not run.is_finished else None
    return Shown(
        id=run.id,
        name=run.name,
        model=run.model.rpartition("/")[2],
        documents=documents_of(run),
        state=State(run.state, SYMBOLS[run.status], run.status),
        percent=None if percent is None else min(100.0, max(0.0, float(percent))),
        stage=run.current.name if run.current else "",
        told=_told(run),
        age=now - run.created_at,
        submitted=datetime.fromtimestamp(run.created_at, UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def stages(run: Run, now: float) -> list[ShownStage]:
    return [_stage(run, stage, now) for stage in run.stages]


def actions(run: Run, is_latest: bool) -> Iterator[tuple[str, str]]:
    """(name, what the button says) of what may be done to the run now."""
    names = ["release" if run.kept else "keep"]
    if run.is_finished:
        names += ["retry"] if run.status != "succeeded" else []
        names += ["promote"] if run.version and not is_latest else []
    elif run.wanted != "cancel":
        names += ["resume" if run.wanted == "pause" else "pause", "cancel"]
    names += ["delete"] if run.status != "running" else []
    return ((name, word) for name, word in ACTIONS.items() if name in names)


def again(run: Run) -> list[str]:
    """The stages from which a finished run can be done anew: none behind one that isn't done."""
    if not run.is_finished:
        return []
    names = [stage.name for stage in run.stages]
    return names[: names.index(run.current.name) + 1] if run.current else names


def links(run: Run, client: Client) -> list[tuple[str, str]]:
    """(page below the run's, what it is) of what there is to read."""
    folder = client.run_dir(run.id)
    told = any((folder.path / name).is_file() for name in ("report.html", "eval.json", "metrics.jsonl"))
    has_report = told or "step" in (run.stage("train").progress or {})
    pages = [("report.html", "Report")] if has_report else []
    pages += [("preview.html", "Dataset preview")] if (folder.dataset / "preview.html").is_file() else []
    return pages + [(f"logs/{stage}", f"Log of {stage}") for stage in client.logs(run)]


def documents_of(run: Run) -> str:
    path = str(run.spec.get("documents", ""))
    return "uploaded files" if UPLOADED.search(path) else path


def _told(run: Run) -> str:
    if run.error and run.current:
        return f"{run.current.name} failed: {first_line(Exception(run.error.message))}"
    if run.status == "succeeded":
        took = run.finished_at - run.started_at if run.finished_at and run.started_at else None
        said = [run.version_name or "", f"took {duration(took)}" if took is not None else ""]
        return ", ".join(filter(None, said))
    stage = run.current
    if stage is None or stage.status != "running":
        return f"at {stage.name}" if stage and run.started_at else ""
    progress = view.progress(run) or {}
    return ", ".join(filter(None, (stage.name, numbers(progress), time_left(progress))))


def _stage(run: Run, stage: Stage, now: float) -> ShownStage:
    taken = view.seconds(stage, now)
    status = run.status_of(stage)
    state = State(status, SYMBOLS[status], status)
    if stage.status == "queued" and run.is_finished:
        state = State("not started", " ", "queued")
    attempt = str(stage.attempt) if stage.started_at or stage.attempt > 1 else ""
    return ShownStage(stage.name, state, attempt, "" if taken is None else duration(taken), view.remark(stage))
