"""report.html and loss.png: what came of a run, for people."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ftq.errors import first_line
from ftq.files.run_dir import RunDir, put_text
from ftq.report import plot
from ftq.report.gather import Material, gather
from ftq.report.page import PAGE, page
from ftq.store.records import Run

PICTURE = "loss.png"


def present(run: Run, folder: RunDir, out: Path, warn: Callable[[str], None]) -> None:
    """Write what is missing of both into `out`, which has eval.json.

    The evaluation is whole without them: each that fails is told, and the other one made.
    """
    material = None
    with _told("report", warn):
        material = gather(run, folder, out)
        put_text(out / PAGE, page(material))
    if material and not (out / PICTURE).exists():
        with _told("picture of its losses", warn):
            _draw(material, out / PICTURE)


def _draw(material: Material, path: Path) -> None:
    losses = plot.losses(material.curves, bool(material.run.spec.get("keep_best"))) if material.curves else None
    if losses:
        from worker.stages.evaluate.picture import draw

        draw(losses, path)


@contextmanager
def _told(what: str, warn: Callable[[str], None]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        traceback.print_exc()
        why = f"{type(error).__name__}: {first_line(error)}"
        logs = "`ftq logs RUN --stage evaluate`"
        warn(f"the {what} couldn't be made ({why}): {logs}. The same run submitted again makes only that anew")
