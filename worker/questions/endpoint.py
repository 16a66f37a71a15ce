"""Any server with OpenAI's chat completions writes the questions: FTQ_LLM_URL, FTQ_LLM_MODEL, FTQ_LLM_KEY(_FILE).

Its key stands in one header and nowhere else. What will never work is a UserError at once; what may work later is tried
again with growing pauses, and is Lost in the end: the run goes on with what has been written.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from ftq.errors import FtqError, Lost, UserError
from ftq.servers import read_secret
from ftq.words import listed
from worker.questions.schema import GREETING, Request, without_limits

AT_ONCE = 8
TRIES, TRIES_AT_START = 8, 3  # about two minutes, a few seconds
LONGEST_PAUSE = 60.0
TIMEOUT = httpx.Timeout(180.0, connect=10.0)
MODELS_SHOWN = 10
NO_QUOTA = "insufficient_quota"
THOUGHTS = 2000  # tokens that a reasoning model may spend before its answer
FORMATS = ("json_schema", "json_object", "")  # what a server may know, the best first


@dataclass(frozen=True)
class Access:
    """`url` ends before /chat/completions. The key stays out of `repr`."""

    url: str
    model: str
    key: str = field(default="", repr=False)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Access:
        """UserError where one is missing or can't be used."""
        url, model = (environ.get(name, "").strip() for name in ("FTQ_LLM_URL", "FTQ_LLM_MODEL"))
        missing = [name for name, value in (("FTQ_LLM_URL", url), ("FTQ_LLM_MODEL", model)) if not value]
        if missing:
            raise UserError(
                f"questions=endpoint needs {' and '.join(missing)} where the prepare stage runs",
                "Set it for the worker, for example: FTQ_LLM_URL=http://localhost:8000/v1 FTQ_LLM_MODEL=qwen3-32b",
            )
        return cls(_checked_url(url), model, _key(environ))


def _checked_url(url: str) -> str:
    """The URL in one form. One that holds a password isn't shown."""
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or "@" in parts.netloc or parts.query or parts.fragment:
        raise UserError(
            "FTQ_LLM_URL must be an http:// or https:// address without user, password or query",
            "For example: FTQ_LLM_URL=https://api.example.org/v1; the key belongs into FTQ_LLM_KEY_FILE.",
        )
    base = url.rstrip("/").removesuffix("/chat/completions")
    return base if urlsplit(base).path else f"{base}/v1"


def _key(environ: Mapping[str, str]) -> str:
    if environ.get("FTQ_LLM_KEY_FILE") and environ.get("FTQ_LLM_KEY"):
        raise UserError("FTQ_LLM_KEY and FTQ_LLM_KEY_FILE are both set", "Unset one of them; the file is safer.")
    in_file = bool(environ.get("FTQ_LLM_KEY_FILE"))
    key = (read_secret(environ, "FTQ_LLM_KEY_FILE") if in_file else environ.get("FTQ_LLM_KEY", "")).strip()
    if not (key.isascii() and (key.isprintable() and " " not in key)):
        name = "FTQ_LLM_KEY_FILE" if in_file else "FTQ_LLM_KEY"
        raise UserError(f"{name}: a key holds ASCII characters only, and no spaces", "Copy it once more.")
    return key


