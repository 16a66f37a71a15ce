"""A multipart body as it streams in: fields are kept, the file's bytes are handed on, in whatever order they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from gateway.errors import ApiError
from gateway.wire import whole_number

AROUND = 2**20  # bytes of a form beside its file, at most
AT_ONCE = 2**20  # bytes of the file that are handed on together
MOST_PIECES = 512  # in which these may have come: small ones take many times their size
MOST_FIELDS, MOST_FIELD_BYTES = 32, 2**16
NOT_A_FORM = "The body has to be multipart/form-data with a boundary: a file and its purpose."


@dataclass
class Form:
    """What came beside the bytes. `filename` is None without a file, and is never a path."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None


def declared(request: Request) -> int:
    """The least size of the file by the request's Content-Length; 0 without one. It may be less than what comes."""
    return max(0, (whole_number(request.headers.get("content-length", "")) or 0) - AROUND)


async def receive(request: Request, name: str, write: Callable[[bytes, Form], None]) -> Form:
    """Read the request's form; the file `name` goes to `write`, in a thread, piece by piece, with the fields so far.

    ApiError 400 for a body that is none or ends too early.
    """
    parts = _Parts(name)
    parser = _parser(request, parts)
    async with _writing(write, parts) as hand_on:
        try:
            async for piece in request.stream():
                if _is_data(parser, piece):
                    parts.take_data(piece, 0, len(piece))
                else:
                    parser.write(piece)
                if parts.number >= AT_ONCE or len(parts.waiting) >= MOST_PIECES:
                    await hand_on()
        except MultipartParseError as error:
            raise ApiError(400, f"{NOT_A_FORM} {error}.") from None
        except ClientDisconnect:
            raise ApiError(400, "The connection ended before the body did.") from None
        if not parts.ended:
            raise ApiError(400, "The body ends before its last boundary: the upload was cut off.")
        await hand_on()
    return parts.form


@asynccontextmanager
async def _writing(write: Callable[[bytes, Form], None], parts: _Parts) -> AsyncIterator[Callable[[], Any]]:
    """What hands the waiting bytes on. One piece is written while the next is received; none after the block."""
    last: asyncio.Task[None] | None = None

    async def hand_on() -> None:
        nonlocal last
        if last:
            await last
        last = asyncio.create_task(run_in_threadpool(write, parts.take(), parts.form)) if parts.waiting else None

    try:
        yield hand_on
        if last:
            await last
    finally:
        if last:  # also if the block failed: the file is closed next
            await asyncio.wait([last])
            _ = last.cancelled() or last.exception()  # asked for, else asyncio logs it


def _parser(request: Request, parts: _Parts) -> MultipartParser:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise ApiError(400, NOT_A_FORM)
    return MultipartParser(options[b"boundary"], parts.callbacks())


def _is_data(parser: MultipartParser, piece: bytes) -> bool:
    """Whether all of the next piece is a part's data, which is seen at once: what ends a part begins with a return."""
    return parser.state == MultipartState.PART_DATA and parser.index == 0 and b"\r" not in piece


class _Parts:
    """The parser's callbacks."""

    def __init__(self, file: str) -> None:
        self.form, self.ended = Form(), False
        self.waiting, self.number = list[bytes](), 0  # the file's bytes, and how many
        self._file = file
        self._header, self._value = bytearray(), bytearray()
        self._disposition = b""
        self._name = ""
        self._text = bytearray()

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._name_part,
            "on_part_data": self.take_data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def take(self) -> bytes:
        waiting, self.waiting, self.number = b"".join(self.waiting), [], 0  # one piece alone isn't copied
        return waiting

    def _begin(self) -> None:
        self._disposition, self._text = b"", bytearray()

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _name_part(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise ApiError(400, "A part of the body has no name in its Content-Disposition.")
        self._name = _text(options[b"name"])
        if self._name != self._file:
            return
        if self.form.filename is not None:
            raise ApiError(400, f"There are two parts '{self._file}': send one file.", param=self._file)
        self.form.filename = _text(options.get(b"filename", b"")) or "upload"

    def take_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == self._file:
            self.waiting.append(data[start:end])  # all of it isn't copied
            self.number += end - start
            return
        self._text += data[start:end]
        if len(self._text) > MOST_FIELD_BYTES:
            raise ApiError(400, f"'{self._name}' has more than {MOST_FIELD_BYTES:,} bytes.", param=self._name)

    def _end_part(self) -> None:
        if self._name == self._file:
            return
        if self._name in self.form.fields:
            raise ApiError(400, f"'{self._name}' is given twice.", param=self._name)
        self.form.fields[self._name] = _text(self._text)
        if len(self.form.fields) > MOST_FIELDS:
            raise ApiError(400, f"The body has more than {MOST_FIELDS} fields.")

    def _end(self) -> None:
        self.ended = True


def _text(value: bytes | bytearray) -> str:
    return value.decode(errors="replace")
