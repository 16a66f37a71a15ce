"""report.html and loss.png: what came of a run, for people."""

from __future__ import annotations

import traceback
from pathlib import Path

from ftq.errors import first_line
from ftq.files.run_dir import RunDir, put_text
from ftq.report import plot
from ftq.report.gather import gather, run_of
from ftq.report.page import PAGE, page
from worker.stages.process.main import Report


def present(run: RunDir, out: Path, keep_best: bool, report: Report) -> None:
    """Write both into `out`, which has eval.json. The evaluation is whole without them: a failure is only told."""
    try:
        material = gather(run_of(run, "evaluate"), run, out)
        put_text(out / PAGE, page(material))
        losses = plot.losses(material.curves, keep_best) if material.curves else None
        if losses:
            from worker.stages.evaluate.picture import draw

            draw(losses, out / "loss.png")
    except Exception as error:
        traceback.print_exc()
        why = f"{type(error).__name__}: {first_line(error)}"
        report.event("warning", f"the report couldn't be made ({why}): `ftq logs RUN --stage evaluate`")
