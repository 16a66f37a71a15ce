"""Login and logout: a cookie stands for a key. A form is taken from this server's own pages alone."""

from __future__ import annotations

import contextlib
import re
from typing import cast
from urllib.parse import parse_qs, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ftq.errors import FtqError
from ftq.store.gateway.keys import LIVES, Key
from ftq.store.store import RunStore
from gateway.errors import ApiError
from gateway.page.html import page

COOKIE = "ftq_session"
READS = ("GET", "HEAD")
LONGEST = 2**14  # bytes of a small form
NEXT = re.compile(r"/(submit|runs/[A-Za-z0-9_-]+(/report\.html|/preview\.html|/logs/[a-z]+)?)?")
NO_SESSION = "Log in with a key at /login. Programs send it in a header: Authorization: Bearer KEY."
ELSEWHERE = "This form was sent from another site, or by a browser that hides where it was sent from: nothing was done."


def key_of(store: RunStore, request: Request) -> Key:
    """The key that the person has logged in with. ApiError 401 without one, 403 for a form of another site."""
    token = request.cookies.get(COOKIE)
    key = store.sessions.find(token) if token else None
    if key is None:
        raise ApiError(401, NO_SESSION)
    if request.method not in READS:
        check_origin(request)
    with contextlib.suppress(FtqError):  # a full disk: what only reads is answered
        store.keys.touch(key)
    return key


def check_origin(request: Request) -> None:
    """ApiError 403 unless the browser says that one of this server's own pages has sent the form."""
    origin = urlsplit(request.headers.get("origin", "")).netloc
    if not origin or origin != request.headers.get("host"):
        raise ApiError(403, ELSEWHERE)


async def login(request: Request) -> Response:
    """The form, and what comes of it: a session, or the form again."""
    if request.method in READS:
        return page(request, "login.html", next=_next(request.query_params.get("next", "")))
    check_origin(request)
    fields = await small_form(request)
    store = cast(RunStore, request.app.state.gateway.client.store)
    token = await run_in_threadpool(store.sessions.begin, fields.get("key", "").strip())
    to = _next(fields.get("next", ""))
    if token is None:
        return page(request, "login.html", 401, next=to, wrong=True)
    answer = RedirectResponse(to, 303)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, token, int(LIVES), secure=secure, httponly=True, samesite="strict")
    return answer


def logout(request: Request) -> Response:
    """End the session, for whoever has a copy of the cookie too."""
    request.app.state.gateway.client.store.sessions.end(request.cookies.get(COOKIE, ""))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


async def small_form(request: Request) -> dict[str, str]:
    """The fields of a form without files. ApiError 413 for a long one."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LONGEST:
            raise ApiError(413, f"The form has more than {LONGEST:,} bytes.")
    return {name: values[-1] for name, values in parse_qs(body.decode(errors="replace")).items()}


def _next(path: str) -> str:
    """Where the person wanted to go, a page of this server."""
    return path if NEXT.fullmatch(path) else "/"
