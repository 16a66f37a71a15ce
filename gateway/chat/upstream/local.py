"""The llama.cpp servers of this process, started when a model is asked for the first time."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, aclosing, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ftq.errors import FtqError, Lost, UserError
from gateway.chat.settings import ChatSettings
from gateway.chat.upstream.events import FINAL, Broken, events, refusal, too_long, whole
from gateway.chat.upstream.order import Order
from gateway.chat.upstream.room import Room
from gateway.chat.upstream.threads import in_thread
from gateway.chat.upstream.unix import posted
from gateway.errors import RETRY_SECONDS, ApiError
from gateway.models import Served

if TYPE_CHECKING:
    from worker.llama.pool import Pool
    from worker.llama.server import Server

DEFAULT_TOKENS = 1024  # of an answer whose request names no limit
SHORT_BYTES = 512  # of a prompt that isn't counted
SHORTEST = {"role": "user", "content": "x"}
# OpenAI's defaults, and what else `ftq ask` draws with.
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": 40, "min_p": 0.0, "cache_prompt": True}
NOT_HERE = (
    "This gateway can't answer: llama.cpp isn't installed beside it. `pip install -r requirements/worker.txt` installs "
    "it; or let FTQ_LLAMA_SERVER name a llama-server, or FTQ_CHAT_URL the URL of a server that speaks OpenAI's API."
)
_Model = tuple[Path, ...]  # a file and its server's adapters


class Local:
    """Answers by a pool of llama.cpp servers."""

    def __init__(self, settings: ChatSettings) -> None:
        self._settings = settings
        self._links = dict[_Model, _Link]()
        self._pool: Pool | None = None
        self._opening = asyncio.Lock()
        self._entering = defaultdict[_Model, asyncio.Lock](asyncio.Lock)

    async def events(self, served: Served, order: Order) -> AsyncIterator[dict[str, Any]]:
        context = 0
        while True:
            async with self._server(served, context) as server:
                link = self._link(served, server)
                prompt = await link.prompt_tokens(order)
                most = self._most(server, order, prompt)
                if prompt + most <= server.context:
                    async with aclosing(cast(Any, link.events(order, served.lora, prompt, most))) as chunks:
                        async for chunk in chunks:
                            yield chunk
                    return
                context = prompt + most

    async def close(self) -> None:
        if self._pool:
            await in_thread(self._pool.close)

    def _most(self, server: Server, order: Order, prompt: int) -> int:
        """How many tokens an answer may have. The model's end cuts a larger limit: `finish_reason` says so."""
        left = server.trained_context - prompt
        if left < 1:
            raise too_long(
                f"This model's maximum context length is {server.trained_context} tokens. However, your {order.param} "
                f"resulted in {prompt} tokens. Please reduce the length of the {order.param}.",
                order,
            )
        return min(order.most or DEFAULT_TOKENS, left)

    def _open(self) -> Pool:
        try:
            from worker.llama.pool import Pool
        except ImportError:
            raise _not_here() from None
        if not self._settings.llama_server and find_spec("xllamacpp") is None:
            raise _not_here()
        return Pool(most=self._settings.models, patient=True, memory=self._settings.memory)

    @asynccontextmanager
    async def _server(self, served: Served, context: int) -> AsyncIterator[Server]:
        """The model's server. One thread starts it, whoever else asks for the model waits for that thread."""
        async with self._opening:
            if self._pool is None:
                self._pool = await in_thread(self._open)  # asks the driver for GPUs
        file, *loras = model = self._model(served)
        holding = self._pool.server(file, context, loras)
        async with self._entering[model]:
            try:
                server = await _entered(holding)
            except FtqError as error:
                raise _of_start(error) from error
        try:
            yield server
        finally:
            holding.__exit__(None, None, None)

    def _model(self, served: Served) -> _Model:
        """What the model's server holds: all adapters of its run, where llama.cpp is known to keep them apart."""
        if served.lora is None:
            return (served.gguf,)
        if self._settings.llama_server or served.lora not in served.loras:
            return served.gguf, served.lora
        return served.gguf, *served.loras

    def _link(self, served: Served, server: Server) -> _Link:
        model = self._model(served)
        if model not in self._links or self._links[model].server is not server:
            self._links[model] = _Link(server)
        return self._links[model]


