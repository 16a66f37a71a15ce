"""A line of the table of paths: how it is asked, what it answers, who answers. Its description comes of it too."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from functools import cached_property
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ftq.client.client import Client
from ftq.errors import NotFound
from ftq.store.gateway.keys import Key
from ftq.store.records import Run
from ftq.store.wire.records import encode
from gateway.access import caller_of
from gateway.errors import ApiError
from gateway.files.storage import sees
from gateway.shared import Gateway, gateway_of
from gateway.wire import Body, invalid, read_body

PREFIX = "/ftq/v1"
Form = TypeVar("Form", bound=BaseModel)


class Query(BaseModel):
    """The part of a URL after the `?`."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


class Nothing(Body):
    """A body without a value."""


@dataclass
class Call:
    """A request that was checked."""

    request: Request
    query: Any
    body: Any

    @property
    def gateway(self) -> Gateway:
        return gateway_of(self.request)

    @property
    def client(self) -> Client:
        return self.gateway.client

    @property
    def key(self) -> Key:
        return caller_of(self.request)

    @property
    def owner(self) -> str | None:
        """Whose runs the caller sees; None for all."""
        return sees(self.key)

    @cached_property
    def run(self) -> Run:
        """The run of the path. NotFound if there is none, or it is another's."""
        return self.run_of(self.request.path_params["run_id"])

    def run_of(self, run_id: str) -> Run:
        found = self.client.store.jobs.find(run_id, self.owner)
        if found is None:
            raise NotFound(f"no run has the id {run_id!r}", "`ftq status` lists the runs.")
        return found[0]

    def named(self, text: str) -> Run:
        """The caller's run of a name, id or version."""
        return self.client.store.find(text.replace("\0", "?"), self.owner)


@dataclass(frozen=True)
class Entry:
    """A path.

    `answer` is a dataclass, a function that imports it, or the media type of another answer. `raw`: the handler reads
    the body by itself.
    """

    method: str
    path: str
    handler: Callable[[Call], Any]
    summary: str
    answer: Any
    query: type[Query] = Query
    body: type[Body] | None = None
    raw: bool = False
    admin: bool = False

    @property
    def route(self) -> Route:
        return Route(PREFIX + self.path, self._endpoint, methods=[self.method], name=self.handler.__name__)

    async def _endpoint(self, request: Request) -> Any:
        if self.admin and not caller_of(request).admin:
            raise ApiError(403, "Only an admin's key may do this: `ftq keys create NAME --admin` makes one.")
        query = checked(self.query, dict(request.query_params))
        call = Call(request, query, await read_body(request, self.body) if self.body else None)
        answer = await (self.handler(call) if self.raw else run_in_threadpool(self.handler, call))
        return Json(answer) if is_dataclass(answer) else answer


class Json(Response):
    """A record as JSON. Numbers that JSON hasn't got, which a training may report, are as Python writes them."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(encode(content)).encode()


def checked(form: type[Form], values: dict[str, str]) -> Form:
    try:
        return form.model_validate(values)
    except ValidationError as error:
        raise invalid(error) from None
