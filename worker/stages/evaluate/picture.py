"""loss.png: the losses of a run as a picture, for where no page can be shown."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ftq.report.plot import Line, Plot

WIDTH, HEIGHT = 1200, 700
LEFT, RIGHT, TOP, BOTTOM = 90, 40, 90, 70
FINER = 3  # drawn so much larger, then made smaller: Pillow's lines have hard edges
PAPER, INK, DIM, GRID = "#ffffff", "#1d2329", "#667079", "#e2e5e8"
COLOURS = {"training": "#3f7cac", "validation": "#c8632b"}


def draw(plot: Plot, path: Path) -> None:
    """Write the chart as a PNG."""
    Picture(plot).image.reduce(FINER).save(path, optimize=True)


class Picture:
    def __init__(self, plot: Plot) -> None:
        self.image = Image.new("RGB", (WIDTH * FINER, HEIGHT * FINER), PAPER)
        self.pen = ImageDraw.Draw(self.image)
        self._text((LEFT, 34), plot.title, 30, INK, "lm")
        self._key(plot)
        for tick in plot.y:
            y = self._y(tick.at)
            self._stroke([(LEFT, y), (WIDTH - RIGHT, y)], GRID, 1)
            self._text((LEFT - 14, y), tick.label, 20, DIM, "rm")
        for tick in plot.x:
            self._text((self._x(tick.at), HEIGHT - BOTTOM + 24), tick.label, 20, DIM, "mm")
        self._text((WIDTH - RIGHT, HEIGHT - 18), "step", 20, DIM, "rm")
        if plot.kept:
            x, anchor = self._x(plot.kept.at), "rm" if plot.kept.at > 0.5 else "lm"
            self._stroke([(x, TOP), (x, HEIGHT - BOTTOM)], DIM, 1)
            self._text((x + (-10 if anchor == "rm" else 10), TOP + 18), plot.kept.label, 20, DIM, anchor)
        for line in plot.lines:
            self._curve(line)

    def _key(self, plot: Plot) -> None:
        x = float(LEFT)
        for line in plot.lines:
            self._stroke([(x, 68), (x + 26, 68)], COLOURS[line.name], 4)
            label = f"{line.name} {line.last}"
            self._text((x + 36, 68), label, 20, DIM, "lm")
            x += 36 + self._font(20).getlength(label) / FINER + 40

    def _curve(self, line: Line) -> None:
        places = [(self._x(x), self._y(y)) for x, y in line.points]
        if len(places) > 1:
            self._stroke(places, COLOURS[line.name], 3)
        for x, y in places if line.dots else ():
            box = [(x - 6) * FINER, (y - 6) * FINER, (x + 6) * FINER, (y + 6) * FINER]
            self.pen.ellipse(box, fill=COLOURS[line.name])

    def _stroke(self, places: list[tuple[float, float]], colour: str, width: int) -> None:
        self.pen.line([(x * FINER, y * FINER) for x, y in places], colour, width * FINER, joint="curve")

    def _text(self, place: tuple[float, float], text: str, size: int, colour: str, anchor: str) -> None:
        self.pen.text((place[0] * FINER, place[1] * FINER), text, colour, self._font(size), anchor)

    def _font(self, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        """The font that comes with Pillow: a worker may have none."""
        return ImageFont.load_default(size * FINER)

    def _x(self, at: float) -> float:
        return LEFT + at * (WIDTH - RIGHT - LEFT)

    def _y(self, at: float) -> float:
        return TOP + (1 - at) * (HEIGHT - TOP - BOTTOM)
