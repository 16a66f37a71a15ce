"""What people see: tables and the view of a run. Made by rich, so colours and widths fit where they go."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli.common import printable, size
from ftq.client import view
from ftq.plan import calibration
from ftq.plan.memory import least
from ftq.store.records import Run, Stage

# status -> (colour, symbol, symbol where the terminal has no UTF-8)
LOOKS = {
    "queued": ("yellow", "○", "."),
    "running": ("cyan", "●", ">"),
    "paused": ("magenta", "‖", "="),
    "succeeded": ("green", "✓", "+"),
    "failed": ("red", "✗", "x"),
    "cancelled": ("bright_black", "–", "-"),
}
BAR_WIDTH = 36


def console(stderr: bool = False) -> Console:
    """Coloured and as wide as the terminal; in a pipe plain, and so wide that nothing is cut."""
    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=1000)


def put(out: Console, what: RenderableType) -> None:
    """Print it; in a pipe without the blanks that fill a table's cells."""
    if out.is_terminal:
        out.print(what)
        return
    with out.capture() as captured:
        out.print(what)
    text = "".join(line.rstrip() + "\n" for line in captured.get().splitlines())
    click.echo(text, nl=False, err=out.stderr)


# ---- the list of runs -------------------------------------------------------------------------------------


LOST_FIRST = ("MODEL", "LOSS", "AGE", "%", "STAGE", "ID")  # of the list's columns, where the terminal is narrow
NAME_WIDTH = 16  # a longer name goes on in the next line before a column is lost for it


def runs_table(runs: list[Run], now: float, width: int, symbols: bool = True) -> RenderableType:
    """The columns for which there is room. Nothing is cut."""
    columns: dict[str, list[Text]] = {
        name: [Text(name, "dim")] for name in ("ID", "NAME", "MODEL", "STATUS", "STAGE", "%", "LOSS", "AGE")
    }
    for run in map(clean, runs):
        at_work = run.current if run.status in ("running", "paused", "failed") else None
        percent = (view.progress(run) or {}).get("percent") if at_work else None
        cells = (
            Text(run.id, "dim"), Text(run.name, "bold"), Text(run.model.rpartition("/")[2]), _status(run, symbols),
            Text(at_work.name if at_work else ""), Text("" if percent is None else f"{percent:.0f}"),
            Text(_loss(view.loss(run))), Text(short(now - run.created_at)),
        )  # fmt: skip
        for column, cell in zip(columns.values(), cells, strict=True):
            column.append(cell)
    for name in LOST_FIRST:
        widths = {name: max(cell.cell_len for cell in column) for name, column in columns.items()}
        if sum(widths.values()) + 2 * len(widths) - 2 + min(0, NAME_WIDTH - widths["NAME"]) > width:
            del columns[name]
    table = _table()
    for name, column in columns.items():
        right, whole = name in ("%", "LOSS", "AGE"), name != "NAME"
        table.add_column(column[0], justify="right" if right else "left", no_wrap=whole, overflow="fold")
    for row in list(zip(*columns.values(), strict=True))[1:]:
        table.add_row(*row)
    return table


def print_runs(runs: list[Run]) -> None:
    out = console()
    put(out, runs_table(runs, time.time(), out.width, has_symbols(out)))


# ---- one run ----------------------------------------------------------------------------------------------


def run_view(run: Run, home: Path, now: float, notes: Iterable[str] = (), *, whole: bool = True,
             symbols: bool = True) -> RenderableType:  # fmt: skip
    """The run from top to bottom; what doesn't change while it works only in the `whole` view."""
    run = clean(run)
    parts: list[RenderableType] = [_header(run, now, symbols), "", _stages(run, now, symbols), *_plan(run),
                                     *_progress(run, now)]  # fmt: skip
    parts += [Text(printable(f"! {note}"), "yellow") for note in notes]
    parts += _failure(run)
    if whole:
        parts += [*_artifacts(run, home), "", *asked_for(run.spec)]
    parts += _next(run)
    return Group(*parts)


def print_run(run: Run, home: Path, notes: Iterable[str] = (), *, stderr: bool = False) -> None:
    out = console(stderr)
    put(out, run_view(run, home, time.time(), notes, symbols=has_symbols(out)))


def _header(run: Run, now: float, symbols: bool) -> RenderableType:
    first = Text.assemble((run.name, "bold"), ("  " + run.id, "dim"), f"  {run.model}  ", _status(run, symbols))
    times = f"submitted {clock(run.created_at)} ({short(now - run.created_at)} ago)"
    if run.finished_at and run.started_at:
        times += f", took {duration(run.finished_at - run.started_at)}"
    kept = ", kept" if run.kept else ""
    return Group(first, Text(times + kept, "dim"), Text(f"documents {run.spec.get('documents', '')}", "dim"))


