"""GET /metrics, and who may read it: FTQ_METRICS_TOKEN or an admin's key. It is never open: it names runs and hosts."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ftq.servers import secret_of
from gateway.errors import ApiError
from gateway.shared import gateway_of

PATH = "/metrics"
TOKEN = "FTQ_METRICS_TOKEN"
COUNTED = (
    "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/fine_tuning", "/v1/files", "/v1/uploads",
    "/v1/models", "/healthz", PATH,
)  # fmt: skip


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


def metrics(request: Request) -> Response:
    from prometheus_client import CONTENT_TYPE_LATEST

    if "ftq.key" in request.scope and not request.scope["ftq.key"].admin:
        raise ApiError(403, f"{PATH} needs an admin's key, or the token of {TOKEN}.")
    gateway = gateway_of(request)
    return Response(gateway.metrics.text(gateway.client, gateway.served), headers={"content-type": CONTENT_TYPE_LATEST})


routes = [Route(PATH, metrics)]