class _Link:
    """Asks one server, in OpenAI's words."""

    def __init__(self, server: Server) -> None:
        self.server, self._room = server, Room(server.context)
        self._takes_tools: bool | None = None
        self._template_tokens: int | None = None  # of the shortest chat

    async def prompt_tokens(self, order: Order) -> int:
        """How many tokens the prompt has, or more than that if it is short: counting takes two requests."""
        if order.wants_tools:
            await self._check_tools()
            return await self._count(order)
        text = order.body.get("messages") or order.body["prompt"]
        bound = len(json.dumps(text, ensure_ascii=False).encode())  # no token is shorter than a byte
        if bound > SHORT_BYTES:
            return await self._count(order)
        if "messages" in order.body and self._template_tokens is None:
            self._template_tokens = await self._count(Order(order.path, {"messages": [SHORTEST]}))
        return bound + (self._template_tokens or 1)

    async def _count(self, order: Order) -> int:
        text = order.body.get("prompt")
        if "messages" in order.body:
            kept = {name: order.body[name] for name in ("messages", "tools", "tool_choice") if name in order.body}
            text = (await self._post("/apply-template", kept | _template(), order))["prompt"]
        if isinstance(text, list):
            return len(text)
        asked = {"content": text, "add_special": True, "parse_special": True}
        return len((await self._post("/tokenize", asked, order))["tokens"])

    async def events(self, order: Order, lora: Path | None, prompt: int, most: int) -> AsyncIterator[dict[str, Any]]:
        """The chunks of `order.n` answers, as many at once as the context and the slots have room for."""
        from worker.llama.server import SLOTS

        side_by_side = min(order.n, SLOTS, max(1, (self.server.context - prompt) // most))
        for first in range(0, order.n, side_by_side):
            n = min(side_by_side, order.n - first)
            async with (
                self._room.taken(min(prompt + n * most, self.server.context)),
                aclosing(cast(Any, self._events(order, _body(order, first, n, most) | self._laid(lora)))) as chunks,
            ):
                async for chunk in chunks:
                    for choice in chunk.get("choices") or ():
                        choice["index"] += first
                    yield chunk

    def _laid(self, lora: Path | None) -> dict[str, Any]:
        """Which of several adapters lies over the model. Each is named: one that isn't would lie over it too."""
        held = list(self.server.loras)
        if lora is None or len(held) < 2:
            return {}
        wanted = held.index(lora.resolve())
        return {"lora": [{"id": number, "scale": float(number == wanted)} for number in range(len(held))]}

    async def _events(self, order: Order, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        try:
            opening = posted(self.server.address, f"/v1{order.path}", body)
            async with aclosing(cast(Any, events(opening, order))) as chunks:
                async for chunk in chunks:
                    yield chunk
        except Broken as broken:
            raise await self._died(broken) from None

    async def _check_tools(self) -> None:
        if self._takes_tools is None:
            self._takes_tools = await in_thread(self.server.takes_tools)
        if not self._takes_tools:
            message = "This model's chat template has no tools."
            raise ApiError(400, message, param="tools", code="unsupported_value")

    async def _post(self, path: str, body: dict[str, Any], order: Order) -> dict[str, Any]:
        try:
            async with posted(self.server.address, path, body) as opened:
                text = await whole(opened)
        except Broken as broken:
            raise await self._died(broken) from None
        if opened.status != 200:
            raise refusal(opened.status, text, order)
        values: dict[str, Any] = json.loads(text)
        return values

    async def _died(self, error: Exception) -> ApiError:
        """The error of who waited for an answer; the next request starts the server again."""
        died = await in_thread(lambda: self.server.died("stopped while it answered for", error))
        return ApiError(500, died.text, kind="server_error", code="server_died")


def _template() -> dict[str, Any]:
    """What the template is told beside the messages, as in training."""
    from worker.llama.answer import DAY, WITHOUT_THINKING

    return {"chat_template_kwargs": {**WITHOUT_THINKING, "date_string": DAY}}


def _body(order: Order, first: int, n: int, most: int) -> dict[str, Any]:
    body = SAMPLING | order.body | {"n": n, "max_tokens": most, "stream": True}
    body |= {"stream_options": {"include_usage": True}}
    body |= _template() if "messages" in body else {}
    body |= {"top_k": 1} if body.get("temperature") == 0 else {}
    body |= {"seed": (body["seed"] + first) % (2**32 - 1)} if "seed" in body else {}
    return body


async def _entered(holding: AbstractContextManager[Server]) -> Server:
    """Enter in a thread. If the caller is cancelled meanwhile, what the thread gets is given back."""
    entering = in_thread(holding.__enter__)
    try:
        return await asyncio.shield(entering)
    except asyncio.CancelledError:
        entering.add_done_callback(
            lambda done: done.cancelled() or done.exception() or holding.__exit__(None, None, None)
        )
        raise


def _of_start(error: FtqError) -> ApiError:
    """Why there is no server for the model: only what may pass is tried again."""
    if isinstance(error, Lost):
        wait = {"Retry-After": str(RETRY_SECONDS)}
        return ApiError(503, error.text, kind="server_error", code="unavailable", headers=wait)
    if isinstance(error, UserError):
        return ApiError(404, error.text, param="model", code="model_not_found")
    code = "out_of_memory" if error.kind == "memory" else None
    return ApiError(500, error.text, kind="server_error", code=code, headers=FINAL)


def _not_here() -> ApiError:
    return ApiError(501, NOT_HERE, kind="server_error", code="not_available", headers=FINAL)
