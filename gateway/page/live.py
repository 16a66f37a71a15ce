"""What changes on a page while somebody looks at it: pieces of HTML, by the ids that they stand in, as events."""

from __future__ import annotations

import asyncio
import codecs
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ftq.errors import NotFound, Unavailable, printable
from ftq.store.records import Run
from gateway.access import caller_of
from gateway.errors import ApiError
from gateway.files.storage import sees
from gateway.page import sessions
from gateway.page.files import grows
from gateway.page.html import part
from gateway.page.runs import EVENTS, RUNS, is_latest, losses, run_of, stage_of
from gateway.page.shown import actions, links, shown, stages
from gateway.shared import Gateway, gateway_of
from gateway.wire import whole_number

LOOK_SECONDS, CURVE_SECONDS, COMMENT_SECONDS = 1.0, 4.0, 15.0
FAR_SECONDS = 2.0  # between two looks into a bucket, where logs come as often at most
LIVES = 600.0  # seconds; then the browser comes again
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}
AT_ONCE = 2**18  # bytes of a log
MORE = "more-"  # begins the name of a part that is added to the log; what follows is where it ends
END = "end"  # the part that says there is nothing more to come: the browser loads the page again, or stops

Parts = dict[str, str]


def of_list(request: Request) -> Response:
    """The states of the runs that the address names, and that there is one after `newest`."""
    store, owner, query = gateway_of(request).client.store, sees(caller_of(request)), request.query_params
    ids, newest = query.get("runs", "").split(",")[:RUNS], query.get("newest")

    def look() -> Parts:
        runs, now = store.some(ids, owner), time.time()
        parts = {f"live-{run.id}": part("state", shown(run, now)) for run in runs}
        if newest is None:
            return parts | ({END: "stop"} if all(run.is_finished for run in runs) else {})
        latest = next(iter(store.all(1, owner)), None)
        return parts | ({"news": part("news", latest)} if latest and latest.id != newest else {})

    return _stream(request, look)


def of_run(request: Request) -> Response:
    """A run's state, stages, curve and events, until it is finished."""
    gateway = gateway_of(request)
    run_of(request)  # NotFound is an answer of its own, not a part
    curve = _Curve(gateway)

    def look() -> Parts:
        run = run_of(request)
        return dict(_parts(gateway, run)) | curve.of(run) | ({END: "reload"} if run.is_finished else {})

    return _stream(request, look)


def of_log(request: Request) -> Response:
    """What comes to a stage's log `after` so many bytes, until the stage has ended. Browsers come back with its id."""
    gateway, stage = gateway_of(request), stage_of(request.path_params["stage"])
    run_of(request)  # NotFound is an answer of its own, not a part
    last = request.headers.get("last-event-id", "").removeprefix(MORE)
    at = whole_number(last) or whole_number(request.query_params.get("after", "")) or 0

    def look() -> Parts:
        nonlocal at
        run = run_of(request)  # before the log: what its last stage has written is there then
        text, at = _more(gateway.client.log_from(run.id, stage, at), at)
        ended = not text and not grows(run, stage)
        return ({f"{MORE}{at}": printable(text, keep="\n\t\r")} if text else {}) | ({END: "stop"} if ended else {})

    return _stream(request, look)


def _more(pieces: Iterator[bytes], at: int) -> tuple[str, int]:
    """(the next text of a log, where it ends): whole letters."""
    decoder, data = codecs.getincrementaldecoder("utf-8")("replace"), bytearray()
    for piece in pieces:
        data += piece
        if len(data) >= AT_ONCE:
            break
    text = decoder.decode(data[:AT_ONCE])
    return text, at + min(len(data), AT_ONCE) - len(decoder.getstate()[0])


def _parts(gateway: Gateway, run: Run) -> Iterator[tuple[str, str]]:
    now = time.time()
    yield f"live-{run.id}", part("state", shown(run, now))
    yield "stages", part("stages", stages(run, now))
    yield "links", part("links", run.id, links(run, gateway.client))
    yield "actions", part("actions", run.id, list(actions(run, is_latest(gateway, run))))
    events = gateway.client.store.events(run.id)
    yield "events", part("events", events[-EVENTS:][::-1])


class _Curve:
    """The curve is drawn anew after a while, and only if there is a new step."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway, self._at, self._step = gateway, time.monotonic(), -1

    def of(self, run: Run) -> Parts:
        from ftq.report.gather import gather

        step = (run.stage("train").progress or {}).get("step", -1)
        if step == self._step or time.monotonic() - self._at < CURVE_SECONDS:
            return {}
        self._at, self._step = time.monotonic(), step
        return {"losses": losses(gather(run, self._gateway.client.run_dir(run.id)))}


def _stream(request: Request, look: Callable[[], Parts]) -> Response:
    gateway = gateway_of(request)

    def allowed() -> Parts:
        """What is to be seen; nothing more once the session has ended."""
        try:
            if sessions.COOKIE in request.cookies:
                sessions.key_of(gateway.client.store, request)
            return look()
        except (ApiError, NotFound):
            return {END: "reload"}

    return StreamingResponse(_events(gateway, allowed), media_type="text/event-stream", headers=HEADERS)


async def _events(gateway: Gateway, look: Callable[[], Parts]) -> AsyncIterator[str]:
    """What is new at each look. A database that is gone for a while is waited for."""
    known, until, written = Parts(), time.monotonic() + LIVES, time.monotonic()
    yield "retry: 3000\n\n"
    while time.monotonic() < until and not gateway.stopping:
        try:
            parts = await run_in_threadpool(look)
        except Unavailable:
            parts = Parts()
        new = {name: html for name, html in parts.items() if known.get(name) != html}
        known = parts or known  # a part that isn't told each time is new when it is
        for name, html in new.items():
            known_as = f"id: {name}\n" if name.startswith(MORE) else ""
            yield f"{known_as}data: {json.dumps({'part': name, 'html': html})}\n\n"
        if END in new:
            return
        if new:
            written = time.monotonic()
        elif time.monotonic() - written > COMMENT_SECONDS:
            written = time.monotonic()
            yield ": still here\n\n"
        await asyncio.sleep(FAR_SECONDS if gateway.client.is_far else LOOK_SECONDS)
