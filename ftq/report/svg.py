"""A line chart as SVG: few lines, the numbers at the axes, and all of it in words for who doesn't see it."""

from __future__ import annotations

from ftq.page.frame import text
from ftq.report.plot import Line, Plot, Tick

WIDTH, HEIGHT, TOP, BOTTOM, RIGHT = 380, 230, 10, 42, 12
LETTER = 6.8  # width of a digit
COLOURS = {"training": "one", "validation": "two", "": "one"}


def figure(plot: Plot) -> str:
    """The chart under its title, with a key and the last values."""
    keys = "".join(
        f'<span class="key {COLOURS[line.name]}">{line.name} {line.last}</span>' for line in plot.lines if line.name
    )
    return f"<figure><figcaption><b>{text(plot.title)}</b>{keys}</figcaption>{_drawing(plot)}</figure>"


def _drawing(plot: Plot) -> str:
    left = 12 + LETTER * max(len(tick.label) for tick in plot.y)
    said = text(plot.text)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}"><title>{said}</title>',
        *(_across(tick, left) for tick in plot.y),
        *(_below(tick, left) for tick in plot.x),
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">step</text>',
        _kept(plot.kept, left) if plot.kept else "",
        *(_curve(line, left) for line in plot.lines),
        "</svg>",
    ]
    return "".join(parts)


def _across(tick: Tick, left: float) -> str:
    y = _y(tick.at)
    return (
        f'<line class="grid" x1="{left:.1f}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
        f'<text x="{left - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{text(tick.label)}</text>'
    )


def _below(tick: Tick, left: float) -> str:
    x = _x(tick.at, left)
    anchor = "end" if tick.at > 0.96 else "middle"
    return f'<text x="{x}" y="{HEIGHT - BOTTOM + 18}" text-anchor="{anchor}">{text(tick.label)}</text>'


def _kept(tick: Tick, left: float) -> str:
    """A line at the checkpoint that was exported, its label on the side that has room."""
    x, side = _x(tick.at, left), -1 if tick.at > 0.5 else 1
    anchor = "end" if side < 0 else "start"
    return (
        f'<line class="kept" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text x="{x + 6 * side}" y="{TOP + 12}" text-anchor="{anchor}">{text(tick.label)}</text>'
    )


def _curve(line: Line, left: float) -> str:
    colour = COLOURS[line.name]
    places = [(_x(x, left), _y(y)) for x, y in line.points]
    drawn = f'<polyline class="{colour}" points="{" ".join(f"{x},{y}" for x, y in places)}"/>'
    dots = "".join(f'<circle class="{colour}" cx="{x}" cy="{y}" r="3"/>' for x, y in places if line.dots)
    return drawn + dots


def _x(at: float, left: float) -> float:
    return round(left + at * (WIDTH - RIGHT - left), 1)


def _y(at: float) -> float:
    return round(TOP + (1 - at) * (HEIGHT - TOP - BOTTOM), 1)
