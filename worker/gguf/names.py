"""Names of weights: in checkpoints, in adapters, in GGUF files."""

from __future__ import annotations

from typing import Any


def plain(name: str) -> str:
    """A weight's name without what wraps it.

    A model for pictures and text is stored as `language_model.model.layers` and loaded as
    `model.language_model.layers`.
    """
    return ".".join(part for part in name.split(".") if part not in ("model", "language_model"))


class GgufNames:
    """The names that llama.cpp gives to an architecture's layers."""

    def __init__(self, architecture: str, blocks: int) -> None:
        import gguf

        kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
        self._map: Any = gguf.get_tensor_name_map(kind, blocks)

    def of(self, layer: str) -> str | None:
        """`blk.0.attn_q.weight` for `model.layers.0.self_attn.q_proj`; None for a layer that has no such name."""
        for name in (layer, f"model.{plain(layer)}"):
            if mapped := self._map.get_name(name):
                return f"{mapped}.weight"
        return None
