"""The way to llama.cpp on whatever event loop the server is run by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from gateway.chat.upstream.unix import posted

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_answer_comes_over_any_loop(tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    path, asked, gone = str(tmp_path / "llama.sock"), bytearray(), asyncio.Event()

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.extend(await reader.readuntil(b"\r\n\r\n"))
        writer.write(ANSWER)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        gone.set()

    async def ask() -> bytes:
        async with await asyncio.start_unix_server(answers, path):
            async with posted((path, "secret"), "/completion", {"prompt": "x"}) as answer:
                text = b"".join([piece async for piece in answer.pieces])
            await gone.wait()
        return text

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(ask()) == b"hello"
    assert asked.startswith(b"POST /completion HTTP/1.1\r\n") and b"Bearer secret" in asked
