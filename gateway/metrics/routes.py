"""GET /metrics, and who may read it: FTQ_METRICS_TOKEN or an admin's key. It is never open: it names runs and hosts."""

from __future__ import annotations

import hmac
import os
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ftq.servers import secret_of
from gateway.errors import ApiError

if TYPE_CHECKING:
    from gateway.app import Gateway

PATH = "/metrics"
TOKEN = "FTQ_METRICS_TOKEN"
COUNTED = (
    "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/fine_tuning", "/v1/files", "/v1/uploads",
    "/v1/models", "/healthz", PATH,
)  # fmt: skip
FRESH = 5.0  # seconds for which the database isn't asked again


def token_of(environ: Mapping[str, str] = os.environ) -> bytes:
    """FTQ_METRICS_TOKEN, or what the file that FTQ_METRICS_TOKEN_FILE names holds; empty without them."""
    return secret_of(environ, TOKEN).encode()


def is_scraper(request: Request, token: bytes) -> bool:
    """Whether the request reads /metrics and shows the token."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    same = scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token)
    return bool(token) and request.url.path == PATH and same


def family_of(path: str) -> str:
    """The name by which answers are counted: of the few that there are, so that nobody can make more."""
    return next((name for name in COUNTED if path == name or path.startswith(f"{name}/")), "other")


class Metrics:
    """The text for Prometheus; what the database counts is kept for FRESH seconds."""

    def __init__(self) -> None:
        self._lock, self._at, self._text = threading.Lock(), -FRESH, b""

    def text(self, gateway: Gateway) -> bytes:
        from gateway.metrics.families import text  # prometheus_client: for those who read it

        with self._lock:
            if time.monotonic() - self._at >= FRESH:
                self._text, self._at = text(gateway.client, gateway.served), time.monotonic()
            return self._text


def metrics(request: Request) -> Response:
    from prometheus_client import CONTENT_TYPE_LATEST

    from gateway.app import gateway_of

    if "ftq.key" in request.scope and not request.scope["ftq.key"].admin:
        raise ApiError(403, f"{PATH} needs an admin's key, or the token of {TOKEN}.")
    gateway = gateway_of(request)
    return Response(gateway.metrics.text(gateway), headers={"content-type": CONTENT_TYPE_LATEST})


routes = [Route(PATH, metrics)]
