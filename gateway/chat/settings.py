"""How this process answers, from the environment."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ftq.errors import UserError
from ftq.settings import llama_server

MODELS = 4


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
            key=_key(environ.get("FTQ_CHAT_KEY_FILE") or ""),
            names=_names(environ.get("FTQ_CHAT_NAMES") or ""),
            models=int(_number(environ, "FTQ_CHAT_MODELS", MODELS, least=1)),
            memory=int(_number(environ, "FTQ_CHAT_MEMORY_GB", 0, least=0) * 2**30),
            llama_server=llama_server(environ),
        )


def _url(text: str) -> str:
    if text and not text.startswith(("http://", "https://")):
        raise UserError(f"FTQ_CHAT_URL={text}: not a URL", "For example: FTQ_CHAT_URL=http://127.0.0.1:8000/v1")
    return text


def _key(path: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise UserError(f"FTQ_CHAT_KEY_FILE={path}: {error}", "Name a file that holds nothing but the key.") from None


def _names(text: str) -> dict[str, str]:
    pairs = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    if wrong := next((name for name, equals, value in pairs if not (name and equals and value)), None):
        raise UserError(
            f"FTQ_CHAT_NAMES: {wrong} has no name behind =", "For example: FTQ_CHAT_NAMES=handbook:3=my-lora"
        )
    return {name.strip(): value.strip() for name, _, value in pairs}


def _number(environ: Mapping[str, str], name: str, default: float, least: float) -> float:
    text = environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value < math.inf:
        raise UserError(f"{name}={text}: not a number from {least:g}", f"For example: {name}={default or 8}")
    return value
