"""A server behind a URL that speaks OpenAI's API: vLLM, llama-server, another gateway."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from gateway.chat.settings import ChatSettings
from gateway.chat.upstream.events import Broken, Opened, events
from gateway.chat.upstream.order import Order
from gateway.errors import ApiError
from gateway.models import Served

if TYPE_CHECKING:
    import httpx

SILENCE_SECONDS = 600.0  # without a token
CONNECT_SECONDS = 5.0
CONNECTIONS = 1000


class Remote:
    """Sends the model's name as FTQ_CHAT_NAMES maps it, else as the client asked for it."""

    def __init__(self, settings: ChatSettings) -> None:
        self._settings = settings

    async def events(self, served: Served, order: Order) -> AsyncIterator[dict[str, Any]]:
        body = {
            **order.body,
            "model": self._settings.names.get(served.name, served.name),
            "n": order.n,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        body |= {} if order.most is None else {"max_tokens": order.most}
        try:
            async with aclosing(cast(Any, events(self._posted(order.path.lstrip("/"), body), order))) as chunks:
                async for chunk in chunks:
                    yield chunk
        except Broken as error:
            raise ApiError(502, f"The server behind FTQ_CHAT_URL broke off: {error}", kind="server_error") from None

    @asynccontextmanager
    async def _posted(self, path: str, body: dict[str, Any]) -> AsyncIterator[Opened]:
        import httpx

        try:
            async with self._client.stream("POST", path, content=json.dumps(body).encode()) as answer:
                yield Opened(answer.status_code, answer.aiter_raw(), answer.headers.get("retry-after"))
        except httpx.TransportError as error:
            raise Broken(str(error) or type(error).__name__) from None

    async def close(self) -> None:
        if "_client" in vars(self):
            await self._client.aclose()

    @cached_property
    def _client(self) -> httpx.AsyncClient:
        import httpx

        key = {"Authorization": f"Bearer {self._settings.key}"} if self._settings.key else {}
        return httpx.AsyncClient(
            base_url=self._settings.url,
            headers={"Content-Type": "application/json", "Accept-Encoding": "identity", **key},
            timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=CONNECTIONS),
        )