def _stages(run: Run, now: float, symbols: bool) -> RenderableType:
    table = _table("STAGE", "STATUS", "ATTEMPT")
    table.add_column(Text("TIME", "dim"), justify="right", no_wrap=True)
    table.add_column("")
    table.columns[2].justify = "right"
    for stage in run.stages:
        taken = view.seconds(stage, now)
        attempt = str(stage.attempt) if stage.started_at or stage.attempt > 1 else ""
        label = Text(f"{_symbol(stage.status, symbols)} {stage.status}", LOOKS[stage.status][0])
        if stage.status == "queued" and run.is_finished:
            label = Text("  not started", "dim")
        table.add_row(stage.name, label, attempt, "" if taken is None else duration(taken), Text(_remark(stage), "dim"))
    return table


def _remark(stage: Stage) -> str:
    remarks = ["cached: its inputs haven't changed"] if stage.cached else []
    if stage.status == "running" and stage.worker:
        remarks.append(f"on {stage.worker}")
    if stage.status == "succeeded" and (counts := numbers({**(stage.progress or {}), "tokens_per_second": None})):
        remarks.append(counts)
    if stage.changes:
        remarks.append("adapted: " + ", ".join(f"{key}={value}" for key, value in stage.changes.items()))
    return "; ".join(remarks)


def _plan(run: Run) -> list[RenderableType]:
    """How it is trained, and how far the prediction was off."""
    found = run.stage("train").plan or {}
    if not found.get("message"):
        return []
    parts: list[RenderableType] = ["", Text("plan: ", "dim") + Text(found["message"])]
    if compared := calibration.compare(found):
        shown = {"peak": lambda number: f"{number / 2**30:.1f} GiB", "seconds": duration}
        predicted = [shown[name](one["predicted"]) for name, one in compared.items()]
        measured = [f"{shown[name](one['measured'])} ({100 * one['error']:+.0f} %)" for name, one in compared.items()]
        parts.append(Text(f"predicted {' and '.join(predicted)}, measured {' and '.join(measured)}"))
    return parts


def _progress(run: Run, now: float) -> list[RenderableType]:
    found, stage = view.progress(run), run.current
    if not found or stage is None or run.is_finished:
        return []
    percent = float(found.get("percent") or 0)
    line = Table.grid(padding=(0, 2, 0, 0))
    bar = ProgressBar(total=100, completed=percent, width=BAR_WIDTH, complete_style="cyan", finished_style="green")
    line.add_row(Text(stage.name, "bold"), bar, f"{percent:.0f} %", Text(time_left(found)))
    parts: list[RenderableType] = ["", line]
    if counts := numbers(found):
        parts.append(Text(counts))
    if found.get("updated_at"):
        parts.append(Text(f"last report {short(now - found['updated_at'])} ago", "dim"))
    return parts


def time_left(progress: dict[str, Any]) -> str:
    eta = progress.get("eta_seconds")
    return "" if eta is None else f"{duration(eta)} left"


def numbers(progress: dict[str, Any]) -> str:
    found = []
    if progress.get("step") is not None:
        total = progress.get("total_steps")
        found.append(f"step {progress['step']}" + (f" of {total}" if total else ""))
    if progress.get("loss") is not None:
        found.append(f"loss {_loss(progress['loss'])}")
    if progress.get("tokens_per_second") is not None:
        found.append(f"{progress['tokens_per_second']:,.0f} tokens/s")
    return ", ".join(found)


def _failure(run: Run) -> list[RenderableType]:
    if not run.error or run.current is None:
        return []
    head = Text(f"{run.current.name} failed ({run.error['kind']}): {run.error['message']}", "red")
    hint = run.error.get("hint", "").replace(" RUN`", f" {run.name}`")
    return ["", head, *([Text(hint)] if hint else [])]


def _artifacts(run: Run, home: Path) -> list[RenderableType]:
    found = view.artifacts(run, home)
    if not found:
        return []
    table = _table("ARTIFACT")
    table.add_column(Text("SIZE", "dim"), justify="right", no_wrap=True)
    table.add_column(Text("PATH", "dim"), overflow="fold")
    for artifact in found:
        table.add_row(artifact["kind"], size(artifact["bytes"]), _near(artifact["path"]))
    return ["", table]


