"""What answers of all three kinds are made of."""

from __future__ import annotations

import json
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

from ftq.version import VERSION
from gateway.chat.upstream.order import Piece, Usage
from gateway.errors import ApiError

FINGERPRINT = f"fp_ftq_{VERSION}"
ENDS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}  # at which some clients' libraries end a line


@dataclass(frozen=True)
class Head:
    """What stands in each chunk of an answer. The model is named as it was asked for."""

    prefix: str
    model: str
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def values(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"{self.prefix}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
        }


async def drained(pieces: AsyncIterator[Piece | Usage]) -> tuple[dict[int, list[Piece]], Usage]:
    """(the pieces of each answer, the usage)."""
    answers, usage = defaultdict[int, list[Piece]](list), Usage()
    async with aclosing(cast(Any, pieces)):
        async for piece in pieces:
            if isinstance(piece, Usage):
                usage = piece
            else:
                answers[piece.index].append(piece)
    return answers, usage


def event(values: dict[str, Any], name: str = "") -> bytes:
    """A server-sent event."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":")).translate(ENDS)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode(errors="replace")


def done() -> bytes:
    return b"data: [DONE]\n\n"


def failed(error: ApiError) -> bytes:
    """An error in the middle of a stream, which clients raise."""
    return event(error.body)
