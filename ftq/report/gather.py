"""What a run's folder has for its report, each part on its own: what isn't there, or can't be read, is left out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from ftq.delivery.parts import Model, collect
from ftq.errors import UNREADABLE, FtqError
from ftq.evaluation.evaluation import Evaluation
from ftq.examples.report import DatasetReport
from ftq.files.disk import last_written
from ftq.files.export_report import ExportReport, GgufReport
from ftq.files.log_head import STARTED
from ftq.files.remote.record import FOLDER as RECORDS
from ftq.files.run_dir import REPORT, STAGES, RunDir
from ftq.report import curves
from ftq.report.curves import Curves
from ftq.store.records import Run, Stage

Made = TypeVar("Made")


@dataclass(frozen=True)
class File:
    """A GGUF file, and what the export has measured of it."""

    name: str
    bytes: int
    measured: GgufReport | None = None


@dataclass(frozen=True)
class Material:
    """What the page is made of. `model` is what `ftq pull` takes out; `lost` names the files that can't be read."""

    run: Run
    now: float
    dataset: DatasetReport | None
    curves: Curves | None
    evaluation: Evaluation | None
    files: tuple[File, ...]
    model: Model | None
    lost: tuple[str, ...]


def gather(run: Run, folder: RunDir, new: Path | None = None, now: float | None = None) -> Material:
    """What there is of the run. `new` is the folder that the stage evaluate writes into before it is published."""
    lost = list[str]()

    def read(path: Path, reader: Callable[[Path], Made]) -> Made | None:
        try:
            return reader(path) if path.is_file() else None
        except UNREADABLE:
            lost.append(f"dataset/{path.name}" if path.parent == folder.dataset else path.name)
            return None

    metrics, is_whole = curves.place(folder)
    return Material(
        run=run,
        now=time.time() if now is None else now,
        dataset=read(folder.dataset / REPORT, lambda path: DatasetReport.read(path.parent)),
        curves=read(metrics, lambda path: curves.read(path, is_whole)),
        evaluation=read(
            (new or folder.path) / folder.evaluation.name, lambda path: Evaluation.read(path).of_run(run.name)
        ),
        files=_files(run, folder, read(folder.export, lambda path: ExportReport.read(path.parent))),
        model=_model(run, folder),
        lost=tuple(lost),
    )


def run_of(folder: RunDir, ended: str = "") -> Run:
    """The run as its folder alone tells, with the times of the logs. `ended` is the stage that ends now."""
    value, done = folder.read_run(), STAGES[: STAGES.index(ended) + 1] if ended else ()
    stages = [_stage(folder, name, name in done, name == ended) for name in STAGES]
    return Run(
        id=value["id"],
        name=value["name"],
        model=value["spec"]["model"],
        spec=value["spec"],
        documents_hash=value.get("documents_hash", ""),
        wanted="run",
        kept=False,
        created_at=folder.run_json.stat().st_mtime,
        stages=stages,
    )


def ending(run: Run, stage: str, now: float) -> Run:
    """The recorded run as it is once this stage, which takes its files from the cache, has succeeded."""
    stages = [
        replace(one, status="succeeded", cached=True, finished_at=now) if one.name == stage else one
        for one in run.stages
    ]
    return replace(run, stages=stages)


def _files(run: Run, folder: RunDir, export: ExportReport | None) -> tuple[File, ...]:
    """The GGUF files that are there, f16 first, with what export.json says of them.

    Where the files are in a bucket, those that are recorded: this machine may have none of them.
    """
    measured = {one.file: one for one in export.ggufs} if export else {}
    sizes = {path.name: path.stat().st_size for path in folder.ggufs()}
    if not sizes and (folder.path / RECORDS).is_dir():
        sizes = {one.path: one.bytes for one in run.stage("export").artifacts or [] if one.path.startswith("model-")}
    names = sorted(sizes, key=lambda name: (name != "model-f16.gguf", -sizes[name]))
    return tuple(File(name, sizes[name], measured.get(name)) for name in names)


def _model(run: Run, folder: RunDir) -> Model | None:
    """The GGUF file that `ftq pull` takes out; None before there is one."""
    with contextlib.suppress(FtqError, *UNREADABLE):
        return collect(run, folder, "gguf")
    return None


def _stage(folder: RunDir, name: str, done: bool, now: bool) -> Stage:
    """A stage whose files are there has succeeded: with the last of them, or the last line of its log."""
    outputs = folder.outputs(name)
    began = finished = None
    with contextlib.suppress(*UNREADABLE):
        began = _began(folder.log(name))
        finished = max(map(last_written, [folder.log(name), *outputs]))
    return Stage(
        name=name,
        status="succeeded" if outputs or done else "queued",
        attempt=1,
        tries=0,
        losses=0,
        fresh_from=0,
        cached=False,
        key=None,
        worker=None,
        lease_until=None,
        queued_at=None,
        started_at=began,
        finished_at=time.time() if now else finished,
        progress=None,
        plan=None,
        changes=None,
        error=None,
        artifacts=None,
    )


def _began(log: Path) -> float:
    """When the last attempt began."""
    with log.open("rb") as lines:
        *_, last = (match[1].decode() for line in lines if (match := STARTED.match(line)))
    return datetime.strptime(last, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
