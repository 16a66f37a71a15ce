"""A connection that reads much at once, with the limits that uvicorn leaves to a proxy.

They are of a request's head, and of how slowly a request may come.
"""

from __future__ import annotations

import asyncio
import mmap
import threading

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

READ_AT_ONCE = 2**20  # bytes; asyncio alone reads a quarter of that, and what follows a read costs the same
LARGEST_HEAD = 2**16  # bytes of the request line and the headers
FRAMING = 16  # bytes around each byte of a body that comes in chunks: more is something else, such as endless trailers
HEAD_SECONDS = 30.0
BODY_SECONDS, LEAST_BYTES = 60.0, 1000  # in so many seconds at least so many bytes of a body
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class _Room(threading.local):
    """Where the connections of a loop put what they have read, until it is parsed at once: a loop has one thread."""

    def __init__(self) -> None:
        self.bytes = memoryview(mmap.mmap(-1, READ_AT_ONCE))  # takes no memory before it is used


_room = _Room()


class Connection(HttpToolsProtocol, asyncio.BufferedProtocol):
    """Ends a connection whose request grows without an end, or doesn't come: anybody may open one, without a key."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._around = self._body = 0  # bytes of this request
        self._waits_for = "head"  # head, body or nothing
        self._came = 0  # bytes since the last look
        self._look = self.loop.call_later(HEAD_SECONDS, self._end_if_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._look.cancel()
        super().connection_lost(exc)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _room.bytes

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(_room.bytes[:nbytes])

    def data_received(self, data: bytes | memoryview) -> None:
        self._around += len(data)
        self._came += len(data)
        super().data_received(data)  # type: ignore[arg-type]  # the parser takes either, and keeps none
        if self._around > LARGEST_HEAD + FRAMING * self._body and not self.transport.is_closing():
            if self._waits_for == "head":
                self.transport.write(TOO_LARGE)
            self.transport.close()

    # ---- called by the parser ---------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._around = self._body = 0
        self._wait_for("head", HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._wait_for("body", BODY_SECONDS)

    def on_body(self, body: bytes) -> None:
        self._around -= len(body)
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._around = self._body = 0
        self._waits_for = "nothing"
        self._look.cancel()

    # ---- time -------------------------------------------------------------------------------------------------

    def _wait_for(self, part: str, seconds: float) -> None:
        self._waits_for, self._came = part, 0
        self._look.cancel()
        self._look = self.loop.call_later(seconds, self._end_if_slow)

    def _end_if_slow(self) -> None:
        """Between requests uvicorn's own limit counts. A body that isn't read, as disks are slow, may wait."""
        if self._waits_for == "body" and (self._came >= LEAST_BYTES or self.flow.read_paused):
            self._wait_for("body", BODY_SECONDS)
        else:
            self.transport.close()
