"""A run as the outside sees it: the shape of `--json`, in one place."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftq.client.workers import Member
from ftq.errors import UNREADABLE, Refused
from ftq.files.artifact import Artifact
from ftq.files.disk import size_of
from ftq.files.run_dir import run_dir
from ftq.store.records import FINISHED, Event, Run, Stage, Version, queue_of
from ftq.words import listed, numbers

if TYPE_CHECKING:
    from ftq.evaluation.evaluation import Evaluation

VIEWED = {"export": "export.json", "evaluate": "eval.json"}  # what is read here, by the stage that makes it
MODELS = ("gguf", "adapter", "merged")  # kinds of artifacts
PROGRESS = ("percent", "step", "total_steps", "loss", "tokens_per_second", "eta_seconds", "doing")


def as_dict(run: Run, home: Path, now: float | None = None, url: str = "") -> dict[str, Any]:
    """A run as plain JSON values: times in ISO 8601 (UTC), paths absolute, null for what is missing (yet).

    `url` is that of the bucket, if there is one.
    """
    now = time.time() if now is None else now
    reported = progress(run)
    return {
        "id": run.id,
        "name": run.name,
        "version": run.version_name,
        "status": run.status,
        "model": run.model,
        "revision": run.revision,
        "created_at": iso(run.created_at),
        "started_at": iso(run.started_at),
        "finished_at": iso(run.finished_at),
        "stage": run.current.name if run.current else None,
        "progress": {**{key: reported.get(key) for key in PROGRESS}, "updated_at": iso(reported.get("updated_at"))}
        if reported
        else None,
        "stages": [_stage(stage, now) for stage in run.stages],
        "artifacts": [asdict(artifact) for artifact in artifacts(run, home, url)],
        "evaluation": _evaluation(run, home),
        "error": asdict(run.error) if run.error else None,
    }


def event_as_dict(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "at": iso(event.at),
        "stage": event.stage,
        "attempt": event.attempt,
        "kind": event.kind,
        "message": event.message,
        "data": event.data,
    }


def worker_as_dict(member: Member) -> dict[str, Any]:
    worker, facts = member.worker, member.worker.facts
    return {
        "name": worker.name,
        "host": worker.host,
        "state": member.state,
        "waits": worker.waits or None,
        "seen_at": iso(worker.seen_at),
        "silent_seconds": round(member.silent, 1),
        "queues": worker.queues,
        "labels": worker.labels,
        "gpu": worker.gpu,
        "gpus": facts.get("gpus"),
        "memory": facts.get("memory"),
        "version": facts.get("version"),
        "stages": facts.get("stages"),
        "foreign_keys": worker.foreign,
        "refused": worker.refused or None,
        "doing": [{**asdict(work), "since": iso(work.since)} for work in member.work],
    }


def version_as_dict(version: Version) -> dict[str, Any]:
    return {
        "version": version.name,
        "latest": version.is_latest,
        "run": version.run or None,
        "id": version.run_id,
        "model": version.model or None,
        "created_at": iso(version.created_at),
        "gone": version.gone,
    }


def progress(run: Run) -> dict[str, Any] | None:
    """The last report of the stage at work, or of train once the run has succeeded; `eta_seconds` only at work."""
    stage = run.current or run.stage("train")
    return stage.progress if stage.status == "running" or not stage.progress else stage.progress | {"eta_seconds": None}


def loss(run: Run) -> float | None:
    """The training's last loss, also while a later stage is at work."""
    value = (run.stage("train").progress or {}).get("loss")
    return float(value) if value is not None else None


def artifacts(run: Run, home: Path, url: str = "") -> list[Artifact]:
    """What all stages have published, the paths absolute; in the bucket at the URL, if it isn't on this machine."""
    return [
        replace(artifact, path=_place(home, run.id, f"{stage.name}.{stage.attempt}", artifact, url))
        for stage in run.stages
        if stage.status == "succeeded"
        for artifact in stage.artifacts or []
    ]


def _place(home: Path, run_id: str, part: str, artifact: Artifact, url: str) -> str:
    path = home / run_id / artifact.path
    is_here = not url or (path.exists() and size_of(path) == artifact.bytes)
    return str(path) if is_here else f"{url}/{run_id}/{part}/{artifact.path}"


