"""A submit from another machine: a line of JSON says what is asked, the bytes of its files follow in that order.

The files come into a folder of their own, are checked as those of `ftq submit` are, and become the run's snapshot.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from ftq.client.recording import names
from ftq.client.recording.record import Asker, check_bucket, record, recorded
from ftq.errors import NameTaken, UserError, utf8
from ftq.store.records import Run
from gateway import limits
from gateway.errors import ApiError
from gateway.files.arrival import FULL, clear_errors, room_of, too_large
from gateway.jobs.create import base_of_key, staging
from gateway.own.answers import Submit, Told
from gateway.own.entry import Call
from gateway.wire import LARGEST_BODY, invalid, loads

LONGEST_HEAD = 4 * LARGEST_BODY  # names of very many documents
TOP = ("documents", "validation", "questions.json")
OF_FILES = ("documents", "validation", "questions_file")  # the options that name files: they are sent along


async def submit(call: Call) -> Told:
    """Record and send a run. The same `id` sent again, after an answer that got lost, gives the same run."""
    stream = call.request.stream()
    try:
        head, rest = await _head(stream)
        if run := await run_in_threadpool(_made, call, head.id):
            return Told(run, [])
        await run_in_threadpool(_check, call, head)
        with clear_errors(), staging(call.gateway, head.id) as folder:
            await _receive(folder, head, rest, stream)
            return await run_in_threadpool(_record, call, head, folder)
    except ClientDisconnect:
        raise ApiError(400, "The request broke off: nothing was recorded.") from None


async def _head(stream: AsyncIterator[bytes]) -> tuple[Submit, bytes]:
    """(the first line, what came with it of the files)."""
    text = bytearray()
    async for piece in stream:
        text += piece
        if b"\n" in piece:
            break
        if len(text) > LONGEST_HEAD:
            raise too_large(LONGEST_HEAD, "head")
    line, end, rest = bytes(text).partition(b"\n")
    try:
        values = loads(line.decode()) if end else None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ApiError(400, "The first line of the body has to be a JSON object.")
    try:
        return Submit.model_validate(values), rest
    except ValidationError as error:
        raise invalid(error) from None


def _made(call: Call, run_id: str) -> Run | None:
    """The run, if this very submit has made it before."""
    run = recorded(call.client.settings, call.client.store, run_id)
    if run and run.owner != call.key.id:
        raise ApiError(400, "This id is taken.", param="id")
    return run


def _check(call: Call, head: Submit) -> None:
    """ApiError or UserError for what can be refused before the documents come."""
    limits.check_jobs(call.client.store, call.key)
    total, most = sum(size for _, size in head.files), call.gateway.options.largest_upload
    room = room_of(call.gateway, call.key)
    if total > most:
        raise too_large(most, "documents")
    if room is not None and total > room:
        raise limits.over_quota(FULL)
    for name, _ in head.files:
        if not _is_safe(name):
            raise ApiError(400, f"{name!r} is no name of a file below documents/ or validation/.", param="files")
    if len({name for name, _ in head.files}) < len(head.files):
        raise ApiError(400, "A file is listed twice.", param="files")
    base_of_key(str(head.spec.get("model", "")), call.key)
    check_bucket(call.client.settings, call.client.store)


def _is_safe(name: str) -> bool:
    path = PurePosixPath(name)
    plain = all(part not in ("..", ".") and "\0" not in part for part in name.split("/"))
    inside = name == TOP[2] or (len(path.parts) > 1 and path.parts[0] in TOP[:2])
    return plain and inside and str(path) == name and utf8(name) == name


async def _receive(folder: Path, head: Submit, first: bytes, stream: AsyncIterator[bytes]) -> None:
    """Write the files as they come. ApiError 400 for a body that is shorter or longer than it said."""
    files = _Files(folder, head.files)
    try:
        await run_in_threadpool(files.write, first)
        async for piece in stream:
            await run_in_threadpool(files.write, piece)
        files.end()
    finally:
        files.close()


class _Files:
    """Takes the bytes of many files, one after the other."""

    def __init__(self, folder: Path, sizes: list[tuple[str, int]]) -> None:
        self._folder, self._left = folder, iter(sizes)
        self._file: BinaryIO | None = None
        self._missing = 0
        self._next()

    def write(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while len(rest):
            if self._file is None:
                raise ApiError(400, "The body is longer than the files that it lists.", param="files")
            taken = rest[: self._missing]
            self._file.write(taken)
            rest, self._missing = rest[len(taken) :], self._missing - len(taken)
            if not self._missing:
                self._next()

    def end(self) -> None:
        if self._file is not None:
            raise ApiError(400, "The body ends before its files do: nothing was recorded.", param="files")

    def close(self) -> None:
        if self._file:
            self._file.close()

    def _next(self) -> None:
        """Open the next file that has bytes; empty ones are made on the way."""
        self.close()
        self._file = None
        for name, size in self._left:
            path = self._folder / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file, self._missing = path.open("xb"), size
            except (FileExistsError, NotADirectoryError):
                raise ApiError(400, f"{name!r} can't lie beside another file of the list.", param="files") from None
            if size:
                return
            self.close()
            self._file = None


def _record(call: Call, head: Submit, folder: Path) -> Told:
    client = call.client
    there = {"documents": folder / TOP[0], "validation": folder / TOP[1], "questions_file": folder / TOP[2]}
    files = {option: str(path) if path.exists() else "" for option, path in there.items()}
    if not files["documents"]:
        raise UserError("no document was sent", "`ftq check DIR` says what a folder of documents would teach.")
    spec, documents = client.dry_run({**head.spec, **files}, head.name)
    if documents.hash != head.documents_hash:
        raise ApiError(400, "The documents aren't those that were to be sent: nothing was recorded.", param="files")
    said = {option: str(head.spec.get(option) or "") for option in OF_FILES}
    asker = Asker(call.key.id, head.id, {option: spec[option] for option in OF_FILES}, head.left_out)
    try:
        run, _ = record(client.settings, client.store, {**spec, **said}, head.name, asker)
    except NameTaken:
        run = client.store.get(head.id)
    sees = call.key.admin or not head.name or client.store.find(head.name).owner == call.key.id
    notes = [text for text in [names.renamed(run.name, head.name, sees)] if text]
    return Told(run, notes + client.send(run))
