"""The answers to a request's prompts, one after the other, as pieces and at last the usage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from gateway.chat.upstream.order import Backend, Order, Piece, Usage
from gateway.models import Served


async def answers(backend: Backend, served: Served, orders: list[Order]) -> AsyncIterator[Piece | Usage]:
    """Pieces of all answers; the answers to the second prompt are numbered after those to the first."""
    total, first = Usage(), 0
    for order in orders:
        used = dict[int, Usage]()
        async with aclosing(cast(Any, backend.events(served, order))) as chunks:
            async for chunk in chunks:
                for choice in chunk.get("choices") or ():
                    yield _piece(choice, first)
                if usage := chunk.get("usage"):
                    used[len(used)] = _usage(usage)
        total.prompt += max((one.prompt for one in used.values()), default=0)
        total.cached += min((one.cached for one in used.values()), default=0)
        total.completion += sum(one.completion for one in used.values())
        first += order.n
    yield total


async def without_space(pieces: AsyncIterator[Piece | Usage]) -> AsyncIterator[Piece | Usage]:
    """The pieces, each answer without the white space that it begins with: models are tuned on ' answer'."""
    begun = set[int]()
    async with aclosing(cast(Any, pieces)):
        async for piece in pieces:
            if isinstance(piece, Piece) and piece.index not in begun:
                text = piece.text.lstrip()
                if text or piece.tool_calls:
                    begun.add(piece.index)
                piece = Piece(piece.index, text, piece.finish, piece.logprobs, piece.tool_calls)
            yield piece


def _piece(choice: dict[str, Any], first: int) -> Piece:
    delta = choice.get("delta") or {}
    return Piece(
        first + choice.get("index", 0),
        delta.get("content") or choice.get("text") or "",
        choice.get("finish_reason"),
        _logprobs(choice.get("logprobs") or {}),
        delta.get("tool_calls") or [],
    )


def _logprobs(values: dict[str, Any]) -> list[dict[str, Any]]:
    """In chat's shape, which llama.cpp has for completions too; others have lists side by side for these."""
    if "tokens" not in values:
        return values.get("content") or []
    tops = values.get("top_logprobs") or [{}] * len(values["tokens"])
    return [
        {
            "token": token,
            "logprob": logprob,
            "top_logprobs": [{"token": name, "logprob": value} for name, value in (top or {}).items()],
        }
        for token, logprob, top in zip(values["tokens"], values["token_logprobs"], tops, strict=True)
    ]


def _usage(values: dict[str, Any]) -> Usage:
    details = values.get("prompt_tokens_details") or {}
    return Usage(
        values.get("prompt_tokens") or 0, values.get("completion_tokens") or 0, details.get("cached_tokens") or 0
    )
