"""What went into a run, how the training went, what was asked for, how long it took, and how to use the model."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ftq.delivery.pull import folder_of
from ftq.delivery.use import commands
from ftq.examples.report import DatasetReport
from ftq.page.frame import name, text
from ftq.questions.row import Contradiction
from ftq.report import plot
from ftq.report.curves import DRAWN, Curves
from ftq.report.gather import Material
from ftq.report.svg import figure
from ftq.spec.options import changed
from ftq.store.records import Stage
from ftq.words import duration, plural

Item = TypeVar("Item")
LISTED, STATED = 20, 4  # lines of a list; values of a contradiction
LONG, PATH = 300, 160  # characters


# ---- what went in -------------------------------------------------------------------------------------


def dataset(report: DatasetReport) -> str:
    """Counts, contradictions, what was skipped, and what else is worth knowing."""
    numbers = {
        f"documents, {len(report.documents.used):,} of them used": report.documents.taken,
        "facts": report.questions.facts if report.questions else 0,
        "rows to train on": report.train,
        "rows held out": report.valid,
        "tokens": report.tokens.total,
        "in the longest row": report.tokens.longest,
    }
    contradictions = report.questions.contradictions if report.questions else ()
    skipped = [(one.path, one.reason) for one in report.documents.skipped]
    skipped += [(one.where, one.reason) for one in report.records_skipped]
    return "\n".join(
        [
            _figures(numbers),
            f'<p class="dim">{_else(report)}</p>' if _else(report) else "",
            _list("Contradictions", contradictions, _contradiction),
            _list("Skipped", skipped, lambda one: f"{name(one[0], PATH)}: {text(one[1], LONG)}"),
            _list("Worth knowing", report.documents.notes, lambda note: text(note, LONG)),
        ]
    )


def _figures(numbers: dict[str, int]) -> str:
    shown = (f"<div><dd>{number:,}</dd><dt>{label}</dt></div>" for label, number in numbers.items())
    return f"<dl>{''.join(shown)}</dl>"


def _else(report: DatasetReport) -> str:
    """What else happened to the rows, in a sentence."""
    left_out = report.questions.left_out if report.questions else {}
    lines = [f"{plural(number, 'question')} left out: {text(why, PATH)}" for why, number in left_out.items() if number]
    if report.split_into_parts:
        parts = plural(report.split_into_parts, "long text")
        lines.insert(0, f"{parts} split so that each row fits {report.max_seq_length:,} tokens")
    if report.duplicates:
        lines.insert(0, f"{plural(report.duplicates, 'duplicate')} left out")
    return "; ".join(lines[:LISTED]) + "." if lines else ""


def _contradiction(one: Contradiction) -> str:
    stated = "; ".join(
        f'{name(said.value, PATH)} <span class="dim">({name(said.file, PATH)}:{said.line})</span>'
        for said in one.stated[:STATED]
    )
    more = f"; and {len(one.stated) - STATED:,} more" if len(one.stated) > STATED else ""
    return f"{name(one.subject, PATH)}, {name(one.attribute, PATH)}: {stated}{more}"


def _list(title: str, items: Sequence[Item], line: Callable[[Item], str]) -> str:
    """The first items under their own heading, and how many more there are."""
    if not items:
        return ""
    shown = "".join(f"<li>{line(one)}</li>" for one in items[:LISTED])
    more = f"<li>and {len(items) - LISTED:,} more: dataset/report.json</li>" if len(items) > LISTED else ""
    return f"<h3>{title}</h3><ul>{shown}{more}</ul>"


# ---- how the training went ----------------------------------------------------------------------------


def training(curves: Curves, keep_best: bool, plan: str) -> str:
    """The charts, what they don't show, and how it was computed."""
    plots = [plot.losses(curves, keep_best), plot.rates(curves)]
    drawn = "".join(figure(one) for one in plots if one)
    lines = [*_told(curves, keep_best), *([f"Plan: {text(plan, LONG)}."] if plan else [])]
    return f'<div class="plots">{drawn}</div><p class="dim">{" ".join(lines)}</p>' if drawn else ""


