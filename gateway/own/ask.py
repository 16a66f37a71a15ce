"""Questions and evaluations: lines of JSON as they come. A client that hangs up ends them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from ftq.client.client import Client
from ftq.errors import FtqError, UserError
from ftq.store.gateway.keys import Key
from gateway.chat.reply import unless_gone
from gateway.chat.upstream.threads import in_thread
from gateway.errors import IN_ANSWER, for_caller, worded
from gateway.own.entry import Call

MEDIA_TYPE = "application/x-ndjson"
QUIET_SECONDS = 10.0  # after which an empty line tells proxies that somebody is there
Put = Callable[[dict[str, Any]], None]
Work = Callable[[Put], None]


class HungUp(FtqError):
    def __init__(self) -> None:
        super().__init__("nobody waits for the answer any more")


async def ask(call: Call) -> Lines:
    """{"piece": text} as it is written and at last {"answer": {...}}; for several prompts an answer for each."""
    body, gone = call.body, threading.Event()
    client = call.client.waiting(gone.is_set)
    if (body.prompt is None) == (body.prompts is None):
        raise UserError("give `prompt` or `prompts`", "One of them, not both.")
    work = await run_in_threadpool(_stream if body.prompts is None else _many, call, client)
    return Lines(work, gone)


def _stream(call: Call, client: Client) -> Work:
    body = call.body
    pieces = client.stream(call.named(body.run).id, body.prompt, body.timeout, **_options(body.options))

    def work(put: Put) -> None:
        with closing(pieces):
            while True:
                try:
                    put({"piece": next(pieces)})
                except StopIteration as end:
                    put({"answer": end.value})
                    return

    return work


def _many(call: Call, client: Client) -> Work:
    body = call.body
    answers = client.ask_many(call.named(body.run).id, body.prompts, body.timeout, **_options(body.options))

    def work(put: Put) -> None:
        for answer in answers:
            put({"answer": answer})

    return work


def _options(options: dict[str, Any]) -> dict[str, Any]:
    """They become arguments: a name of another argument is no option."""
    for name in ("self", "wanted", "prompt", "prompts", "timeout"):
        if name in options:
            raise UserError(f"unknown option {name} of a question.")
    return options


async def evaluate(call: Call) -> Lines:
    """{"progress": [who answers, how many, of how many]} and at last {"evaluation": {...}}."""
    gone = threading.Event()
    return Lines(await run_in_threadpool(_evaluate, call, call.client.waiting(gone.is_set)), gone)


def _evaluate(call: Call, client: Client) -> Work:
    body = call.body
    run_id, other = call.named(body.run).id, call.named(body.against).id if body.against else None

    def work(put: Put) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "questions.json") if body.questions is not None else None
            if file:
                file.write_text(json.dumps(body.questions), encoding="utf-8")
            evaluation = client.evaluate(run_id, file, other, lambda *told: put({"progress": told}))
            put({"evaluation": evaluation.to_json()})

    return work


class Lines:
    """A response of lines of JSON. `work` runs in a thread of its own; `gone` is set when nobody reads any more."""

    def __init__(self, work: Work, gone: threading.Event) -> None:
        self._work, self._gone = work, gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await unless_gone(receive, self._send(send, scope["ftq.key"]))
        finally:
            self._gone.set()

    async def _send(self, send: Send, key: Key) -> None:
        headers = [(b"content-type", MEDIA_TYPE.encode()), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with aclosing(self._lines(key)) as lines:
            async for line in lines:
                await send({"type": "http.response.body", "body": line, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _lines(self, key: Key) -> AsyncGenerator[bytes, None]:
        loop, lines = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any]]()

        def put(line: dict[str, Any]) -> None:
            if self._gone.is_set():
                raise HungUp
            with contextlib.suppress(RuntimeError):  # the loop is gone, and whoever waited with it
                loop.call_soon_threadsafe(lines.put_nowait, line)

        done = in_thread(lambda: self._work(put))
        done.add_done_callback(lambda _: lines.put_nowait({}))
        while True:
            try:
                line = await asyncio.wait_for(lines.get(), QUIET_SECONDS)
            except TimeoutError:
                yield b"\n"
                continue
            if not line:
                break
            yield _line(line)
        if error := done.exception():
            yield _line(for_caller(worded(error, IN_ANSWER), key).own_body)


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values).encode() + b"\n"
