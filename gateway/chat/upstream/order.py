"""What is asked of a server, and the pieces in which its answer comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.models import Served


@dataclass(frozen=True)
class Order:
    """One prompt. `body` is OpenAI's, without the model, `n`, the limit and what streaming needs.

    `most` is the limit of one answer's tokens; None leaves it to the server. `param` is where the prompt came from.
    """

    path: str
    body: dict[str, Any]
    n: int = 1
    most: int | None = None
    param: str = "messages"

    @property
    def wants_tools(self) -> bool:
        return bool(self.body.get("tools"))


@dataclass(frozen=True)
class Piece:
    """What was added to an answer. `logprobs` and `tool_calls` are OpenAI's; `finish` comes with the last piece."""

    index: int
    text: str = ""
    finish: str | None = None
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    tool_calls: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Usage:
    """Tokens. A prompt with several answers counts once."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


class Backend(Protocol):
    def events(self, served: Served, order: Order) -> AsyncIterator[dict[str, Any]]:
        """The chunks of an order's answers, as they are written. ApiError, FtqError."""
        ...

    async def close(self) -> None: ...
