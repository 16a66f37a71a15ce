"""The application: which path is answered by whom, behind the check of keys."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match, Route, Router
from starlette.types import Receive, Scope, Send

from ftq.client.client import Client
from ftq.errors import FtqError
from ftq.programs import ServeOptions
from ftq.settings import Settings
from gateway import errors
from gateway.access import Access
from gateway.files import routes as files
from gateway.jobs import routes as jobs
from gateway.jobs import webhooks
from gateway.metrics import routes as metrics
from gateway.shared import Gateway, gateway_of

SWEEP_SECONDS = 3600.0
log = logging.getLogger("ftq.gateway")


def make_app(settings: Settings, options: ServeOptions) -> Starlette:
    """The whole server. Endpoints that only read the database are plain functions, which run in threads."""
    gateway, webhook = Gateway(settings, options, Client(settings)), webhooks.Webhook.from_env()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(gateway))
        with webhooks.sending(gateway, webhook):
            yield
        sweeping.cancel()
        if "answering" in vars(gateway):
            await gateway.answering.close()
        gateway.client.close()

    handlers: dict[Any, Any] = dict.fromkeys((errors.ApiError, FtqError, HTTPException, Exception), errors.answer)
    app = Starlette(
        routes=_routes(),
        middleware=[Middleware(Access, gateway=gateway)],
        exception_handlers=handlers,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # to http, behind a proxy with TLS, and to whatever host the client named
    app.state.gateway = gateway
    return app


def _routes() -> list[BaseRoute]:
    return [
        Route("/healthz", health),
        *(*metrics.routes, *files.routes, *jobs.routes),
        Later("gateway.chat.routes", "/v1/chat/", "/v1/completions", "/v1/responses"),
        Later("gateway.own.routes", "/ftq/", "/openapi.json"),
        Later("gateway.page.routes", "/"),
    ]


class Later(BaseRoute):
    """The `routes` of a module, which is imported when a path that begins like one of theirs is asked for.

    Many a server answers no chat, shows no page or knows no other machine's client, and needn't hold that in memory.
    """

    def __init__(self, module: str, *beginnings: str) -> None:
        self._module, self._beginnings = module, beginnings

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Partial: a route before this one that knows the path, if not by this method, is the one that answers."""
        return (Match.PARTIAL if scope["path"].startswith(self._beginnings) else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "_router" not in vars(self):
            await run_in_threadpool(getattr, self, "_router")
        await self._router(scope, receive, send)

    @cached_property
    def _router(self) -> Router:
        return Router(importlib.import_module(self._module).routes, redirect_slashes=False)


async def _sweep(gateway: Gateway) -> None:
    """Delete now and every hour what has expired, and what a killed gateway has left."""
    while True:
        try:
            await run_in_threadpool(gateway.files.sweep)
        except (FtqError, OSError) as error:
            log.warning("expired files weren't deleted: %s", error)
        await asyncio.sleep(SWEEP_SECONDS)


async def health(request: Request) -> Response:
    """Whether this process answers and its database does; the only answer without a key, and without a wait for others.

    The threads of the other requests may all wait for a bucket.
    """
    await asyncio.to_thread(gateway_of(request).client.store.live_workers)  # no thread of theirs
    return JSONResponse({"status": "ok"})
