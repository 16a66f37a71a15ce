"""What a run's folder has for people: report, preview, logs, its files. No address names what isn't listed."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from ftq.files.run_dir import STAGES
from ftq.store.records import Run
from gateway.app import gateway_of
from gateway.errors import ApiError
from gateway.own.files import bytes_of
from gateway.page.html import page
from gateway.page.runs import run_of
from gateway.page.shown import shown

# These pages need nothing beside them: no script, no address of this server, no form.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; sandbox allow-popups"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
SHOWN = 200_000  # bytes of a log on its page, the last ones


def report(request: Request) -> Response:
    """The run's report.html; before the evaluation has made it, what it would be now."""
    run = run_of(request)
    folder = gateway_of(request).client.run_dir(run.id)
    if (path := folder.path / "report.html").is_file():
        return FileResponse(path, media_type="text/html", headers=HEADERS)
    from ftq.report.gather import gather
    from ftq.report.page import page as report_of

    return HTMLResponse(report_of(gather(run, folder)), headers=HEADERS)


def preview(request: Request) -> Response:
    """The rows that the run is trained on."""
    run = run_of(request)
    path = gateway_of(request).client.run_dir(run.id).dataset / "preview.html"
    if not path.is_file():
        raise ApiError(404, f"{run.name} has no preview of its dataset: the stage prepare writes it.")
    return FileResponse(path, media_type="text/html", headers=HEADERS)


def log(request: Request) -> Response:
    """The end of a stage's log; all of it with ?whole."""
    run, stage = run_of(request), request.path_params["stage"]
    if stage not in STAGES:
        raise ApiError(404, f"There is no stage {stage}: {', '.join(STAGES)}.")
    path = gateway_of(request).client.run_dir(run.id).log(stage)
    if not path.is_file():
        raise ApiError(404, f"The stage {stage} of {run.name} has no log: it hasn't begun.")
    if "whole" in request.query_params:
        return FileResponse(path, media_type="text/plain; charset=utf-8", headers=HEADERS)
    text, left_out, end = _end_of(path)
    follow = f"/runs/{run.id}/logs/{stage}/live?after={end}" if grows(run, stage) else ""
    return page(request, "log.html", run=shown(run, 0), stage=stage, text=text, left_out=left_out, follow=follow)


def grows(run: Run, stage: str) -> bool:
    """Whether more may come to a stage's log."""
    return not run.is_finished and run.stage(stage).status in ("queued", "running")


def download(request: Request) -> Response:
    """A file of the run, to be saved."""
    run = run_of(request)
    answer = bytes_of(request, run, gateway_of(request).client.run_dir(run.id))
    name = quote(PurePosixPath(request.path_params["name"]).name)
    answer.headers.update({**HEADERS, "Content-Disposition": f"attachment; filename*=utf-8''{name}"})
    return answer


def _end_of(path: Path) -> tuple[str, int, int]:
    """(the last lines of a file, how many bytes stand before them, and how many when they have ended)."""
    with path.open("rb") as file:
        left_out = max(0, file.seek(0, 2) - SHOWN)
        file.seek(left_out)
        text = file.read(SHOWN + 1)
    end = left_out + len(text)
    if left_out and (line := text.find(b"\n") + 1):
        text, left_out = text[line:], left_out + line
    return text.decode(errors="replace"), left_out, end
