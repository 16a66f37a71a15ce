"""A question to a GGUF, and its answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Question:
    """What to ask, and how the answer is drawn.

    `chat` asks through the chat template that the GGUF carries, as a base model's makers meant it; otherwise the
    prompt is ftq's trained one. `temperature` 0 is greedy; `seed` None draws anew each time.
    """

    text: str
    input: str = ""
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int | None = None
    chat: bool = False


@dataclass(frozen=True)
class Answer:
    """`stopped`: the model ended by itself, not by max_tokens. `tokens` counts the answer's. Times are in seconds."""

    prompt: str
    answer: str
    stopped: bool
    tokens: int
    seconds: float
    first_token_seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
