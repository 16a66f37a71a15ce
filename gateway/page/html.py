"""Pages from templates, with the headers that bar what they don't need. Errors as pages too."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from ftq.errors import printable
from ftq.page.frame import code
from ftq.page.style import STYLE
from ftq.words import short
from gateway.errors import ApiError

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

FOLDER = Path(__file__).parent
# Widths of bars in ftq's own tables are style attributes; scripts and styles come from this server's files alone.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; img-src data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with none at all, browsers hide where a form was sent from
    "Cache-Control": "no-store",
}
TITLES = {
    400: "That doesn't work",
    403: "Nothing was done",
    404: "There is nothing here",
    405: "There is nothing here",
    413: "That is too much",
    429: "Too much at once",
    500: "The server had an error",
    503: "The server can't answer now",
    507: "The disk is full",
}


def page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A template as a page of whoever has logged in."""
    key = request.scope.get("ftq.key")
    return HTMLResponse(environment().get_template(template).render(key=key, **values), status, HEADERS)


def part(name: str, *values: Any) -> str:
    """A macro of parts.html: a piece of a page that changes while it is looked at."""
    made = getattr(environment().get_template("parts.html").module, name)(*values)
    return str(made).strip()


def problem(request: Request, error: ApiError) -> Response:
    """An error in words. Who isn't logged in goes to the login, and from there to what was wanted."""
    if error.status == 401:
        wanted = request.url.path if request.method == "GET" else "/"
        return RedirectResponse(f"/login?next={quote(wanted)}" if wanted != "/" else "/login", 303)
    title = TITLES.get(error.status, TITLES[400 if error.status < 500 else 500])
    message = f"There is no page {request.url.path}." if error.message.startswith("Invalid URL") else error.message
    answer = page(request, "problem.html", error.status, title=title, message=message)
    answer.headers.update(error.headers)
    return answer


@cache
def environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # with the first page

    from ftq.client import view

    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value, keep="\n\t\r") if type(value) is str else value,
    )
    made.filters |= {"code": _code, "iso": view.iso, "clock": _clock, "short": short}
    return made


def _code(text: str) -> Markup:
    from markupsafe import Markup

    return Markup(code(text))  # noqa: S704  it is escaped there


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def style(request: Request) -> Response:
    """What the reports look like, and what else this page has."""
    return _asset(STYLE + (FOLDER / "static" / "page.css").read_text(encoding="utf-8"), "text/css")


def script(request: Request) -> Response:
    return _asset((FOLDER / "static" / "page.js").read_text(encoding="utf-8"), "text/javascript")


def _asset(text: str, kind: str) -> Response:
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
    return Response(text, media_type=kind, headers=headers)
