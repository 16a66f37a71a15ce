"""Errors as OpenAI's clients read them: {"error": {"message", "type", "param", "code"}}, all four keys always.

A client raises by the status: 400 BadRequest, 401 Authentication, 403 PermissionDenied, 404 NotFound, 429 RateLimit,
5xx InternalServer. It tries 408, 409, 429 and 5xx again, so what stays wrong is a 400 (never 409 nor 422).
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ftq.errors import FtqError, NotFound, Unavailable, UserError

if TYPE_CHECKING:
    from ftq.store.gateway.keys import Key

_NAME = r"[^\s/'\"`,;:()<>]"
_PATH = re.compile(rf"(?<![\w./:~-])/(?!v1/|ftq/)(?:{_NAME}+/)+({_NAME}*)")
INVALID = "invalid_request_error"
RETRY_SECONDS = 5
IN_ANSWER = "in the middle of an answer"  # where an error happened, for the log
OWN = "/ftq/"  # below it ftq's own API
SERVED = ("/models", "/files", "/uploads", "/fine_tuning/", "/chat/", "/completions", "/responses")
BELOW = ": the API is below /v1, so the client's base URL has to end in /v1."
log = logging.getLogger("ftq.gateway")


class ApiError(Exception):
    """An answer that refuses: what a client gets as its exception. `param` is the dotted path of the wrong value."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str = INVALID,
        headers: dict[str, str] | None = None,
        cause: FtqError | None = None,
    ) -> None:
        super().__init__(message)
        self.cause = cause
        self.status, self.message, self.param, self.code, self.kind = status, message, param, code, kind
        self.headers = headers or {}

    @property
    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    @property
    def own_body(self) -> dict[str, Any]:
        """The same for a client of ftq's own, with the error that ftq raised."""
        if self.cause is None:
            return self.body
        kind = next(one.__name__ for one in type(self.cause).__mro__ if one.__module__ == FtqError.__module__)
        told = {"kind": kind, "message": self.cause.message, "hint": self.cause.hint}
        return {"error": self.body["error"] | {"ftq": told}}


def of_ftq(error: FtqError) -> ApiError:
    """What ftq says of the user's data is a 400, or a 404; of a database that is gone a 503 that clients try again."""
    if isinstance(error, NotFound):
        return ApiError(404, error.text, cause=error)
    if isinstance(error, UserError):
        return ApiError(400, error.text, cause=error)
    if isinstance(error, Unavailable):
        wait = {"Retry-After": str(RETRY_SECONDS)}
        return ApiError(503, error.text, kind="server_error", code="unavailable", headers=wait, cause=error)
    return ApiError(500, error.text, kind="server_error", cause=error)


def worded(error: BaseException, where: str) -> ApiError:
    """An exception as a client gets it. What nobody expected is logged, with `where` it happened."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, FtqError):
        return of_ftq(error)
    log.exception(where, exc_info=error)
    return ApiError(500, "The server had an error; its log has the details.", kind="server_error")


def answer(request: Request, error: Exception) -> Response:
    """The response to an exception, whichever it is. A page that a person looks at gets the same in words."""
    if isinstance(error, HTTPException):
        error = _of_http(request, error)
    error = for_caller(worded(error, f"{request.method} {request.url.path}"), request.scope.get("ftq.key"))
    if not request.url.path.startswith(("/v1/", OWN)) and "text/html" in request.headers.get("accept", ""):
        from gateway.page.html import problem  # that needs this module

        return problem(request, error)
    body = error.own_body if request.url.path.startswith(OWN) else error.body
    return JSONResponse(body, error.status, error.headers)


def for_caller(error: ApiError, key: Key | None) -> ApiError:
    """The error without the server's paths, which are for admins."""
    if not (key and key.admin):
        error.message = without_paths(error.message)
        if error.cause:
            error.cause.message, error.cause.hint = map(without_paths, (error.cause.message, error.cause.hint))
    return error


def without_paths(text: str) -> str:
    """The text with the last name of each path of this machine; the addresses of the API stay."""
    return _PATH.sub(r"…/\1", text)


def _of_http(request: Request, error: HTTPException) -> ApiError:
    if error.status_code == 404:
        below = BELOW if request.url.path.startswith(SERVED) else ""
        return ApiError(404, f"Invalid URL ({request.method} {request.url.path}){below}")
    if error.status_code == 405:
        return ApiError(405, f"Not allowed to {request.method} on {request.url.path}", code="method_not_supported")
    return ApiError(error.status_code, str(error.detail))