class Endpoint:
    """An OpenAI-compatible server. A first request at the start finds what is wrong with it, before any is needed."""

    at_once = AT_ONCE

    def __init__(self, access: Access, pause: Callable[[float], None] = time.sleep) -> None:
        self.name = f"{access.model} at {access.url}"
        self._access, self._pause = access, pause
        self._format, self._tokens, self._temperature = FORMATS[0], "max_tokens", True  # as this server likes it
        headers = {"Authorization": f"Bearer {access.key}"} if access.key else {}
        limits = httpx.Limits(max_connections=AT_ONCE)
        self._client = httpx.Client(headers=headers, timeout=TIMEOUT, limits=limits)
        try:
            self._ask(GREETING, TRIES_AT_START, at_start=True)
        except BaseException:
            self.close()
            raise

    def ask(self, request: Request) -> str:
        """What the model writes; empty where the server refuses this one request."""
        return self._ask(request, TRIES, at_start=False)

    def close(self) -> None:
        self._client.close()

    # ---- inside -----------------------------------------------------------------------------------------

    def _ask(self, request: Request, tries: int, at_start: bool) -> str:
        response, why = None, ""
        for number in range(tries):
            if number:
                self._pause(self._seconds(number, response))
            response, why = self._post(request)
            if response is None:
                continue
            if response.status_code == 200 and (text := _written(response)) is not None:
                return text
            why = self._said(response)
            if response.status_code != 200 and not _may_pass(response, why):
                if at_start or response.status_code in (401, 403, 404) or NO_QUOTA in why:
                    raise self._refused(response.status_code, why)
                return ""
        if at_start:
            raise UserError(
                f"the language model at {self._access.url} can't be used: {why}",
                "FTQ_LLM_URL names it. Is its server up, and does it speak OpenAI's chat completions?",
            )
        raise Lost(
            f"the language model at {self._access.url} failed {tries} times in a row: {why}",
            "What it has written is kept; the stage goes on there.",
        )

    def _post(self, request: Request) -> tuple[httpx.Response | None, str]:
        """(the response, why there is none). A server that dislikes an option is asked without it."""
        while True:
            try:
                response = self._client.post(f"{self._access.url}/chat/completions", json=self._body(request))
            except (httpx.TransportError, httpx.DecodingError) as error:
                return None, self._without_key(f"{type(error).__name__}: {error}".rstrip(": "))
            if response.status_code not in (400, 422) or not self._adapted(self._said(response).lower()):
                return response, ""

    def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._access.model,
            "messages": [{"role": "user", "content": request.prompt}],
            self._tokens: request.most_tokens + THOUGHTS,
        }
        if self._temperature:
            body["temperature"] = 0
        if self._format == "json_schema":
            schema = {"name": "answer", "strict": True, "schema": without_limits(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif self._format:
            body["response_format"] = {"type": self._format}
        return body

    def _adapted(self, said: str) -> bool:
        """Whether the complaint is about an option that can be left out or named otherwise, which then is done."""
        if self._tokens == "max_tokens" and "max_completion_tokens" in said:
            self._tokens = "max_completion_tokens"
        elif self._temperature and "temperature" in said:
            self._temperature = False
        elif self._format and re.search("response_format|json_schema|json_object|guided|grammar", said):
            self._format = FORMATS[FORMATS.index(self._format) + 1]
        else:
            return False
        return True

    def _seconds(self, number: int, response: httpx.Response | None) -> float:
        """Seconds to wait: as the server asks, else twice as long as before, and a little different in each thread."""
        asked = response.headers.get("Retry-After", "") if response is not None else ""
        seconds = float(asked) if re.fullmatch(r"\d{1,6}(\.\d+)?", asked) else 2.0 ** (number - 1)
        return min(LONGEST_PAUSE, seconds) * random.uniform(1.0, 1.25)

    def _said(self, response: httpx.Response) -> str:
        """The server's words, short, without the key that some servers repeat."""
        text = " ".join(response.text.split())
        with contextlib.suppress(ValueError, KeyError, TypeError):
            error = response.json()["error"]
            text = f"{error['message']} ({error.get('code') or 'no code'})" if isinstance(error, dict) else str(error)
        return f"HTTP {response.status_code}: {self._without_key(text)[:300]}".rstrip(": ")

    def _without_key(self, text: str) -> str:
        return text.replace(self._access.key, "***") if self._access.key else text

    def _refused(self, status: int, said: str) -> FtqError:
        url, model = self._access.url, self._access.model
        if status in (401, 403):
            return UserError(
                f"the language model at {url} refuses the key: {said}"
                if self._access.key
                else f"the language model at {url} wants a key: {said}",
                "FTQ_LLM_KEY_FILE names a file with the key, where the worker runs.",
            )
        if NO_QUOTA in said:
            return UserError(
                f"the language model at {url} has no quota left for the key: {said}",
                "Raise it there, then `ftq retry RUN`: what has been written is kept.",
            )
        known = self._models()
        if known and model not in known:
            return UserError(
                f"there is no model {model} at {url} ({said})",
                f"FTQ_LLM_MODEL names it. There are: {listed(known, MODELS_SHOWN)}",
            )
        return UserError(
            f"the language model {model} at {url} refuses the question: {said}",
            "FTQ_LLM_URL has to end before /chat/completions, FTQ_LLM_MODEL to name a chat model there.",
        )

    def _models(self) -> list[str]:
        """The models that the server names; none if it names none."""
        try:
            return sorted(str(model["id"]) for model in self._client.get(f"{self._access.url}/models").json()["data"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return []


def _may_pass(response: httpx.Response, said: str) -> bool:
    """Whether the same request may succeed later. A spent quota won't come back in minutes."""
    if NO_QUOTA in said:
        return False
    return response.status_code in (408, 409, 425, 429) or response.status_code >= 500


def _written(response: httpx.Response) -> str | None:
    """The answer's text, empty if the model refuses; None if this is no chat completion."""
    try:
        content = response.json()["choices"][0]["message"].get("content")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None
    return content if isinstance(content, str) else ""
