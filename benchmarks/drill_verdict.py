"""What a drill's runs came to, from the event log, the stages' journal and the files that lie there."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.drill_faults import FAULTS, PUBLISHED, count_events
from benchmarks.drill_runs import Drill
from ftq.files.run_dir import STAGES, RunDir
from ftq.store.records import Event, Run


@dataclass
class Verdict:
    """`twice` and `lost` name a run and why; `repeated` is (run, when, steps) for each attempt that repeated some."""

    twice: list[tuple[str, float, str]] = field(default_factory=list)
    lost: list[tuple[str, float, str]] = field(default_factory=list)
    repeated: list[tuple[str, float, int]] = field(default_factory=list)


def judge(drill: Drill) -> Verdict:
    verdict, journal = Verdict(), list(_journal(drill.journal))
    for run in drill.client.all():
        events = drill.store.events(run.id)
        wanted = {"cancelled"} if run.id in drill.cancelled else {"succeeded"}
        if run.id in drill.cancelled and events[-1].stage == STAGES[-1]:
            wanted.add("succeeded")  # the cancel came when the last stage was ending
        if run.status not in wanted:
            verdict.lost.append((run.id, time.time(), f"{run.name} is {run.status}: {run.error or ''}"))
        verdict.twice += [(run.id, at, f"{run.name}: {why}") for at, why in _published_twice(events)]
        lines = [line for line in journal if line["run"] == run.id]
        verdict.twice += [(run.id, at, f"{run.name}: {why}") for at, why in _worked_twice(lines)]
        if drill.journal:
            folder = drill.machine.published(run)
            verdict.twice += [(run.id, time.time(), f"{run.name}: {why}") for why in _published_by_another(run, folder)]
            verdict.repeated += [(run.id, at, steps) for at, steps in _repeated(lines, events)]
        else:
            verdict.repeated += [(run.id, at, steps) for at, steps in _repeated_as_seen(drill, run, events)]
    return verdict


def _journal(path: Path | None) -> Iterator[dict[str, Any]]:
    if path and path.exists():
        for line in path.read_text().splitlines():
            yield json.loads(line)


def _published_twice(events: list[Event]) -> Iterator[tuple[float, str]]:
    """A stage that succeeded more than once without the user's retry between."""
    done: set[str] = set()
    for event in events:
        if event.kind == "retried" and event.attempt is None and event.stage:
            done -= set(STAGES[STAGES.index(event.stage) :])
        elif event.kind in PUBLISHED and event.stage:
            if event.stage in done:
                yield event.at, f"{event.stage} was published twice"
            done.add(event.stage)


def _worked_twice(lines: list[dict[str, Any]]) -> Iterator[tuple[float, str]]:
    """An attempt that still worked more than a second after a later one of the same stage had begun."""
    for stage in STAGES:
        mine = [line for line in lines if line["stage"] == stage]
        begun = {line["attempt"]: line["at"] for line in mine if line["event"] == "start"}
        starts = [line for line in mine if line["event"] == "start"]
        for attempt in begun:
            if len([line for line in starts if line["attempt"] == attempt]) > 1:
                yield begun[attempt], f"attempt {attempt} of {stage} was started twice"
        for line in mine:
            later = min((at for attempt, at in begun.items() if attempt > line["attempt"]), default=None)
            if later is not None and line["at"] > later + 1.0:
                yield line["at"], f"attempt {line['attempt']} of {stage} worked on beside a later one"


def _published_by_another(run: Run, folder: RunDir) -> Iterator[str]:
    """What lies there must be what the attempt that succeeded made: whole, and each step once."""
    made = {"prepare": folder.dataset, "train": folder.adapter, "export": folder.merged}
    for stage, path in made.items():
        row = run.stage(stage)
        if row.status == "succeeded" and (path / "made_by").read_text() != str(row.attempt):
            yield f"{stage} of attempt {row.attempt} was overwritten by {(path / 'made_by').read_text()}"
    if run.stage("train").status == "succeeded":
        steps = json.loads((folder.adapter / "steps.json").read_text())["steps"]
        if steps != list(range(1, run.spec["max_steps"] + 1)):
            yield f"the adapter has the steps {steps}"
    left = [path.name for path in folder.path.glob("*.partial")]
    if left and run.status == "succeeded":
        yield f"left behind: {left}"


