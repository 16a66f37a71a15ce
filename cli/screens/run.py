"""The view of one run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli.evaluation.table import evaluation_view
from cli.screens import terminal, words
from ftq.client import view
from ftq.errors import OPTIONS, FtqError, printable
from ftq.plan import calibration
from ftq.store.records import Run
from ftq.words import size

BAR_WIDTH = 36
REMARK = ""  # a column without a heading
NARROW = 60  # columns of a terminal, below which no words fit beside the stages


def print_run(
    run: Run,
    home: Path,
    notes: Iterable[str] = (),
    *,
    stderr: bool = False,
    url: str = "",
    elsewhere: FtqError | None = None,
) -> None:
    """`url` is that of the bucket, if there is one; `elsewhere` says that the model can't be used from here."""
    out = terminal.console(stderr)
    symbols = terminal.has_symbols(out)
    terminal.put(out, run_view(run, home, time.time(), notes, symbols=symbols, url=url, elsewhere=elsewhere))


def run_view(
    run: Run,
    home: Path,
    now: float,
    notes: Iterable[str] = (),
    *,
    whole: bool = True,
    symbols: bool = True,
    url: str = "",
    elsewhere: FtqError | None = None,
) -> RenderableType:
    """The run from top to bottom; the `whole` view adds what doesn't change while it runs."""
    run = terminal.clean(run)
    parts: list[RenderableType] = [
        _header(run, now, symbols),
        "",
        _Stages(run, now, symbols),
        *_plan(run),
        *_progress(run, now),
    ]
    parts += [Text(printable(f"! {note}"), "yellow") for note in notes]
    parts += _failure(run)
    if whole:
        parts += [*_evaluation(run, home), *_artifacts(run, home, url), "", *asked_for(run.spec)]
    parts += _next(run, elsewhere)
    return Group(*parts)


def _header(run: Run, now: float, symbols: bool) -> RenderableType:
    first = Text.assemble((run.name, "bold"), ("  " + run.id, "dim"), f"  {run.model}  ", words.status(run, symbols))
    times = f"submitted {words.clock(run.created_at)} ({words.short(now - run.created_at)} ago)"
    if run.finished_at and run.started_at:
        times += f", took {words.duration(run.finished_at - run.started_at)}"
    times += f", version {run.version_name}" if run.version_name else ""
    kept = ", kept" if run.kept else ""
    revision = [Text(f"base model's revision {run.revision}", "dim")] if run.revision else []
    return Group(first, Text(times + kept, "dim"), Text(f"documents {run.spec.get('documents', '')}", "dim"), *revision)


@dataclass
class _Stages:
    """The table of stages. On a narrow terminal its remarks stand below it."""

    run: Run
    now: float
    symbols: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        narrow = options.max_width < NARROW
        yield _stages(self.run, self.now, self.symbols, remarks=not narrow)
        remarks = {stage.name: view.remark(stage) for stage in self.run.stages} if narrow else {}
        yield from (Text(f"{name}: {remark}", "dim") for name, remark in remarks.items() if remark)


def _stages(run: Run, now: float, symbols: bool, remarks: bool) -> RenderableType:
    headings = ("STAGE", "STATUS", "ATTEMPT", "TIME", *([REMARK] if remarks else []))
    table = terminal.Rows(headings, ("ATTEMPT", "TIME"), {REMARK: 16})
    for stage in run.stages:
        seconds = view.seconds(stage, now)
        attempt = str(stage.attempt) if stage.started_at or stage.attempt > 1 else ""
        status = run.status_of(stage)
        label = Text(f"{words.symbol(status, symbols)} {status}", words.LOOKS[status][0])
        if stage.status == "queued" and run.is_finished:
            label = Text("  not started", "dim")
        cells = (stage.name, label, attempt, "" if seconds is None else words.duration(seconds))
        table.add(*cells, *([Text(view.remark(stage), "dim")] if remarks else []))
    return table


