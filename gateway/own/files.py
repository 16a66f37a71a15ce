"""The files of a run: a listing, each by its listed name, a model's files with checksums, the report's page."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ftq.client.client import Client
from ftq.delivery.copy import sha256
from ftq.delivery.parts import Part
from ftq.errors import NotFound
from ftq.files.run_dir import RunDir
from ftq.store.records import Run
from gateway.errors import ApiError
from gateway.own import answers
from gateway.own.entry import Call

READ_AT_ONCE = 2**18  # bytes
UNLISTED = ("checkpoints",)  # of a training that goes on; nothing of a client reads them
_LOG = re.compile(r"logs/([a-z]+)\.log")
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")


def listed(call: Call) -> answers.RunFiles:
    """Every whole file of the run. What a stage still writes, hidden files and links aren't there."""
    client, run = call.client, call.run
    files = {file.name: file for file in _listed(client.run_dir(run.id).path)}
    client.check_reach()
    for stage in client.logs(run) if client.is_far else ():
        if (length := client.log_bytes(run.id, stage)) is not None:
            files[f"logs/{stage}.log"] = answers.RunFile(f"logs/{stage}.log", length)
    return answers.RunFiles(sorted(files.values(), key=lambda file: file.name))


def _listed(folder: Path) -> Iterator[answers.RunFile]:
    for place, folders, names in os.walk(folder):
        inside = PurePosixPath(Path(place).relative_to(folder).as_posix())
        folders[:] = [name for name in folders if is_listed(inside / name)]
        for name in names:
            with contextlib.suppress(OSError):  # deleted at this moment
                status = os.lstat(Path(place, name))
                if stat.S_ISREG(status.st_mode) and is_listed(inside / name):
                    yield answers.RunFile(str(inside / name), status.st_size)


def is_listed(name: PurePosixPath) -> bool:
    """Whether a path below the run's folder may be asked for, if it is a file."""
    parts = name.parts
    plain = all(part not in ("..", "/") and not part.startswith(".") and "\0" not in part for part in parts)
    inner = parts[0] in UNLISTED or (len(parts) == 1 and name.suffix == ".partial") or parts[0].endswith(".partial")
    return plain and not inner


async def content(call: Call) -> Response:
    """A file's bytes, or those of one range."""
    run = await run_in_threadpool(lambda: call.run)
    return await run_in_threadpool(bytes_of, call.request, run, call.client)


def bytes_of(request: Request, run: Run, client: Client) -> Response:
    """The file that the address names, or the range of it that is asked for. NotFound if the run doesn't list it."""
    name = request.path_params["name"]
    if client.is_far and (match := _LOG.fullmatch(name)) and (length := client.log_bytes(run.id, match[1])) is not None:
        first, last = _range(request, length)
        pieces = _cut(client.log_from(run.id, match[1], first), last + 1 - first)
        return StreamingResponse(pieces, *_head(request, first, last, length), "application/octet-stream")
    try:
        descriptor = _open(client.run_dir(run.id).path, name)
    except OSError:
        client.check_reach()
        raise NotFound(f"{run.name} has no file {name!r}", f"`ftq status {run.name}`") from None
    size = os.fstat(descriptor).st_size
    try:
        first, last = _range(request, size)
    except ApiError:
        os.close(descriptor)
        raise
    return _Bytes(descriptor, first, last + 1 - first, *_head(request, first, last, size))


def _range(request: Request, size: int) -> tuple[int, int]:
    """(the first byte that is asked for, the last one): all without a range. ApiError 416 if it is beyond the file."""
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if match is None:
        return 0, size - 1
    first, last = int(match[1]), min(int(match[2] or size), size - 1)
    if first > last:
        raise ApiError(416, f"The file has {size:,} bytes.", headers={"content-range": f"bytes */{size}"})
    return first, last


def _head(request: Request, first: int, last: int, size: int) -> tuple[int, dict[str, str]]:
    """(the status, the headers) of so many bytes."""
    headers = {"accept-ranges": "bytes", "content-length": str(last + 1 - first)}
    if _RANGE.fullmatch(request.headers.get("range", "")) is None:
        return 200, headers
    return 206, {**headers, "content-range": f"bytes {first}-{last}/{size}"}


def _cut(pieces: Iterator[bytes], length: int) -> Iterator[bytes]:
    """The first bytes of what may have grown since its length was told."""
    for piece in pieces:
        yield piece[:length]
        length -= len(piece)
        if length <= 0:
            return


def _open(folder: Path, name: str) -> int:
    """The file below the folder, reached through no link. OSError if it isn't listed."""
    path = PurePosixPath(name)
    if not path.parts or str(path) != name or not is_listed(path):
        raise FileNotFoundError
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    for number, part in enumerate(path.parts, start=1):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe would wait for its writer
        flags |= os.O_DIRECTORY if number < len(path.parts) else 0
        try:
            inner = os.open(part, flags, dir_fd=place)
        finally:
            os.close(place)
        place = inner
    if not stat.S_ISREG(os.fstat(place).st_mode):
        os.close(place)
        raise FileNotFoundError
    return place


class _Bytes(StreamingResponse):
    """So many bytes of an open file, which is closed however the answer ends."""

    def __init__(self, descriptor: int, first: int, length: int, status: int, headers: dict[str, str]) -> None:
        super().__init__(_read(descriptor, first, length), status, headers, "application/octet-stream")
        self._descriptor = descriptor

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            os.close(self._descriptor)


async def _read(descriptor: int, first: int, length: int) -> AsyncIterator[bytes]:
    while length:
        piece = await run_in_threadpool(os.pread, descriptor, min(READ_AT_ONCE, length), first)
        if not piece:
            return  # it was cut meanwhile: the client sees an answer that is too short
        first, length = first + len(piece), length - len(piece)
        yield piece


def model(call: Call) -> answers.ModelParts:
    """What `ftq pull` takes out of the run. A checksum that isn't recorded is computed, which may take a while."""
    run = call.run
    taken = call.client.models.model(run.id, call.query.kind)
    folder = call.client.run_dir(run.id)
    return answers.ModelParts(taken.kind, taken.file, [_told(part, folder) for part in taken.parts])


def _told(part: Part, folder: RunDir) -> answers.ModelPart:
    digest = part.sha256 or sha256(part)
    if isinstance(part.source, Path):
        return answers.ModelPart(part.name, part.size, digest, part.source.relative_to(folder.path).as_posix(), None)
    with part.open() as file:
        return answers.ModelPart(part.name, part.size, digest, None, b64encode(file.read()).decode())


def report(call: Call) -> Response:
    from ftq.report.gather import gather  # with the first report
    from ftq.report.page import page

    run: Run = call.run
    return Response(page(gather(run, call.client.report_dir(run))), media_type="text/html")