def _repeated(lines: list[dict[str, Any]], events: list[Event]) -> Iterator[tuple[float, int]]:
    """For each attempt of train, how many of its steps an earlier one had done; anew by the user's wish is none."""
    anew = [e.at for e in events if e.kind == "retried" and e.attempt is None and e.stage in ("prepare", "train")]
    attempts = sorted({line["attempt"] for line in lines if line["stage"] == "train"})
    for attempt in attempts:
        mine = [line for line in lines if line["stage"] == "train" and line["attempt"] == attempt]
        since = max((at for at in anew if at < mine[0]["at"]), default=0.0)
        before = {
            line["step"] for line in lines
            if line["stage"] == "train" and line["attempt"] < attempt and line["event"] == "step" and line["at"] > since
        }  # fmt: skip
        steps = len(before & {line["step"] for line in mine if line["event"] == "step"})
        if steps:
            yield mine[0]["at"], steps


def _repeated_as_seen(drill: Drill, run: Run, events: list[Event]) -> Iterator[tuple[float, int]]:
    """The same for real trainings, from the progress that the database showed five times a second."""
    seen = drill.progress.get(run.id, [])
    for event in events:
        if event.kind == "resumed" and event.stage == "train" and event.data:
            furthest = max((step for _, attempt, step in seen if attempt < (event.attempt or 0)), default=0)
            if furthest > event.data["step"]:
                yield event.at, furthest - event.data["step"]


def table(drill: Drill, verdict: Verdict) -> str:
    """The outcome as Markdown: a line for each kind of fault, then the totals."""

    def blamed(run: str, at: float) -> str | None:
        before = [one for one in drill.injected if run in one.runs and one.at <= at]
        return before[-1].kind if before else None

    lines = ["| fault | injected | runs affected | executed twice | lost | steps repeated (worst) | "
             "seconds until work went on (median, worst) |", "|---|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
    for kind in FAULTS:
        mine = [one for one in drill.injected if one.kind == kind]
        if not mine:
            continue
        twice = sum(blamed(run, at) == kind for run, at, _ in verdict.twice)
        lost = sum(blamed(run, at) == kind for run, at, _ in verdict.lost)
        steps = [steps for run, at, steps in verdict.repeated if blamed(run, at) == kind]
        seconds = [one.seconds for one in mine if one.seconds is not None]
        took = f"{statistics.median(seconds):.1f}, {max(seconds):.1f}" if seconds else "–"
        repeated = f"{sum(steps)} ({max(steps)})" if steps else "0"
        affected = sum(len(one.runs) for one in mine)
        lines.append(f"| {kind} | {len(mine)} | {affected} | {twice} | {lost} | {repeated} | {took} |")
    runs = drill.client.all()
    steps = [steps for _, _, steps in verdict.repeated]
    seconds = [one.seconds for one in drill.injected if one.seconds is not None]
    took = f"{statistics.median(seconds):.1f}, {max(seconds):.1f}" if seconds else "–"
    lines.append(f"| **all** | **{len(drill.injected)}** | {sum(len(one.runs) for one in drill.injected)} "
                 f"| **{len(verdict.twice)}** | **{len(verdict.lost)}** "
                 f"| {sum(steps)} ({max(steps, default=0)}) | {took} |")  # fmt: skip
    counts = {status: sum(run.status == status for run in runs) for status in ("succeeded", "cancelled", "failed")}
    shown = ", ".join(f"{count} {status}" for status, count in counts.items())
    finished = sum(run.is_finished for run in runs)
    lines += ["", f"Runs submitted: {len(runs)}, finished: {finished} ({shown}); attempts of stages: "
              f"{count_events(drill, {'claimed'})}; workers started: {drill.machine.started}."]  # fmt: skip
    lost, in_a_row = _losses(drill)
    lines += ["", f"Attempts lost: {lost}, of one stage without a checkpoint between them at most {in_a_row}."]
    return "\n".join(lines)


def _losses(drill: Drill) -> tuple[int, int]:
    """(attempts that were lost, most of a stage in a row without a checkpoint)."""
    total = most = 0
    for run in drill.client.all():
        row: dict[str | None, int] = {}
        for event in drill.store.events(run.id):
            if event.kind == "lost":
                total += 1
                row[event.stage] = row.get(event.stage, 0) + 1
                most = max(most, row[event.stage])
            elif event.kind == "checkpoint" or event.kind in PUBLISHED:
                row[event.stage] = 0
    return total, most