def _told(curves: Curves, keep_best: bool) -> list[str]:
    lines = []
    best = curves.best
    if not curves.whole:
        lines.append(f"The training has come to step {curves.last_step:,.0f}.")
    elif best and len(curves.valid) > 1 and not keep_best and best[0] < curves.valid[-1][0]:
        lines.append(
            f"The validation loss was best at step {best[0]:,.0f} ({best[1]:.4g}); the last adapter was kept. "
            "keep_best=true keeps the best one."
        )
    if curves.is_thinned:
        longest = max(len(curves.train), len(curves.valid), len(curves.rate))
        lines.append(f"Drawn are the lowest and the highest of every few of {longest:,} points, {DRAWN} in all.")
    if curves.unusable:
        lines.append(f"Not drawn, as they are no numbers: {plural(curves.unusable, 'value')}.")
    return lines


# ---- what was asked for, and how long it took ---------------------------------------------------------


def options(material: Material) -> str:
    """The options that differ from the defaults."""
    asked = changed(material.run.spec)
    rows = "".join(
        f'<tr><th scope="row">{text(key)}</th><td class="words">{text(value, LONG)}</td></tr>'
        for key, value in asked.items()
    )
    rest = "All other options have their defaults." if asked else "All options have their defaults."
    table = f"<table><tbody>{rows}</tbody></table>" if asked else ""
    return f'{table}<p class="dim">{rest}</p>'


def times(material: Material) -> str:
    """How long each stage took, and of which nothing is known."""
    stages = material.run.stages
    durations = {stage.name: _seconds(stage, material.now) for stage in stages}
    longest = max((seconds or 0 for seconds in durations.values()), default=0) or 1
    rows = "".join(_time(stage, durations[stage.name], longest) for stage in stages)
    known = [seconds for seconds in durations.values() if seconds is not None]
    total = f'<p class="dim">{duration(sum(known))} in all.</p>' if len(known) > 1 else ""
    return f"<table><tbody>{rows}</tbody></table>{total}" if known else ""


def _time(stage: Stage, seconds: float | None, longest: float) -> str:
    bar = f'<i style="width:{max(1, round(100 * (seconds or 0) / longest))}%"></i>' if seconds is not None else ""
    shown = "" if seconds is None else duration(seconds)
    return (
        f'<tr><th scope="row">{text(stage.name)}<small>{_remark(stage)}</small></th><td class="bar">{bar}</td>'
        f"<td>{shown}</td></tr>"
    )


def _remark(stage: Stage) -> str:
    remarks = [] if stage.status == "succeeded" else [stage.status]
    remarks += ["from the cache: nothing had changed"] if stage.cached else []
    remarks += [f"attempt {stage.attempt}"] if stage.attempt > 1 else []
    return text("; ".join(remarks))


def _seconds(stage: Stage, now: float) -> float | None:
    if stage.started_at is None or stage.status == "queued":
        return None
    end = now if stage.status == "running" else stage.finished_at
    return None if end is None else max(0.0, end - stage.started_at)


# ---- how to use it ------------------------------------------------------------------------------------


def use(material: Material) -> str:
    """What to type: the lines that `ftq pull` prints, after itself."""
    if material.model is None:
        return ""
    run, folder = material.run, folder_of(material.model)
    called = shlex.quote(run.version_name or run.name)
    blocks = {
        "Copy it out of the artifacts, checked": f"ftq pull {called} --to {shlex.quote(str(folder))}",
        **dict(zip(("With Ollama", "With llama.cpp"), commands(material.model, Path(folder)), strict=False)),
        "Through ftq's own workers": f'ftq infer {called} "..."',
    }
    return (
        '<div class="use">'
        + "".join(f'<p class="dim">{title}</p><pre>{text(line, 1000)}</pre>' for title, line in blocks.items())
        + "</div>"
    )
