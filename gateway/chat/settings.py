"""How this process answers, from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ftq.errors import UserError
from ftq.servers import read_secret
from ftq.settings import llama_server, names_of, number_of

MODELS = 4
KEY_FILE = "FTQ_CHAT_KEY_FILE"


@dataclass(frozen=True)
class ChatSettings:
    """`url`: who answers instead of llama.cpp. `names`: what that server calls a model, which every key may ask.

    `models` and `memory` (bytes, 0 is no limit) bound the llama.cpp servers that are loaded at the same time.
    """

    url: str = ""
    key: str = field(default="", repr=False)
    names: Mapping[str, str] = field(default_factory=dict)
    models: int = MODELS
    memory: int = 0
    llama_server: Path | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> ChatSettings:
        """UserError that names the variable and what to write."""
        return cls(
            url=_url(environ.get("FTQ_CHAT_URL") or ""),
            key=read_secret(environ, KEY_FILE).strip() if environ.get(KEY_FILE) else "",
            names=names_of(environ, "FTQ_CHAT_NAMES", "handbook:3=my-lora"),
            models=int(number_of(environ, "FTQ_CHAT_MODELS", MODELS, least=1)),
            memory=int(number_of(environ, "FTQ_CHAT_MEMORY_GB", 0, least=0) * 2**30),
            llama_server=llama_server(environ),
        )


def _url(text: str) -> str:
    if text and not text.startswith(("http://", "https://")):
        raise UserError(f"FTQ_CHAT_URL={text}: not a URL", "For example: FTQ_CHAT_URL=http://127.0.0.1:8000/v1")
    return text
