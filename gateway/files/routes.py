"""POST, GET, DELETE /v1/files, as OpenAI's clients use them."""

from __future__ import annotations

import base64
import logging
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from ftq.errors import NotFound
from ftq.store.gateway.files import RETRIED, File, new_id
from gateway.access import caller_of
from gateway.errors import ApiError
from gateway.files import parts
from gateway.files.arrival import Arrival, arriving, room_of
from gateway.files.asked import RESULTS, check_purpose, wanted_of
from gateway.files.form import Form, declared, receive
from gateway.files.lines import Lines
from gateway.files.storage import sees
from gateway.files.wire import shown
from gateway.shared import gateway_of
from gateway.wire import limit_of, page, sent_again

MOST_LISTED = 10_000
log = logging.getLogger("ftq.gateway")


async def create(request: Request) -> Response:
    """Take a file, however large, and keep it once it is whole."""
    gateway, caller, again = gateway_of(request), caller_of(request), sent_again(request)
    file_id, began = new_id() + (RETRIED if again else ""), gateway.client.store.clock()
    room = await run_in_threadpool(room_of, gateway, caller)
    if again:  # what it sends may be stored already, and takes no more room then
        room = caller.limits.bytes or None
    most = gateway.options.largest_upload
    with arriving(gateway, file_id, most, room, Lines(), declared(request)) as arrival:
        form = await receive(request, "file", arrival.write)
        file = await run_in_threadpool(_keep, request, arrival, form, file_id, began)
    return JSONResponse(shown(file))  # an upload is as it was sent


def _keep(request: Request, arrival: Arrival, form: Form, file_id: str, began: float) -> File:
    wanted, caller = wanted_of(form.fields), caller_of(request)
    if form.filename is None:
        raise ApiError(400, "Missing required parameter: 'file'.", param="file", code="missing_required_parameter")
    file = arrival.checked(file_id, caller.id, form.filename, wanted.purpose)
    arrival.writer.finish()
    recorded = gateway_of(request).client.store.files.add(file, wanted.lives, caller.limits.bytes, began)
    if recorded.id != file_id:  # the same request has come twice
        arrival.writer.withdraw()
    return recorded


def index(request: Request) -> Response:
    """The caller's files, a page of them."""
    query = request.query_params
    limit, order = limit_of(request, MOST_LISTED, MOST_LISTED), query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise ApiError(400, f"Invalid value for 'order': {order!r} is neither 'asc' nor 'desc'.", param="order")
    purpose, after = check_purpose(query.get("purpose")), query.get("after")
    try:
        files = gateway_of(request).client.store.files.page(
            sees(caller_of(request)), limit + 1, after, purpose, rising=order == "asc"
        )
    except NotFound as error:
        raise ApiError(400, f"Invalid value for 'after': {error.message}", param="after") from None
    return JSONResponse(page(files, limit, lambda file: _served(request, file), ends=True))


def retrieve(request: Request) -> Response:
    return JSONResponse(_served(request, _file(request)))


def delete(request: Request) -> Response:
    """Delete a file. Sent again after a lost answer it says the same."""
    try:
        gateway_of(request).files.delete(_file(request))
    except ApiError:
        if not sent_again(request):
            raise
    return JSONResponse({"id": request.path_params["file_id"], "object": "file", "deleted": True})


def content(request: Request) -> Response:
    """The file's bytes."""
    file = _file(request)
    path = gateway_of(request).files.path(file)
    if not path.is_file():
        log.error("%s of file %s is gone", path, file.id)
        raise ApiError(500, f"The bytes of {file.id} are gone from the server's disk.", kind="server_error")
    if _is_encoded(request, file):
        headers = {"content-disposition": f'attachment; filename="{file.filename}"'}
        return Response(base64.b64encode(path.read_bytes()), media_type="application/octet-stream", headers=headers)
    return FileResponse(path, media_type="application/octet-stream", filename=file.filename)


def _served(request: Request, file: File) -> dict[str, Any]:
    """The file object, with the bytes that its content has when it is served."""
    encoded = {"bytes": (file.bytes + 2) // 3 * 4} if _is_encoded(request, file) else {}
    return {**shown(file), **encoded}


def _is_encoded(request: Request, file: File) -> bool:
    """Whether it is a result file, and the server was started with `--result-files base64`."""
    return file.purpose == RESULTS and gateway_of(request).options.base64_results


def _file(request: Request) -> File:
    file_id = request.path_params["file_id"]
    file: File | None = gateway_of(request).files.find(file_id, caller_of(request))
    if file is None:
        raise ApiError(404, f"No such File object: {file_id}", param="id")
    return file


routes: list[Route] = [
    Route("/v1/files", create, methods=["POST"]),
    Route("/v1/files", index, methods=["GET"]),
    Route("/v1/files/{file_id}", retrieve, methods=["GET"]),
    Route("/v1/files/{file_id}", delete, methods=["DELETE"]),
    Route("/v1/files/{file_id}/content", content, methods=["GET"]),
    *parts.routes,
]