def elsewhere(run: Run, home: Path, made_by: str = "export") -> Refused | None:
    """What to say if the stage has succeeded, but on machines whose files aren't here; None if they are, or were."""
    from ftq.files.remote.record import FOLDER as RECORDS

    stage, folder = run.stage(made_by), run_dir(home, run.id).path
    artifacts = (stage.artifacts or []) if stage.status == "succeeded" else []
    if (folder / RECORDS).is_dir():  # what people look at was fetched out of a bucket, which now isn't named
        artifacts = [one for one in artifacts if one.kind in MODELS]
    if not artifacts or any((folder / one.path).exists() for one in artifacts):
        return None
    return Refused(
        f"the {made_by} of {run.name} has succeeded, but its files aren't in FTQ_HOME ({home})",
        "Set FTQ_ARTIFACTS_URL if the queue's machines share a bucket, or FTQ_HOME to the folder that they share.",
    )


def held(run: Run, home: Path) -> dict[str, str]:
    """{GGUF file: the types of its weights}, as the export has measured them."""
    from ftq.files.export_report import ExportReport

    with contextlib.suppress(*UNREADABLE):
        return {one.file: one.held for one in ExportReport.read(run_dir(home, run.id).path).ggufs if one.held}
    return {}


def evaluation(run: Run, home: Path) -> Evaluation | None:
    """What the stage evaluate has written; None if it hasn't (yet), or the file can't be read."""
    from ftq.evaluation.evaluation import Evaluation

    done = any(stage.name == "evaluate" and stage.status == "succeeded" for stage in run.stages)
    whole = Evaluation.read_if_whole(run_dir(home, run.id).evaluation) if done else None
    return whole.of_run(run.name) if whole else None


def seconds(stage: Stage, now: float) -> float | None:
    """How long the attempt took, or has been going on."""
    if stage.started_at is None or stage.status == "queued":
        return None
    return max(0.0, (now if stage.status == "running" else stage.finished_at or now) - stage.started_at)


def remark(stage: Stage) -> str:
    """What else is to be said of a stage."""
    remarks = ["cached: its inputs haven't changed"] if stage.cached else []
    if stage.status == "running" and stage.worker:
        remarks.append(f"on {stage.worker}")
    if stage.status == "succeeded" and (counts := numbers({**(stage.progress or {}), "tokens_per_second": None})):
        remarks.append(counts)
    if stage.changes:
        remarks.append("adapted: " + ", ".join(f"{key}={value}" for key, value in stage.changes.items()))
    return "; ".join(remarks)


def turn(run: Run, members: Sequence[Member]) -> str:
    """Whose work a queued run waits for; empty if a worker is free for it, or if none could take it."""
    if run.status != "queued" or run.wanted != "run" or run.current is None:
        return ""
    queue = queue_of(run.current.name, run.spec)
    serving = [one for one in members if one.state == "up" and queue in one.worker.served]
    if not all(one.work for one in serving):
        return ""
    work = [part for one in serving for part in one.work]  # of another's run a server doesn't tell the id
    does = [f"{part.worker} does {part.run if part.run_id else 'another run'} ({part.stage})" for part in work]
    return f"{run.name} waits for its turn: {listed(does)}" if does else ""


def silence(run: Run, lease_seconds: float, now: float) -> float | None:
    """Seconds since the last sign of life of the stage at work; None if none is at work."""
    stage = run.current
    if stage is None or stage.status != "running":
        return None
    signs = [stage.started_at, (stage.progress or {}).get("updated_at")]
    signs.append(stage.lease_until - lease_seconds if stage.lease_until else None)
    return now - max((sign for sign in signs if sign is not None), default=now)


def iso(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _evaluation(run: Run, home: Path) -> dict[str, Any] | None:
    """All but the questions and their answers, which eval.json has."""
    whole = evaluation(run, home)
    return {name: value for name, value in whole.to_json().items() if name != "questions"} if whole else None


def _stage(stage: Stage, now: float) -> dict[str, Any]:
    from ftq.plan import calibration  # the planning is only for --json

    taken = seconds(stage, now)
    waiting = stage.status == "queued"  # the times are an earlier attempt's
    return {
        "stage": stage.name,
        "status": stage.status,
        "attempt": stage.attempt,
        "cached": stage.cached,
        "started_at": None if waiting else iso(stage.started_at),
        "finished_at": iso(stage.finished_at) if stage.status in FINISHED else None,
        "seconds": None if taken is None else round(taken, 3),
        "plan": {**stage.plan, "compared": calibration.compare(stage.plan)} if stage.plan else None,
    }
