"""Who asks, and how often: an API key or a person's session, its limits, and a request id on every answer.

Plain ASGI: Starlette's BaseHTTPMiddleware would hide a client that hangs up from the endpoints.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ftq.errors import FtqError
from ftq.store.gateway.keys import Key
from ftq.version import VERSION
from gateway import errors
from gateway.errors import ApiError
from gateway.limits import Requests
from gateway.metrics.routes import PATH, family_of, is_scraper, token_of
from gateway.page import sessions
from gateway.shared import Gateway

KNOWN = 1.0  # seconds
log = logging.getLogger("ftq.gateway")
OPEN = frozenset({"/healthz", "/login", "/assets/page.css", "/assets/page.js"})
HEADERS = {"openai-version": "2020-10-01", "openai-organization": "org-ftq", "x-ftq-version": VERSION}
NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY). `ftq keys create NAME` makes one."
)
WRONG_KEY = (
    "Incorrect API key provided: {}. `ftq keys list` shows the first and last letters of those there are, "
    "`ftq keys create NAME` makes one."
)


def caller_of(request: Request) -> Key:
    """The key that the request came with."""
    key: Key = request.scope["ftq.key"]
    return key


class Access:
    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self.app, self.gateway = app, gateway
        self._keys, self._requests = _Keys(gateway), Requests()
        self._metrics_token = token_of()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with_id = _Answer(send, partial(self._count, scope["path"]))
        request = Request(scope, receive)
        if scope["path"] not in OPEN and not is_scraper(request, self._metrics_token):
            try:
                scope["ftq.key"] = key = await self._key_of(request)
                with_id.headers = HEADERS | self._requests.take(key)
            except (ApiError, FtqError) as error:
                await errors.answer(request, error)(scope, receive, with_id.send)
                return
        try:
            await self.app(scope, receive, with_id.send)
        except Exception as error:  # Starlette would answer it outside of this class, without a request id
            if with_id.started:
                raise
            await errors.answer(Request(scope, receive), error)(scope, receive, with_id.send)

    def _count(self, path: str, status: int) -> None:
        self.gateway.served[family_of(path), status] += 1

    async def _key_of(self, request: Request) -> Key:
        """The key in the header; for a page without that, the one that the person has logged in with."""
        if "authorization" not in request.headers and not request.url.path.startswith(("/v1/", errors.OWN, PATH)):
            return await run_in_threadpool(sessions.key_of, self.gateway.client.store, request)
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise ApiError(401, NO_KEY)
        key = await self._keys.find(secret.strip())
        if key is None:
            raise ApiError(401, WRONG_KEY.format(_masked(secret.strip())), code="invalid_api_key")
        return key


class _Keys:
    """The keys that came lately, so that a busy client doesn't cost a query each time. One revoked ends with KNOWN."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._known: dict[str, tuple[float, Key]] = {}

    async def find(self, secret: str) -> Key | None:
        since, key = self._known.get(secret, (-math.inf, None))
        if time.monotonic() - since < KNOWN:
            return key
        key = await run_in_threadpool(self._look_up, secret)
        self._known = {name: known for name, known in self._known.items() if time.monotonic() - known[0] < KNOWN}
        if key:
            self._known[secret] = (time.monotonic(), key)
        return key

    def _look_up(self, secret: str) -> Key | None:
        keys = self._gateway.client.store.keys
        key = keys.find(secret)
        if key:
            try:
                keys.touch(key)
            except FtqError as error:  # a full disk: what only reads is answered
                log.warning("the use of key %s wasn't noted: %s", key.name, error.message)
        return key


class _Answer:
    """Puts a request id and OpenAI's headers on the answer."""

    def __init__(self, send: Send, count: Callable[[int], None]) -> None:
        self._send, self._count = send, count
        self.headers = HEADERS
        self.started = False
        self._since = time.perf_counter()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self._count(message["status"])
            took = f"{(time.perf_counter() - self._since) * 1000:.0f}"
            more = {"x-request-id": f"req_{secrets.token_hex(16)}", "openai-processing-ms": took}
            _add(message, self.headers | more)
        await self._send(message)


def _add(message: MutableMapping[str, Any], headers: dict[str, str]) -> None:
    message["headers"] = [*message.get("headers", []), *((k.encode(), v.encode()) for k, v in headers.items())]


def _masked(secret: str) -> str:
    return f"{secret[:4]}***{secret[-4:]}" if len(secret) > 12 else "***"
