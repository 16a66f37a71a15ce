"""HTTP over a Unix socket to llama.cpp: a connection per request, read with next to no work for each token.

llama.cpp's server drops one kept-alive connection in a hundred as a request comes.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httptools

from gateway.chat.upstream.events import Broken, Opened

SILENCE_SECONDS = 600.0  # until the first token: a long prompt on a busy processor


@asynccontextmanager
async def posted(address: tuple[str, str], path: str, body: dict[str, Any]) -> AsyncIterator[Opened]:
    """The answer to a POST, open while the block runs. `address` is (the socket's path, the key). Broken."""
    socket, key = address
    text = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: llama\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    try:
        _, answer = await asyncio.get_running_loop().create_unix_connection(_Answer, socket)
    except OSError as error:
        raise Broken(str(error)) from None
    try:
        answer.transport.write(head.encode() + text)
        await answer.headers()
        yield Opened(answer.status, answer.pieces())
    finally:
        answer.transport.abort()


class _Answer(asyncio.Protocol):
    """What the server sends, as it comes."""

    transport: asyncio.WriteTransport

    def __init__(self) -> None:
        self.status = 0
        self._parser = httptools.HttpResponseParser(self)
        self._arrived = deque[bytes]()
        self._over, self._error = False, ""
        self._waiter: asyncio.Future[None] | None = None

    async def headers(self) -> None:
        """Wait for them; they come with the first token."""
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                while not self.status:
                    await self._more()
        except TimeoutError:
            raise Broken(f"no token in {SILENCE_SECONDS:.0f} s") from None

    async def pieces(self) -> AsyncIterator[bytes]:
        while True:
            while self._arrived:
                yield self._arrived.popleft()
            if self._over:
                return
            await self._more()

    async def _more(self) -> None:
        """Wait until something has arrived. Broken if nothing will."""
        if self._error:
            raise Broken(self._error)
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    # ---- called by the event loop -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)  # uvloop's isn't of asyncio's class

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._error = str(error)
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._over:
            self._error = self._error or str(error or "the connection was closed")
        self._wake()

    # ---- called by the parser -----------------------------------------------------------------------------

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._arrived.append(body)

    def on_message_complete(self) -> None:
        self._over = True
