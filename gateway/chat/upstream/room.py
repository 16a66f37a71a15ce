"""The tokens of a server's context, which all its answers share."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Room:
    """Hands out tokens in the order in which they were asked for, so that no answer outgrows the context."""

    def __init__(self, tokens: int) -> None:
        self._free = tokens
        self._waiting = deque[tuple[int, asyncio.Future[None]]]()

    @asynccontextmanager
    async def taken(self, tokens: int) -> AsyncIterator[None]:
        """Hold so many tokens while the block runs."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((tokens, turn))
        self._serve()
        try:
            await turn
            yield
        finally:
            if not turn.cancel() and not turn.cancelled():  # it had its turn
                self._free += tokens
            self._serve()

    def _serve(self) -> None:
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= self._free):
            tokens, turn = self._waiting.popleft()
            if not turn.done():  # whoever left the queue has cancelled it
                self._free -= tokens
                turn.set_result(None)
