"""How many messages wait in each queue, where a key holds something of another type: without that key.

Flower reads all lengths at once, and shows none where one can't be read.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing
from typing import Any

from flower.utils.broker import RedisBase

from ftq.queue import is_foreign


def install() -> None:
    RedisBase.queues = _queues


async def _queues(broker: Any, names: Iterable[str]) -> list[dict[str, Any]]:
    """[{"name": a queue, "messages": how many it has, in all priorities}], as Flower's own has it."""
    async with aclosing(broker.redis) as client:
        return [{"name": name, "messages": await _messages(broker, client, name)} for name in names]


async def _messages(broker: Any, client: Any, name: str) -> int:
    pipeline = client.pipeline(transaction=False)
    for step in broker.priority_steps:
        pipeline.llen(broker.broker_prefix + broker._q_for_pri(name, step))
    lengths = await pipeline.execute(raise_on_error=False)
    for error in lengths:
        if isinstance(error, Exception) and not is_foreign(error):
            raise error
    return sum(length for length in lengths if isinstance(length, int))
