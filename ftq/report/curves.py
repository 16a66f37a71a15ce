"""metrics.jsonl as curves: losses and learning rate by step, thinned where a page has no room for all points."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ftq.files.run_dir import RunDir

Point = tuple[float, float]  # step, value
DRAWN = 600  # points of a curve
LARGEST = 1e30  # what is larger is no loss


@dataclass(frozen=True)
class Curves:
    """`unusable` counts lines and values that are no numbers; `whole` is False while the training goes on."""

    train: tuple[Point, ...] = ()
    valid: tuple[Point, ...] = ()
    rate: tuple[Point, ...] = ()
    unusable: int = 0
    whole: bool = True

    @property
    def last_step(self) -> float:
        return max((curve[-1][0] for curve in (self.train, self.valid, self.rate) if curve), default=0.0)

    @property
    def best(self) -> Point | None:
        """The lowest validation loss, the first of several."""
        return min(self.valid, key=lambda point: point[1]) if self.valid else None

    def kept(self, keep_best: bool) -> float | None:
        """The step of the adapter that was exported: the last one, or that of the best validation loss."""
        if not (self.train or self.valid):
            return None
        return self.best[0] if keep_best and self.best else self.last_step

    @property
    def is_thinned(self) -> bool:
        return max(len(self.train), len(self.valid), len(self.rate)) > DRAWN


def place(folder: RunDir) -> tuple[Path, bool]:
    """(the training's metrics, whether they are whole): those of the newest attempt as long as it hasn't ended."""
    if folder.metrics.is_file():
        return folder.metrics, True
    attempts = [path for path in folder.checkpoints.glob("*/metrics.jsonl") if path.parent.name.isdigit()]
    if not attempts:
        return folder.metrics, True
    return max(attempts, key=lambda path: int(path.parent.name)), False


def read(path: Path, whole: bool = True) -> Curves:
    """The curves of a metrics.jsonl. OSError if there is none."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        return curves(lines, whole)


def curves(lines: Iterable[str], whole: bool = True) -> Curves:
    points: dict[str, list[Point]] = {"train_loss": [], "valid_loss": [], "learning_rate": []}
    unusable = 0
    for line in lines:
        values = _values(line)
        step = _number(values.get("step")) if values is not None else None
        if values is None or step is None or step < 0:
            unusable += 1
            continue
        for name, curve in points.items():
            value = _number(values.get(name))
            if value is not None:
                curve.append((step, value))
            unusable += value is None and values.get(name) is not None
    train, valid, rate = (tuple(sorted(curve, key=lambda point: point[0])) for curve in points.values())
    return Curves(train, valid, rate, unusable, whole)


def thin(points: Sequence[Point], most: int = DRAWN) -> Sequence[Point]:
    """At most `most` points: of each piece the lowest and the highest, so that no peak is lost."""
    if len(points) <= most:
        return points
    pieces = most // 2
    bounds = [len(points) * number // pieces for number in range(pieces + 1)]
    kept = list[Point]()
    for begin, end in pairwise(bounds):
        numbers = range(begin, end)
        extremes = {min(numbers, key=lambda n: points[n][1]), max(numbers, key=lambda n: points[n][1])}
        kept += [points[number] for number in sorted(extremes)]
    return kept


def _values(line: str) -> dict[str, Any] | None:
    """The line's object; None for half a line, and for what is none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _number(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) <= LARGEST else None
