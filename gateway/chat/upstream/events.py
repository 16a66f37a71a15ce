"""Server-sent events of a server that speaks OpenAI's API, and its errors in OpenAI's words."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from ftq.words import LineBuffer
from gateway.chat.upstream.order import Order
from gateway.errors import ApiError

FINAL = {"x-should-retry": "false"}  # clients would try a 5xx again
LONGEST_WAIT = 60  # seconds of a Retry-After: some clients sleep whatever it says


class Broken(Exception):
    """The server went away in the middle of its answer."""


@dataclass(frozen=True)
class Opened:
    """An answer whose headers have come."""

    status: int
    pieces: AsyncIterator[bytes]
    retry_after: str | None = None


async def events(opening: AbstractAsyncContextManager[Opened], order: Order) -> AsyncIterator[dict[str, Any]]:
    """The chunks of a streamed answer, which ends with [DONE]. Broken if it doesn't, ApiError if it is refused."""
    async with opening as opened:
        if opened.status != 200:
            raise refusal(opened.status, await whole(opened), order, opened.retry_after)
        async for data in _data(opened.pieces):
            if data == b"[DONE]":
                return
            value = _object(data)
            if "error" in value:
                raise refusal(500, data, order)
            if value:
                yield value
        raise Broken("the answer has no end")


async def whole(opened: Opened) -> bytes:
    return b"".join([piece async for piece in opened.pieces])


def refusal(status: int, text: bytes, order: Order, retry_after: str | None = None) -> ApiError:
    """What a server said instead of an answer, as OpenAI says it."""
    error = _error(text)
    message, kind = str(error.get("message") or text[:300].decode(errors="replace")), error.get("type")
    code = error.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else status
    lower = message.lower()
    if kind == "exceed_context_size_error" or code == "context_length_exceeded" or "maximum context length" in lower:
        return too_long(message, order)
    if status in (401, 403):
        return ApiError(
            502, f"The server that answers refuses the gateway's key: {message}", kind="server_error", headers=FINAL
        )
    if status == 429:
        wait = min(int(retry_after), LONGEST_WAIT) if retry_after and retry_after.isdigit() else 1
        return ApiError(429, message, kind="requests", code="rate_limit_exceeded", headers={"Retry-After": str(wait)})
    if "response_format" in order.body and ("schema" in lower or "grammar" in lower):
        return ApiError(
            400, f"The schema can't be used: {message}", param="response_format", code="invalid_json_schema"
        )
    if status < 500 or "template" in lower or "jinja" in lower:
        return ApiError(404 if status == 404 else 400, message, param=order.param, code="invalid_value")
    return ApiError(500, message, kind="server_error")


def too_long(message: str, order: Order) -> ApiError:
    return ApiError(400, message, param=order.param, code="context_length_exceeded")


async def _data(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """What stands behind `data:`."""
    lines = LineBuffer()
    async for piece in pieces:
        for line in lines.take(piece):
            if line.startswith(b"data:"):
                yield line[5:].strip()
            elif line.startswith(b"error:"):  # older llama-servers
                yield b'{"error": ' + line[6:].strip() + b"}"


def _object(data: bytes) -> dict[str, Any]:
    """The JSON object; empty for null, which llama.cpp sends before the first of several answers."""
    try:
        value = json.loads(data)
    except ValueError:
        raise Broken(f"no JSON: {data[:100]!r}") from None
    return value if isinstance(value, dict) else {}


def _error(text: bytes) -> dict[str, Any]:
    try:
        value = _object(text)
    except Broken:
        return {}
    error = value.get("error", value)
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else {}
