"""/v1/fine_tuning and /v1/models: which path is answered by whom."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from operator import attrgetter, itemgetter
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ftq.errors import NotFound
from ftq.store.gateway.jobs import Job
from ftq.store.records import Run
from gateway.access import caller_of
from gateway.errors import ApiError
from gateway.files.storage import sees
from gateway.jobs import events, models, results
from gateway.jobs.create import Create, create
from gateway.jobs.shown import FINAL, checkpoints, is_trained, shown, status_of
from gateway.shared import Gateway, gateway_of
from gateway.wire import limit_of, page, read_body, sent_again

Value = TypeVar("Value")
MOST = 100  # jobs, events, checkpoints on a page
PREFIX = "ftjob-"


async def created(request: Request) -> Response:
    body = await read_body(request, Create)
    key = request.headers.get("idempotency-key")
    if key and len(key) > 255:
        raise ApiError(400, "An Idempotency-Key has at most 255 characters.")
    run, job = await run_in_threadpool(create, gateway_of(request), caller_of(request), body, key, sent_again(request))
    return JSONResponse(shown(run, job))


def listed(request: Request) -> Response:
    """The caller's jobs, the newest first; an admin's are all runs."""
    query, limit = request.query_params, limit_of(request, 20, MOST)
    after = query.get("after")
    store = gateway_of(request).client.store
    try:
        both = store.jobs.page(
            sees(caller_of(request)), limit + 1, after and after.removeprefix(PREFIX), _metadata(query)
        )
    except NotFound:
        raise _unknown_after(after) from None
    return JSONResponse(page(both, limit, lambda one: _answered(gateway_of(request), *one)))


def one(request: Request) -> Response:
    return JSONResponse(_answered(gateway_of(request), *_found(request)))


def cancelled(request: Request) -> Response:
    """End the job at once for its client; a stage that runs is stopped. What the body says doesn't matter."""
    return _told(request, "cancelled", lambda gateway, run: gateway.client.store.cancel(run.id))


def paused(request: Request) -> Response:
    return _told(request, "paused", lambda gateway, run: gateway.client.store.pause(run.id))


def resumed(request: Request) -> Response:
    run, job = _found(request)
    if run.wanted != "pause" or status_of(run) in FINAL:
        if sent_again(request):
            return JSONResponse(shown(run, job))
        raise _wrong_state(run, "resumed")
    return _told(request, "resumed", lambda gateway, run: gateway.client.resume(run.id)[0])


def happened(request: Request) -> Response:
    """The job's events, the newest first."""
    run, job = _found(request)
    client = gateway_of(request).client
    told = events.history(run, job, client.store.events(run.id), results.metrics(client.run_dir(run.id)))
    values, most = _after(request, told, attrgetter("id")), limit_of(request, 20, MOST)
    return JSONResponse(page(list(islice(values, most + 1)), most, events.shown_event))


def kept(request: Request) -> Response:
    """The job's checkpoints, the newest first."""
    run, job = _found(request)
    client = gateway_of(request).client
    all_kept = checkpoints(run, job, client.run_dir(run.id), client.store.events(run.id))
    values = list(_after(request, all_kept, itemgetter("id")))
    return JSONResponse(page(values, limit_of(request, 10, MOST), lambda value: value, ends=True))


def nothing(request: Request) -> Response:
    """Permissions share a model among projects, and graders belong to a method that ftq doesn't have."""
    raise ApiError(404, f"Not available: {request.method} {request.url.path}. ftq has neither projects nor graders.")


# ---- helpers ----------------------------------------------------------------------------------------------


def _found(request: Request) -> tuple[Run, Job | None]:
    """The job of the address. ApiError 404 if there is none, or it is another's."""
    wanted = request.path_params["job"]
    both = gateway_of(request).client.store.jobs.find(wanted.removeprefix(PREFIX), sees(caller_of(request)))
    if both is None or not wanted.startswith(PREFIX):
        message = f"Could not find fine tune: {wanted}"
        raise ApiError(404, message, param="fine_tune_id", code="fine_tune_not_found")
    return both


def _answered(gateway: Gateway, run: Run, job: Job | None) -> dict[str, Any]:
    """The job object; a result file that it names is there."""
    if is_trained(run):
        results.keep(gateway, run)
    return shown(run, job)


def _told(request: Request, what: str, tell: Callable[[Gateway, Run], Run]) -> Response:
    """Tell the run something, unless it is in a final state: that is 400, which no client sends again."""
    run, job = _found(request)
    gateway = gateway_of(request)
    if status_of(run) == what and sent_again(request):
        return JSONResponse(_answered(gateway, run, job))
    if status_of(run) in FINAL:
        raise _wrong_state(run, what)
    return JSONResponse(_answered(gateway, tell(gateway, run), job))


def _wrong_state(run: Run, what: str) -> ApiError:
    return ApiError(400, f"Job {PREFIX}{run.id} is {status_of(run)}: it can't be {what}.", code="invalid_job_state")


def _after(request: Request, values: Iterable[Value], id_of: Callable[[Value], str]) -> Iterator[Value]:
    """The values after the one that the request names."""
    after, rest = request.query_params.get("after"), iter(values)
    if after is not None and not any(id_of(value) == after for value in rest):
        raise _unknown_after(after)
    return rest


def _metadata(query: Mapping[str, str]) -> dict[str, str] | None:
    """The filter: pairs that a job has to have, an empty one for jobs without any; None if there is no filter."""
    if query.get("metadata") == "null":
        return {}
    pairs = {match[1]: value for name, value in query.items() if (match := re.fullmatch(r"metadata\[(.*)\]", name))}
    return pairs or None


def _unknown_after(after: str | None) -> ApiError:
    return ApiError(400, f"'after' names nothing that is listed: {after!r}.", param="after", code="invalid_value")


JOBS, JOB = "/v1/fine_tuning/jobs", "/v1/fine_tuning/jobs/{job}"
PERMISSIONS = "/v1/fine_tuning/checkpoints/{model:path}/permissions"
routes = [
    Route(JOBS, created, methods=["POST"]),
    Route(JOBS, listed, methods=["GET"]),
    Route(JOB, one, methods=["GET"]),
    Route(f"{JOB}/cancel", cancelled, methods=["POST"]),
    Route(f"{JOB}/pause", paused, methods=["POST"]),
    Route(f"{JOB}/resume", resumed, methods=["POST"]),
    Route(f"{JOB}/events", happened, methods=["GET"]),
    Route(f"{JOB}/checkpoints", kept, methods=["GET"]),
    Route(PERMISSIONS, nothing, methods=["GET", "POST"]),
    Route(f"{PERMISSIONS}/{{permission}}", nothing, methods=["DELETE"]),
    Route("/v1/fine_tuning/alpha/graders/run", nothing, methods=["POST"]),
    Route("/v1/fine_tuning/alpha/graders/validate", nothing, methods=["POST"]),
    Route("/v1/models", models.listed, methods=["GET"]),
    Route("/v1/models/{model:path}", models.one, methods=["GET"]),
    Route("/v1/models/{model:path}", models.deleted, methods=["DELETE"]),
]