def _plan(run: Run) -> list[RenderableType]:
    """How it is trained, and how far the prediction was off."""
    train = run.stage("train")
    plan = train.plan or {}
    if not plan.get("message"):
        return []
    parts: list[RenderableType] = ["", Text("plan: ", "dim") + Text(plan["message"])]
    compared = calibration.compare(plan) if train.status == "succeeded" else {}  # else it's of an attempt before
    if compared:
        start = compared.pop("starting", None)
        shown = {"peak": lambda number: f"{number / 2**30:.1f} GiB", "seconds": words.duration}
        predicted = [shown[name](one["predicted"]) for name, one in compared.items()]
        measured = [f"{shown[name](one['measured'])} ({100 * one['error']:+.0f} %)" for name, one in compared.items()]
        started = (words.duration(start[name]) for name in ("predicted", "measured")) if start else ()
        beside = "; its start {} and {}".format(*started) if start else ""
        parts.append(Text(f"predicted {' and '.join(predicted)}, measured {' and '.join(measured)}{beside}"))
    return parts


def _progress(run: Run, now: float) -> list[RenderableType]:
    progress, stage = view.progress(run), run.current
    if not progress or stage is None or run.is_finished:
        return []
    percent = float(progress.get("percent") or 0)
    line = Table.grid(padding=(0, 2, 0, 0))
    bar = ProgressBar(total=100, completed=percent, width=BAR_WIDTH, complete_style="cyan", finished_style="green")
    line.add_row(Text(stage.name, "bold"), bar, f"{percent:.0f} %", Text(words.time_left(progress)))
    parts: list[RenderableType] = ["", line]
    at_work = stage.status == "running"
    if counts := words.numbers(progress if at_work else {**progress, "tokens_per_second": None}):
        parts.append(Text(counts))
    if progress.get("updated_at") and at_work:
        parts.append(Text(f"last report {words.short(now - progress['updated_at'])} ago", "dim"))
    return parts


def _failure(run: Run) -> list[RenderableType]:
    if not run.error or run.current is None:
        return []
    head = Text(f"{run.current.name} failed ({run.error.kind}): {run.error.message}", "red")
    return ["", head, *([Text(run.error.hint)] if run.error.hint else [])]


def _evaluation(run: Run, home: Path) -> list[RenderableType]:
    evaluation = view.evaluation(run, home)
    return ["", *evaluation_view(evaluation, run.name)] if evaluation else []


def _artifacts(run: Run, home: Path, url: str) -> list[RenderableType]:
    artifacts = view.artifacts(run, home, url)
    if not artifacts:
        return []
    table = terminal.Rows(("ARTIFACT", "SIZE", "PATH"), ("SIZE",), {"PATH": 16})
    held = view.held(run, home)
    for artifact in artifacts:
        types = held.get(Path(artifact.path).name, "")
        path = Text.assemble(_near(artifact.path), (f"  {types}" if types else "", "dim"))
        if "://" not in artifact.path and not os.path.exists(artifact.path):
            path = Text("not on this machine", "dim")
        table.add(artifact.kind, size(artifact.bytes), path)
    return ["", table]


def _near(path: str) -> str:
    """Relative to where the user is, if it lies below."""
    if "://" in path:
        return path
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def asked_for(spec: dict[str, Any]) -> list[RenderableType]:
    from ftq.spec.options import changed  # pydantic: not for the list of runs

    asked = changed(spec)
    if not asked:
        return [Text("asked for: the defaults (`ftq options`)", "dim")]
    shown = [f"{name}={value if len(value) <= 60 else value[:59] + '…'}" for name, value in asked.items()]
    return [Text("asked for beyond the defaults", "dim"), *(Text(printable(f"  {line}")) for line in shown)]


def _next(run: Run, elsewhere: FtqError | None) -> list[RenderableType]:
    name, status = run.name, run.status
    if status == "failed" and run.current:
        again = [] if run.error and run.error.about == OPTIONS else [f"ftq retry {name}"]
        lines = [f"ftq logs {name} --stage {run.current.name}", *again]
    elif status == "cancelled":
        lines = [f"ftq retry {name}"]
    elif status == "paused":
        lines = [f"ftq resume {name}"]
    elif status == "succeeded" and elsewhere:
        return ["", Text(printable(f"! {elsewhere.text}"), "yellow")]
    elif status == "succeeded":
        lines = [f'ftq infer {name} "..."', f"ftq pull {name}"]
    else:
        return []
    return ["", Text("next: ", "dim") + Text("   ".join(lines))]