def asked_for(spec: dict[str, Any]) -> list[RenderableType]:
    from ftq.spec.options import changed  # pydantic: not for the list of runs

    asked = changed(spec)
    if not asked:
        return [Text("asked for: the defaults (`ftq options`)", "dim")]
    shown = [f"{name}={value if len(value) <= 60 else value[:59] + '…'}" for name, value in asked.items()]
    return [Text("asked for beyond the defaults", "dim"), *(Text(printable(f"  {line}")) for line in shown)]


def _next(run: Run) -> list[RenderableType]:
    name, status = run.name, run.status
    if status == "failed" and run.current:
        lines = [f"ftq logs {name} --stage {run.current.name}", f"ftq retry {name}"]
    elif status == "cancelled":
        lines = [f"ftq retry {name}"]
    elif status == "paused":
        lines = [f"ftq resume {name}"]
    elif status == "succeeded":
        lines = [f'ftq infer {name} "..."']
    else:
        return []
    return ["", Text("next: ", "dim") + Text("   ".join(lines))]


# ---- other tables -----------------------------------------------------------------------------------------


def print_models(models: Iterable[Any]) -> None:
    """The three last columns of numbers: least GPU memory in GiB, one row of 2048 tokens at a time."""
    table = _table("ALIAS", "HUB ID")
    for heading in ("SIZE", "CONTEXT", "4 BIT", "16 BIT", "FASTEST"):
        table.add_column(Text(heading, "dim"), justify="right", no_wrap=True)
    table.add_column(Text("LICENCE", "dim"), no_wrap=True)
    table.columns[1].no_wrap, table.columns[1].min_width = False, 8  # it gives way where the terminal is narrow
    for model in models:
        size_b = f"{model.parameters_b:g}B" if model.parameters_b >= 1 else f"{model.parameters_b * 1000:g}M"
        memory = [f"{number / 2**30:.1f}" for number in least(model.shape).values()]
        hub_id = Text(model.hub_id, no_wrap=True, overflow="ellipsis")
        table.add_row(Text(model.alias, "bold"), hub_id, size_b, str(model.context), *memory, model.licence)
    put(console(), table)


def print_options(options: list[dict[str, str]]) -> None:
    table = _table("OPTION")
    for heading in ("DEFAULT", "ALLOWED", "MEANING"):
        table.add_column(Text(heading, "dim"), overflow="fold")
    for option in options:
        table.add_row(
            Text(option["name"], "bold"), option["default"].replace(",", ", "), option["allowed"], option["help"]
        )
    put(console(), table)


def print_sizes(runs: list[tuple[Run, int]]) -> None:
    table = _table("ID", "NAME", "STATUS", "AGE")
    table.add_column(Text("SIZE", "dim"), justify="right", no_wrap=True)
    out = console()
    for run, number in ((clean(run), number) for run, number in runs):
        age = short(time.time() - run.created_at)
        table.add_row(Text(run.id, "dim"), Text(run.name, "bold"), _status(run, has_symbols(out)), age, size(number))
    put(out, table)


# ---- words and numbers ------------------------------------------------------------------------------------


def clean(value: Any) -> Any:
    """A run, or a part of it, with all its text printable: any user of the database may have written it."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [clean(part) for part in value]
    if isinstance(value, dict):
        return {clean(name): clean(part) for name, part in value.items()}
    if isinstance(value, (Run, Stage)):
        return replace(value, **{name: clean(part) for name, part in vars(value).items()})
    return value


def duration(seconds: float) -> str:
    """2.1 s, 1:23, 4:05:06."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short(seconds: float) -> str:
    """How long ago, in one unit: 45s, 12m, 3h, 5d."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def clock(at: float) -> str:
    """The local time; the day too unless it is today's."""
    moment = datetime.fromtimestamp(at)
    today = moment.date() == datetime.now().date()
    return moment.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")


def _status(run: Run, symbols: bool) -> Text:
    colour, *_ = LOOKS[run.status]
    word = (
        {"cancel": "stopping", "pause": "pausing"}.get(run.wanted, "running") if run.status == "running" else run.status
    )
    return Text(f"{_symbol(run.status, symbols)} {word}", colour)


def _symbol(status: str, symbols: bool) -> str:
    return LOOKS[status][1 if symbols else 2]


def has_symbols(out: Console) -> bool:
    return out.encoding.startswith("utf")


def _loss(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if value < 100 else f"{value:.3g}"


def _near(path: str) -> str:
    """Relative to where the user is, if it lies below."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for heading in headings:
        table.add_column(Text(heading, "dim"), no_wrap=True)
    return table
