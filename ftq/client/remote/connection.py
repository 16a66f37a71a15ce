"""Requests to `ftq serve`, and what is said where one fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ftq import errors
from ftq.errors import FtqError, Refused, Unavailable, UserError, in_line, printable
from ftq.version import VERSION
from ftq.words import LineBuffer

if TYPE_CHECKING:
    import httpx

API = "/ftq/v1"
VERSION_HEADER = "x-ftq-version"
CONNECT_SECONDS, SILENT_SECONDS = 10.0, 600.0  # a model's checksum may take minutes
BEHIND_A_PROXY = (502, 503, 504)
KINDS = ("UserError", "NotFound", "Refused", "Unavailable", "OutOfMemory", "Lost")
LOOK = "`ftq doctor` looks at it. FTQ_SERVER names the server."
LIMITS = "An admin's `ftq keys list` shows the limits."


class Connection:
    """`note` is told once if the server is another version's."""

    def __init__(self, url: str, key: str, note: Callable[[str], None] = lambda text: None) -> None:
        self.url, self._key, self._note, self._noted = url, key, note, False

    def get(self, path: str, **query: str | int | None) -> Any:
        """The JSON that the server answers."""
        return self._json("GET", path, query)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._json("POST", path, {}, json=body or {})

    def delete(self, path: str, **query: str | int | None) -> Any:
        return self._json("DELETE", path, query)

    def send(self, path: str, content: Iterable[bytes], length: int) -> Any:
        """Send a long body as it comes. The JSON that the server answers."""
        headers = {"content-type": "application/octet-stream", "content-length": str(length)}
        return self._json("POST", path, {}, content=content, headers=headers)

    def bytes(self, path: str, offset: int = 0) -> Iterator[bytes]:
        """The pieces of a file from `offset` on; none where it is no longer than that."""
        headers = {"range": f"bytes={offset}-", "accept-encoding": "identity"} if offset else {}
        with self._answer("GET", path, {}, headers=headers) as response:
            if response.status_code == 416:
                return
            self._check(response)
            skipped = 0 if response.status_code == 206 or not offset else offset
            for piece in response.iter_raw():
                if skipped:  # something between has dropped the range
                    piece, skipped = piece[skipped:], max(0, skipped - len(piece))
                if piece:
                    yield piece

    def lines(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The lines of JSON that the server writes, as they come. FtqError for one that is an error."""
        with self._answer("POST", path, {}, json=body) as response:
            self._check(response)
            lines = LineBuffer()
            whole = (line for piece in response.iter_bytes() for line in lines.take(piece))
            for values in map(json.loads, filter(bytes.strip, whole)):
                if "error" in values:
                    raise _told(values["error"])
                yield values

    def cut_off(self) -> Unavailable:
        """The error of an answer whose end is missing."""
        return Unavailable(f"the answer of {self.url} has no end: it was stopped, or a proxy cut it", LOOK)

    def close(self) -> None:
        if "_http" in self.__dict__:
            self._http.close()
            del self.__dict__["_http"]

    # ---- inside -----------------------------------------------------------------------------------------

    @cached_property
    def _http(self) -> httpx.Client:
        import httpx

        timeout = httpx.Timeout(SILENT_SECONDS, connect=CONNECT_SECONDS)
        agent = {"authorization": f"Bearer {self._key}", "user-agent": f"ftq/{VERSION}"}
        return httpx.Client(base_url=self.url + API, headers=agent, timeout=timeout)

    def _json(self, method: str, path: str, query: dict[str, Any], **more: Any) -> Any:
        with self._answer(method, path, query, **more) as response:
            self._check(response)
            response.read()
            try:
                return json.loads(response.text)
            except ValueError:
                raise self._no_ftq(response) from None

    @contextmanager
    def _answer(self, method: str, path: str, query: dict[str, Any], **more: Any) -> Iterator[httpx.Response]:
        import httpx

        if not self._key:
            raise UserError(
                f"FTQ_SERVER={self.url} is set, and no key",
                "Set FTQ_KEY, or FTQ_KEY_FILE to a file with it. `ftq keys create NAME` on the server makes one.",
            )
        wanted = {name: value for name, value in query.items() if value is not None}
        try:
            with self._http.stream(method, path, params=wanted, **more) as response:
                self._compare(response)
                yield response
        except httpx.ConnectError as error:
            raise Unavailable(f"{self.url} is unreachable ({_why(error)})", f"Is `ftq serve` running? {LOOK}") from None
        except (httpx.TransportError, httpx.StreamError) as error:
            raise Unavailable(f"the connection to {self.url} broke ({_why(error)})", LOOK) from None

    def _compare(self, response: httpx.Response) -> None:
        version = response.headers.get(VERSION_HEADER)
        if version and version != VERSION and not self._noted:
            self._noted = True
            self._note(f"{self.url} is ftq {printable(version)}, this client is ftq {VERSION}")

    def _check(self, response: httpx.Response) -> None:
        """FtqError for an answer that refuses."""
        if response.status_code < 300:
            if VERSION_HEADER not in response.headers:
                raise self._no_ftq(response)
            return
        response.read()
        try:
            error = json.loads(response.text)["error"]
            message = str(error["message"])
        except (ValueError, KeyError, TypeError):
            raise self._no_ftq(response) from None
        if response.status_code == 401:
            hint = "FTQ_KEY has to be a key of this server: `ftq keys create NAME` there makes one."
            what = printable(message).partition(". ")[0].rstrip(".")  # what it says to type is for the server's machine
            raise UserError(f"{self.url} refuses the key: {what}.", hint)
        if error.get("code") == "insufficient_quota":
            raise Refused(printable(message), f"`ftq rm RUN` deletes one. {LIMITS}")
        if response.status_code == 429 and "ftq" not in error:
            what, _, then = printable(message).partition(". ")
            is_lasting = response.headers.get("x-should-retry") == "false"
            raise (Refused if is_lasting else Unavailable)(what, in_line(then or "Try again later.", LIMITS))
        if "ftq" not in error and response.status_code == 404 and message.startswith("Invalid URL"):
            raise FtqError(f"{self.url} doesn't know {response.url.path}", f"It is of another version. {LOOK}")
        raise _told(error)

    def _no_ftq(self, response: httpx.Response) -> FtqError:
        """What came is not of `ftq serve`: a proxy's page, or another server."""
        status = response.status_code
        if status in BEHIND_A_PROXY:
            hint = f"A proxy stands there, and what is behind it is down or slow: is `ftq serve` running? {LOOK}"
            return Unavailable(f"{self.url} answers {status} instead of ftq", hint)
        if status == 413:
            hint = "For nginx: client_max_body_size. docs/serve.md has the lines for a proxy."
            return FtqError(f"a proxy before {self.url} takes no body as large as these documents", hint)
        if 300 <= status < 400:
            there = printable(response.headers.get("location", "another place"))
            return UserError(f"{self.url} sends on to {there}", "Set FTQ_SERVER to where it really is.")
        return FtqError(f"what answers at {self.url} isn't `ftq serve` (status {status})", LOOK)


def _told(error: dict[str, Any]) -> FtqError:
    """The server's error as the exception that it was there."""
    details = error.get("ftq") or {}
    kind = getattr(errors, details.get("kind", "")) if details.get("kind") in KINDS else FtqError
    exception: FtqError = kind(str(details.get("message") or error.get("message")), str(details.get("hint") or ""))
    return exception


def _why(error: Exception) -> str:
    return printable(str(error) or type(error).__name__)
