"""What a run's folder has for people: report, preview, logs, its files. No address names what isn't listed."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response, StreamingResponse

from ftq.client.client import Client
from ftq.store.records import Run
from gateway.errors import ApiError
from gateway.own.files import bytes_of
from gateway.page.html import page
from gateway.page.runs import run_of, stage_of
from gateway.page.shown import shown
from gateway.shared import gateway_of

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
    folder = gateway_of(request).client.report_dir(run)
    if (path := folder.path / "report.html").is_file():
        return FileResponse(path, media_type="text/html", headers=HEADERS)
    from ftq.report.gather import gather
    from ftq.report.page import page as report_of

    return HTMLResponse(report_of(gather(run, folder)), headers=HEADERS)


def preview(request: Request) -> Response:
    """The rows that the run is trained on."""
    run = run_of(request)
    client = gateway_of(request).client
    path = client.run_dir(run.id).dataset / "preview.html"
    if not path.is_file():
        client.check_reach()
        raise ApiError(404, f"{run.name} has no preview of its dataset: the stage prepare writes it.")
    return FileResponse(path, media_type="text/html", headers=HEADERS)


def log(request: Request) -> Response:
    """The end of a stage's log; all of it with ?whole."""
    run, stage = run_of(request), stage_of(request.path_params["stage"])
    client = gateway_of(request).client
    if (length := client.log_bytes(run.id, stage)) is None:
        raise ApiError(404, f"The stage {stage} of {run.name} has no log: it hasn't begun.")
    if "whole" in request.query_params:
        return StreamingResponse(client.log_from(run.id, stage, 0), media_type="text/plain", headers=HEADERS)
    text, left_out, end = _end_of(client, run.id, stage, length)
    follow = f"/runs/{run.id}/logs/{stage}/live?after={end}" if grows(run, stage) else ""
    return page(request, "log.html", run=shown(run, 0), stage=stage, text=text, left_out=left_out, follow=follow)


def grows(run: Run, stage: str) -> bool:
    """Whether more may come to a stage's log."""
    return not run.is_finished and run.stage(stage).status in ("queued", "running")


def download(request: Request) -> Response:
    """A file of the run, to be saved."""
    client, run, path = gateway_of(request).client, run_of(request), request.path_params["name"]
    made = [file.path for file in run.stage("export").artifacts or []]
    if client.is_far and path in made and client.holds(run, path):
        client.file_of(run, path)  # a model, which isn't here before somebody wants it
    answer = bytes_of(request, run, client)
    name = quote(PurePosixPath(path).name)
    answer.headers.update({**HEADERS, "Content-Disposition": f"attachment; filename*=utf-8''{name}"})
    return answer


def _end_of(client: Client, run_id: str, stage: str, length: int) -> tuple[str, int, int]:
    """(the last lines of a log, how many bytes stand before them, and how many when they have ended)."""
    left_out = max(0, length - SHOWN)
    text = b"".join(client.log_from(run_id, stage, left_out))
    end = left_out + len(text)
    if left_out and (line := text.find(b"\n") + 1):
        text, left_out = text[line:], left_out + line
    return text.decode(errors="replace"), left_out, end
