"""Blocking calls beside the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Value = TypeVar("Value")


def in_thread(function: Callable[[], Value]) -> asyncio.Future[Value]:
    """What `function` returns or raises, from a thread of its own. The thread may take minutes: nobody's end waits for
    it, neither the process's nor other calls'."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Value] = loop.create_future()

    def work() -> None:
        try:
            value = function()
        except BaseException as error:
            tell(future.set_exception, error)
        else:
            tell(future.set_result, value)

    def tell(end: Callable[[Any], None], value: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone, and whoever waited with it
            loop.call_soon_threadsafe(lambda: None if future.done() else end(value))

    threading.Thread(target=work, daemon=True).start()
    return future
