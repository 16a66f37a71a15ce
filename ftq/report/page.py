"""report.html: a run on one page. What came of it stands first, what went in and how it was made after it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from ftq.files.run_dir import RunDir, put_text
from ftq.page.frame import code, document, name, section, text
from ftq.report import inputs, results
from ftq.report.gather import Material, gather
from ftq.store.records import Run
from ftq.version import VERSION
from ftq.words import plural

PAGE = "report.html"


def write(run: Run, folder: RunDir, path: Path | None = None, new: Path | None = None) -> Path:
    """Make the page, anew in the run's folder unless there is another path. `new` is what a stage will publish."""
    path = path or (new or folder.path) / PAGE
    put_text(path, page(gather(run, folder, new)))
    return path


def page(material: Material) -> str:
    """The page's HTML."""
    sections = _sections(material)
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title, _ in sections)
    parts = [
        _header(material, f"<nav>{links}</nav>" if len(sections) > 1 else ""),
        "<main>",
        *(section(title, content, anchor) for anchor, title, content in sections),
        "</main>",
        _footer(material),
    ]
    return document(f"{_called(material.run)}: report", "report", parts)


def _sections(material: Material) -> list[tuple[str, str, str]]:
    """(anchor, title, content) of those that have something to say."""
    run, evaluation = material.run, material.evaluation
    keep_best = bool(run.spec.get("keep_best"))
    plan = str((run.stage("train").plan or {}).get("message", ""))
    sections = [
        ("learned", "Did it learn?", results.scoreboard(evaluation) if evaluation else ""),
        ("answers", "Answers side by side", results.answers(evaluation) if evaluation else ""),
        ("training", "Training", inputs.training(material.curves, keep_best, plan) if material.curves else ""),
        ("dataset", "What went in", inputs.dataset(material.dataset) if material.dataset else ""),
        ("files", "Files", results.files(material)),
        ("use", "How to use it", inputs.use(material)),
        ("options", "Options", inputs.options(material)),
        ("times", "Time", inputs.times(material)),
    ]
    return [one for one in sections if one[2]]


def _called(run: Run) -> str:
    return run.version_name or run.name


def _header(material: Material, links: str) -> str:
    run = material.run
    about = f"{name(run.model)}, tuned on {name(run.spec.get('documents', ''))}"
    return f"<header><h1>{name(_called(run))}</h1><p>{about}</p>{_lead(material)}{links}</header>"


def _lead(material: Material) -> str:
    """What came of it; before the end, how far it is."""
    run = material.run
    html = results.lead(material.evaluation, run.name) if material.evaluation else ""
    if error := run.error:
        stage = run.current.name if run.current else ""
        html += f'<p class="lead bad">The stage {text(stage)} failed: {text(error.message, 600)}</p>'
        html += f"<p>{code(error.hint, 600)}</p>"
    elif run.current:
        done = sum(stage.status == "succeeded" for stage in run.stages)
        html += (
            f'<p class="lead">The run is {run.status}, at the stage {text(run.current.name)}: '
            f"{done} of {plural(len(run.stages), 'stage')} done.</p>"
        )
    elif material.evaluation is None:
        html += '<p class="lead">The run succeeded, and has no evaluation.</p>'
        html += f"<p><code>ftq retry {name(run.name)} --from evaluate</code> makes one, and this page anew.</p>"
    return html + "".join(f'<p class="bad">{text(file)} can\'t be read.</p>' for file in material.lost)


def _footer(material: Material) -> str:
    run, now = material.run, datetime.fromtimestamp(material.now, UTC)
    submitted = datetime.fromtimestamp(run.created_at, UTC)
    return (
        f"<footer>Run {name(run.id)}, submitted {submitted:%Y-%m-%d %H:%M} UTC. "
        f"This page: ftq {VERSION}, {now:%Y-%m-%d %H:%M} UTC.</footer>"
    )
