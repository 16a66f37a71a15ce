"""The list of runs, a run, and what a button does to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ftq.client import view
from ftq.client.client import Client
from ftq.client.removal import shared
from ftq.errors import NotFound
from ftq.files.run_dir import STAGES
from ftq.store.records import Run
from ftq.words import size
from gateway.access import caller_of
from gateway.errors import ApiError
from gateway.files.storage import sees
from gateway.page.html import page
from gateway.page.sessions import READS, small_form
from gateway.page.shown import actions, again, links, shown, stages
from gateway.shared import Gateway, gateway_of

if TYPE_CHECKING:
    from ftq.report.gather import Material

RUNS, EVENTS = 25, 100  # on a page
DO: dict[str, Callable[[Client, str], Any]] = {
    "cancel": Client.cancel,
    "pause": Client.pause,
    "resume": Client.resume,
    "retry": Client.retry,
    "keep": Client.keep,
    "release": lambda client, run: client.keep(run, False),
    "promote": lambda client, run: client.models.promote(run),
}


def listed(request: Request) -> Response:
    """The runs that the key sees, the newest first."""
    gateway, owner = gateway_of(request), sees(caller_of(request))
    text = request.query_params.get("page", "1")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 1
    store, now = gateway.client.store, time.time()
    runs, count = store.all(RUNS, owner, RUNS * (max(1, number) - 1)), store.count(owner)
    return page(
        request,
        "runs.html",
        runs=[shown(run, now) for run in runs],
        live=_live(runs, is_first=number <= 1),
        count=count,
        number=number,
        last=max(1, -(-count // RUNS)),
        missing=gateway.client.missing_worker(*runs),
        workers=len(store.live_workers()),
    )


def _live(runs: list[Run], is_first: bool) -> str:
    """The address of what changes in the list; empty where nothing does."""
    going = ",".join(run.id for run in runs if not run.is_finished)
    if is_first:
        return f"/live?runs={going}&newest={runs[0].id if runs else ''}"
    return f"/live?runs={going}" if going else ""


def one(request: Request) -> Response:
    """A run with all that is known of it."""
    gateway, run = gateway_of(request), run_of(request)
    return page(request, "run.html", **_details(gateway, run))


async def acted(request: Request) -> Response:
    """Do what the button says, then show the run."""
    return await run_in_threadpool(_act, request, await small_form(request))


def _act(request: Request, fields: dict[str, str]) -> Response:
    client, run, action = gateway_of(request).client, run_of(request), request.path_params["action"]
    if action not in DO:
        raise ApiError(404, f"There is no page {request.url.path}.")
    if (stage := fields.get("from")) and action == "retry":
        client.retry(run.id, stage_of(stage, status=400))
    else:
        DO[action](client, run.id)
    return RedirectResponse(f"/runs/{run.id}", 303)


def deleted(request: Request) -> Response:
    """What deleting the run would free; with the button there, delete it and show the others."""
    room, run = gateway_of(request).client.room, run_of(request)
    if request.method not in READS:
        room.remove(run)
        return RedirectResponse("/", 303)
    freed, stays = size(room.freed([run])), shared(room.staying([run]))
    return page(request, "delete.html", run=shown(run, time.time()), record=run, freed=freed, stays=stays)


def run_of(request: Request) -> Run:
    """The run of the address. NotFound if there is none, or it is another's."""
    run_id = request.path_params["run"]
    if not (runs := gateway_of(request).client.store.some([run_id], sees(caller_of(request)))):
        raise NotFound(f"There is no run {run_id}.", "It may have been deleted.")
    return runs[0]


def stage_of(name: str, status: int = 404) -> str:
    """The name, if a stage has it."""
    if name not in STAGES:
        raise ApiError(status, f"There is no stage {name}: {', '.join(STAGES)}.")
    return name


def is_latest(gateway: Gateway, run: Run) -> bool:
    versions = gateway.client.models.versions() if run.version else []
    return any(version.is_latest and version.run_id == run.id for version in versions)


def losses(material: Material) -> str:
    """The curves as SVG, and what is to be said of them; empty before there are any."""
    from ftq.report.inputs import training

    run = material.run
    plan = str((run.stage("train").plan or {}).get("message", ""))
    return training(material.curves, bool(run.spec.get("keep_best")), plan) if material.curves else ""


def _details(gateway: Gateway, run: Run) -> dict[str, Any]:
    from ftq.report import inputs, results  # with the first run that is looked at
    from ftq.report.gather import gather

    client, folder, now = gateway.client, gateway.client.run_dir(run.id), time.time()
    material, latest, events = gather(run, folder), is_latest(gateway, run), client.store.events(run.id)
    return {
        "run": shown(run, now),
        "record": run,
        "is_latest": latest,
        "stages": stages(run, now),
        "actions": actions(run, latest),
        "missing": client.missing_worker(run),
        "losses": losses(material),
        "evaluation": f"{results.lead(told, run.name)}{results.scoreboard(told)}"
        if (told := material.evaluation)
        else "",
        "links": links(run, client),
        "again": again(run),
        "use": inputs.use(material),
        "options": inputs.options(material),
        "lost": material.lost,
        "files": list(_files(client, run)),
        "events": events[-EVENTS:][::-1],
        "more_events": max(0, len(events) - EVENTS),
        "asked": _asked(gateway, run) if material.files else "",
    }


def _files(client: Client, run: Run) -> Iterator[tuple[str, str, str]]:
    """(name, size, its page below the run's; empty for a folder)."""
    home = client.settings.home
    for file in view.artifacts(run, home):
        path = Path(file.path)
        is_there = path.is_file() or (client.is_far and path.suffix == ".gguf")
        yield path.name, size(file.bytes), f"files/{path.relative_to(home / run.id)}" if is_there else ""


def _asked(gateway: Gateway, run: Run) -> str:
    """What the model is called in a chat: by its id no base model's name is meant."""
    named = run.version_name or run.name
    return named if named in gateway.chat.names else run.id
