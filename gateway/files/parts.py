"""POST /v1/uploads and below: a file that comes in parts, several of them at once if the client likes."""

from __future__ import annotations

import hashlib
from itertools import chain
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ftq.errors import Refused
from ftq.files.uploads import path_of, pieces_of
from ftq.store.gateway.files import new_id
from ftq.store.gateway.uploads import Part, Upload
from gateway.access import caller_of
from gateway.errors import ApiError
from gateway.files.arrival import FULL, Arrival, arriving, room_of, too_large
from gateway.files.asked import Completion, NewUpload
from gateway.files.form import Form, receive
from gateway.files.lines import Lines
from gateway.files.storage import sees
from gateway.files.wire import shown_part, shown_upload
from gateway.limits import over_quota
from gateway.shared import Gateway, gateway_of
from gateway.wire import read_body

LARGEST_PART = 64 * 2**20


async def create(request: Request) -> Response:
    body = await read_body(request, NewUpload)
    gateway, caller = gateway_of(request), caller_of(request)
    if body.bytes > gateway.options.largest_upload:
        raise too_large(gateway.options.largest_upload, "bytes")
    room = await run_in_threadpool(room_of, gateway, caller)
    if room is not None and body.bytes > room:
        raise over_quota(FULL)
    lives = body.expires_after.seconds if body.expires_after else None
    values = (body.filename, body.purpose, body.mime_type, body.bytes)
    upload = Upload(new_id("upload_"), caller.id, *values, file_expires=lives)
    return JSONResponse(shown_upload(await run_in_threadpool(gateway.client.store.uploads.add, upload)))


async def add_part(request: Request) -> Response:
    """Take a part. Their order is told at the end, so they may come at once, and again."""
    gateway, caller = gateway_of(request), caller_of(request)
    upload = await run_in_threadpool(_pending, request)
    room = await run_in_threadpool(room_of, gateway, caller)
    part_id = new_id("part_")
    with arriving(gateway, part_id, min(LARGEST_PART, upload.bytes), room) as arrival:
        form = await receive(request, "data", arrival.write)
        part = await run_in_threadpool(_keep, request, form, arrival, Part(part_id, upload.id, arrival.writer.bytes))
    return JSONResponse(shown_part(part))


def _keep(request: Request, form: Form, arrival: Arrival, part: Part) -> Part:
    caller = caller_of(request)
    if unknown := sorted(form.fields):
        name = unknown[0]
        raise ApiError(400, f"Unrecognized request argument supplied: {name}", param=name, code="unknown_parameter")
    if not part.bytes:
        raise ApiError(400, "'data' has to be a file that isn't empty.", param="data")
    arrival.writer.finish()
    return gateway_of(request).client.store.uploads.add_part(part, caller.id, caller.limits.bytes)


async def complete(request: Request) -> Response:
    body = await read_body(request, Completion)
    return JSONResponse(await run_in_threadpool(_complete, request, body))


def _complete(request: Request, body: Completion) -> dict[str, Any]:
    """Join the parts. Sent again after a lost answer it gives the same one."""
    gateway, upload = gateway_of(request), _upload(request)
    if upload.status != "completed":
        try:
            _join(gateway, _pending(request), body)
        except (ApiError, Refused, FileNotFoundError):
            if _upload(request).status != "completed":  # else the same call came twice, and the other was faster
                raise
        for part_id in gateway.client.store.uploads.parts(upload.id):
            gateway.files.delete_part(part_id)
        upload = _upload(request)
    file = gateway.files.find(upload.file_id or "", caller_of(request))
    return shown_upload(upload, file)


def _join(gateway: Gateway, upload: Upload, body: Completion) -> None:
    parts = _ordered(gateway.client.store.uploads.parts(upload.id), upload, body.part_ids)
    form, md5, file_id = Form({"purpose": upload.purpose}), hashlib.md5(usedforsecurity=False), new_id()
    with arriving(gateway, file_id, upload.bytes, lines=Lines()) as arrival:
        for piece in chain.from_iterable(pieces_of(path_of(gateway.settings.home, part.id)) for part in parts):
            if body.md5:  # as much work as all the rest
                md5.update(piece)
            arrival.write(piece, form)
        if body.md5 and body.md5.lower() != md5.hexdigest():
            raise ApiError(400, f"The parts' MD5 is {md5.hexdigest()}, not {body.md5}.", param="md5")
        file = arrival.checked(file_id, upload.owner, upload.filename, upload.purpose)
        arrival.writer.finish()
        gateway.client.store.uploads.complete(upload.id, file, upload.file_expires)


def _ordered(parts: dict[str, Part], upload: Upload, ids: list[str]) -> list[Part]:
    if unknown := [part_id for part_id in ids if part_id not in parts]:
        raise ApiError(400, f"{upload.id} has no part {unknown[0]}.", param="part_ids")
    ordered = [parts[part_id] for part_id in ids]
    if (total := sum(part.bytes for part in ordered)) != upload.bytes:
        raise ApiError(
            400, f"The parts have {total:,} bytes, and the upload was to have {upload.bytes:,}.", param="part_ids"
        )
    return ordered


def cancel(request: Request) -> Response:
    """Cancel an upload; one that was cancelled stays so."""
    gateway, upload = gateway_of(request), _upload(request)
    if upload.status != "cancelled":
        gateway.client.store.uploads.cancel(upload.id)
        for part_id in gateway.client.store.uploads.parts(upload.id):
            gateway.files.delete_part(part_id)
    return JSONResponse(shown_upload(_upload(request)))


def _pending(request: Request) -> Upload:
    upload = _upload(request)
    if upload.status != "pending":
        raise ApiError(400, f"Upload {upload.id} is {upload.status}.")
    return upload


def _upload(request: Request) -> Upload:
    upload_id = request.path_params["upload_id"]
    upload: Upload | None = gateway_of(request).client.store.uploads.find(upload_id, sees(caller_of(request)))
    if upload is None:
        raise ApiError(404, f"No such Upload object: {upload_id}", param="upload_id")
    return upload


routes: list[Route] = [
    Route("/v1/uploads", create, methods=["POST"]),
    Route("/v1/uploads/{upload_id}/parts", add_part, methods=["POST"]),
    Route("/v1/uploads/{upload_id}/complete", complete, methods=["POST"]),
    Route("/v1/uploads/{upload_id}/cancel", cancel, methods=["POST"]),
]
