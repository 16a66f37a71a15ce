"""What all endpoints share: the client, its store, how the server was started."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from starlette.requests import Request

from ftq.client.client import Client
from ftq.programs import ServeOptions
from ftq.settings import Settings
from gateway.chat.settings import ChatSettings
from gateway.files.storage import Storage
from gateway.metrics.metrics import Metrics

if TYPE_CHECKING:
    from gateway.chat.upstream.order import Backend


@dataclass
class Gateway:
    """As `gateway_of(request)`."""

    settings: Settings
    options: ServeOptions
    client: Client
    chat: ChatSettings = field(default_factory=ChatSettings.from_env)
    served: Counter[tuple[str, int]] = field(default_factory=Counter)  # answers by path and status
    metrics: Metrics = field(default_factory=Metrics)
    stopping: bool = False  # the server has been told to end: streams without an end have to

    @cached_property
    def answering(self) -> Backend:
        """Who answers chats; what that needs is imported with the first one."""
        from gateway.chat.upstream.backend import backend

        return backend(self.chat)

    @cached_property
    def files(self) -> Storage:
        """The files that clients upload, and the results of jobs."""
        return Storage(self.client.store, self.settings.home)


def gateway_of(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway
