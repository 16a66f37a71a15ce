"""Responses that end at once when their client hangs up, whole or streamed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from gateway.errors import IN_ANSWER, ApiError, worded

FIRST_SECONDS = 2.0  # an error that comes sooner has a status of its own
COMMENT_SECONDS = 5.0  # between comments that keep a connection alive
COMMENT = b": loading\n\n"
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class Whole:
    """An answer as one JSON object, which `work` puts together."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, dict[str, Any]]]) -> None:
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        values = await unless_gone(receive, self._work())
        if values is not None:
            await JSONResponse(values)(scope, receive, send)


class Streamed:
    """An answer as server-sent events. `failed` words an error that comes after the first byte."""

    def __init__(self, lines: AsyncGenerator[bytes, None], failed: Callable[[ApiError], bytes]) -> None:
        self._lines, self._failed = lines, failed
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await unless_gone(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        async with aclosing(self._lines) as lines:
            try:
                await self._write(send, await self._first(send))
                async for line in lines:
                    await self._write(send, line)
            except Exception as error:
                if not self._started:
                    raise
                await self._write(send, self._failed(worded(error, IN_ANSWER)))
        await send({"type": "http.response.body", "body": b""})

    async def _first(self, send: Send) -> bytes:
        """The first line. While it is awaited, comments tell the client that somebody is there."""
        first = asyncio.ensure_future(anext(self._lines))
        try:
            await asyncio.wait({first}, timeout=FIRST_SECONDS)
            while not first.done():
                await self._write(send, COMMENT)
                await asyncio.wait({first}, timeout=COMMENT_SECONDS)
            return first.result()
        finally:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)

    async def _write(self, send: Send, line: bytes) -> None:
        if not self._started:
            self._started = True
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": line, "more_body": True})


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, Any]) -> Any:
    """What `work` returns; None if the client hangs up before, which ends the work."""
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        gone.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
