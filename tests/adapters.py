"""LoRA adapters for the tiny model, written by hand: no training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tests.tiny import HEADS, HIDDEN, KV_HEADS, LAYERS, MIDDLE

SMALL = HIDDEN // HEADS * KV_HEADS
LAYERS_OF = {
    "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (SMALL, HIDDEN), "self_attn.v_proj": (SMALL, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN), "mlp.gate_proj": (MIDDLE, HIDDEN), "mlp.up_proj": (MIDDLE, HIDDEN),
    "mlp.down_proj": (HIDDEN, MIDDLE),
}  # fmt: skip
RANK = 4


def write_adapter(path: Path, scale: float = 0.3, config: dict[str, Any] | None = None, **changes: Any) -> Path:
    """An adapter on every layer, always the same. `changes` are other weights: {name with _ for .: array or None}."""
    path.mkdir(parents=True)
    random = np.random.default_rng(1)
    weights = dict[str, Any]()
    for number in range(LAYERS):
        for name, (out, into) in LAYERS_OF.items():
            layer = f"base_model.model.model.layers.{number}.{name}"
            weights[f"{layer}.lora_A.weight"] = random.standard_normal((RANK, into)).astype("f4") / into**0.5
            weights[f"{layer}.lora_B.weight"] = random.standard_normal((out, RANK)).astype("f4") * scale
    weights |= changes
    save_file({name: value for name, value in weights.items() if value is not None}, path / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, **(config or {})}
    (path / "adapter_config.json").write_text(json.dumps(settings))
    return path
