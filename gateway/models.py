"""Models by name: what a name that a client sends stands for, and the GGUF that answers for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ftq.store.gateway.keys import Key
from gateway.errors import ApiError

if TYPE_CHECKING:
    from gateway.app import Gateway


@dataclass(frozen=True)
class Served:
    """A model that can answer. `name` is what the client asked for; `lora` is laid over `gguf` where there is one."""

    name: str
    gguf: Path
    lora: Path | None
    created: int
    owned_by: str


def resolve(gateway: Gateway, key: Key, name: str) -> Served:
    """The model of a name: `ft:BASE:ORG:SUFFIX:ID`, one of its checkpoints, handbook:3, a run, a base model.

    ApiError 404 `model_not_found` if there is none, or the key may not see it.
    """
    raise not_found(name)


def not_found(name: str) -> ApiError:
    message = f"The model `{name}` does not exist or you do not have access to it."
    return ApiError(404, message, param="model", code="model_not_found")
