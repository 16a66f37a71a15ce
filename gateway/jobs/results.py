"""What a run has measured: the lines of its metrics.jsonl, and the result file made of them."""

from __future__ import annotations

import csv
import io
import json
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

from ftq.files.run_dir import RunDir
from ftq.store.records import Run
from gateway.files.asked import RESULTS
from gateway.shared import Gateway

Line = dict[str, Any]
COLUMNS = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")
NAME = "step_metrics.csv"
REMEMBERED = 128  # runs whose lines are in memory


def metrics(folder: RunDir) -> tuple[Line, ...]:
    """The lines so far, by step; none where none are there. A file that hasn't changed isn't read again."""
    from ftq.report import curves

    path, _ = curves.place(folder)
    try:
        stat = path.stat()
        return _lines(path, stat.st_mtime_ns, stat.st_size)
    except OSError:  # none yet; put in place, or removed, at this moment
        return ()


def numbers(line: Line) -> Line:
    """A line as clients know it: losses that are numbers, and what isn't measured left out."""
    values = {"step": line["step"], "train_loss": line.get("train_loss"), "valid_loss": line.get("valid_loss")}
    values["full_valid_loss"] = values["valid_loss"]  # each evaluation is of all that is held out
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}


def file_id(run: Run) -> str:
    """The id of its result file: a run that is trained anew gets another one."""
    return f"file-{run.id}r{run.stage('train').attempt}"


def keep(gateway: Gateway, run: Run) -> None:
    """Make the result file of a run that was trained, unless it is there."""
    if file_id(run) in _kept:
        return
    lines = metrics(gateway.client.run_dir(run.id))
    if lines:
        gateway.files.add(file_id(run), run.key, NAME, RESULTS, to_csv(lines), run.id)
        _kept.add(file_id(run))


_kept: set[str] = set()  # of this process, to spare a look at each poll


def to_csv(lines: tuple[Line, ...]) -> bytes:
    """A row a step, with empty cells where nothing was measured."""
    text = io.StringIO()
    rows = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    rows.writeheader()
    for line in lines:
        rows.writerow(numbers(line))
    return text.getvalue().encode()


@lru_cache(REMEMBERED)
def _lines(path: Path, changed: int, size: int) -> tuple[Line, ...]:
    whole = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    return tuple(line for line in map(json.loads, whole) if "step" in line)
