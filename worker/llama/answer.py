"""A question to a GGUF, and its answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

# What a chat template is told beside the messages, in training as in asking.
WITHOUT_THINKING = {"enable_thinking": False}  # a model that can think aloud answers at once
DAY = "26 Jul 2024"  # for templates that write the date: the one that Llama's own falls back to


@dataclass(frozen=True)
class Question:
    """What to ask, and how the answer is drawn.

    `chat` asks through the GGUF's chat template: for a base model, and for a run of format=chat. Otherwise the prompt
    is ftq's own. `temperature` 0 is greedy; `seed` None draws anew each time. `grammar` (GBNF) limits what may be
    written.
    """

    text: str
    input: str = ""
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int | None = None
    chat: bool = False
    grammar: str = ""


@dataclass(frozen=True)
class Answer:
    """`stopped`: the model ended the answer, not max_tokens. `tokens` counts the answer's tokens. Times in seconds."""

    prompt: str
    answer: str
    stopped: bool
    tokens: int
    seconds: float
    first_token_seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
