"""What a line chart shows, in numbers from 0 to 1: the page draws it as SVG, the stage as loss.png."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ftq.report.curves import Curves, Point, thin

DIGITS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
TICKS = 5  # of an axis, about
DOTS = 60  # points that can be told apart


@dataclass(frozen=True)
class Tick:
    """`at`: where on the axis, from 0 to 1."""

    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """`points` are (x, y) from 0 to 1; with `dots` each is marked. `last` is the last value, in words."""

    name: str
    points: tuple[Point, ...]
    dots: bool
    last: str


@dataclass(frozen=True)
class Plot:
    """`kept` is where on the x axis the exported checkpoint stands, with its label; `text` says all of it in words."""

    title: str
    lines: tuple[Line, ...]
    x: tuple[Tick, ...]
    y: tuple[Tick, ...]
    kept: Tick | None
    text: str


def losses(curves: Curves, keep_best: bool) -> Plot | None:
    """The losses of train and valid; None without any."""
    step = curves.kept(keep_best) if curves.whole else None
    kept = None if step is None else (step, f"kept: step {step:,.0f}")
    return _plot("Loss", {"training": curves.train, "validation": curves.valid}, kept)


def rates(curves: Curves) -> Plot | None:
    """The learning rate; None without any."""
    return _plot("Learning rate", {"": curves.rate}, None)


def _plot(title: str, curves: dict[str, tuple[Point, ...]], kept: tuple[float, str] | None) -> Plot | None:
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return None
    power = _power(max(abs(value) for _, value in points))
    unit = f", in 10{str(power).translate(DIGITS)}" if power else ""
    scale = 10.0**power
    right = max(step for step, _ in points) or 1.0
    values = _steps(min(value for _, value in points) / scale, max(value for _, value in points) / scale)
    low, span = values[0], values[-1] - values[0]

    def line(name: str, curve: tuple[Point, ...]) -> Line:
        drawn = tuple((step / right, (value / scale - low) / span) for step, value in thin(curve))
        dots = len(drawn) <= DOTS if name == "validation" else len(drawn) == 1
        return Line(name, drawn, dots, f"{curve[-1][1]:.4g}")

    lines = tuple(line(name, curve) for name, curve in curves.items() if curve)
    said = "; ".join(
        f"{name} {curve[0][1]:.4g} at first, {curve[-1][1]:.4g} at last".strip()
        for name, curve in curves.items()
        if curve
    )
    steps = [step for step in _steps(0, right, whole=True) if step <= right]
    return Plot(
        title=title + unit,
        lines=lines,
        x=tuple(Tick(step / right, f"{step:,.0f}") for step in steps),
        y=tuple(Tick((value - low) / span, f"{value:g}") for value in values),
        kept=Tick(kept[0] / right, kept[1]) if kept else None,
        text=f"{title} by step, {right:,.0f} steps: {said}" + (f"; {kept[1]}" if kept else ""),
    )


def _power(largest: float) -> int:
    """The power of ten that small numbers are written in: 0.0002 as 2 with 10⁻⁴."""
    power = math.floor(math.log10(largest)) if largest else 0
    return power if power < -1 or power > 3 else 0


def _steps(low: float, high: float, whole: bool = False) -> Sequence[float]:
    """Round numbers, evenly apart, from `low` or less to `high` or more: at least two."""
    if low == high:  # the one value stands in the middle
        low, high = (low - abs(low) / 2, high + abs(high) / 2) if low else (0.0, 1.0)
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / TICKS))
    apart = next(step * power for step in (1, 2, 5, 10) if step * power * TICKS >= span * 0.999)
    apart = max(apart, 1.0) if whole else apart
    first = math.floor(low / apart + 1e-9)
    last = max(math.ceil(high / apart - 1e-9), first + 1)
    return [float(f"{number * apart:.10g}") for number in range(first, last + 1)]
