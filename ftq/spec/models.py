"""The base models people fine-tune most: alias -> hub id, context length, stop token, shape.

Everything about sizes follows from the shape (shape.py), which is that of the model's config.json.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftq.errors import NotFound, UserError, did_you_mean
from ftq.spec import checkpoint, weights
from ftq.spec.shape import Shape, reading_part

# layers that hold several ones of other models -> the names of those
FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


@dataclass(frozen=True)
class BaseModel:
    """`stop` is the token that ends an answer: where a chat model ends its turn, not the tokenizer's EOS."""

    alias: str
    hub_id: str
    context: int
    stop: str
    licence: str
    shape: Shape

    @property
    def parameters_b(self) -> float:
        """Billions of weights, to three digits."""
        norms = (2 * self.shape.layers + 1) * self.shape.hidden
        return float(f"{(self.shape.parameters + norms) / 1e9:.3g}")

    @property
    def download_gb(self) -> float:
        """GB (10^9 bytes) of the 16-bit checkpoint."""
        return round(self.shape.parameters * 2 / 1e9, 1)


# Shape: layers, hidden, intermediate, heads x their width, key-value heads x theirs, vocabulary, tied embeddings, and
# for Phi-3's family that its projections are fused.
MODELS = [
    BaseModel("smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct", 8192, "<|im_end|>", "Apache-2.0",
              Shape(30, 576, 1536, 9 * 64, 3 * 64, 49152, True)),
    BaseModel("smollm2-1.7b", "HuggingFaceTB/SmolLM2-1.7B-Instruct", 8192, "<|im_end|>", "Apache-2.0",
              Shape(24, 2048, 8192, 32 * 64, 32 * 64, 49152, True)),
    BaseModel("phi-3.5-mini", "microsoft/Phi-3.5-mini-instruct", 131072, "<|end|>", "MIT",
              Shape(32, 3072, 8192, 32 * 96, 32 * 96, 32064, False, True)),
    BaseModel("phi-3-medium", "microsoft/Phi-3-medium-4k-instruct", 4096, "<|end|>", "MIT",
              Shape(40, 5120, 17920, 40 * 128, 10 * 128, 32064, False, True)),
    BaseModel("phi-4-mini", "microsoft/Phi-4-mini-instruct", 131072, "<|end|>", "MIT",
              Shape(32, 3072, 8192, 24 * 128, 8 * 128, 200064, True, True)),
    BaseModel("qwen3-0.6b", "Qwen/Qwen3-0.6B", 40960, "<|im_end|>", "Apache-2.0",
              Shape(28, 1024, 3072, 16 * 128, 8 * 128, 151936, True)),
    BaseModel("qwen3-4b", "Qwen/Qwen3-4B", 40960, "<|im_end|>", "Apache-2.0",
              Shape(36, 2560, 9728, 32 * 128, 8 * 128, 151936, True)),
    BaseModel("qwen3-8b", "Qwen/Qwen3-8B", 40960, "<|im_end|>", "Apache-2.0",
              Shape(36, 4096, 12288, 32 * 128, 8 * 128, 151936, False)),
    BaseModel("llama-3.2-3b", "meta-llama/Llama-3.2-3B-Instruct", 131072, "<|eot_id|>", "Llama 3.2",
              Shape(28, 3072, 8192, 24 * 128, 8 * 128, 128256, True)),
    BaseModel("llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct", 131072, "<|eot_id|>", "Llama 3.1",
              Shape(32, 4096, 14336, 32 * 128, 8 * 128, 128256, False)),
    BaseModel("mistral-7b", "mistralai/Mistral-7B-Instruct-v0.3", 32768, "</s>", "Apache-2.0",
              Shape(32, 4096, 14336, 32 * 128, 8 * 128, 32768, False)),
    BaseModel("gemma-2-2b", "google/gemma-2-2b-it", 8192, "<end_of_turn>", "Gemma",
              Shape(26, 2304, 9216, 8 * 256, 4 * 256, 256000, True)),
]  # fmt: skip
PACKAGED = "smollm2-135m"  # comes as a Python package, with the worker: no hub is needed
ALIASES = {model.alias: model for model in MODELS}
_BY_HUB_ID = {model.hub_id.lower(): model for model in MODELS}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def find(model: str) -> BaseModel | None:
    """The catalogue's entry for an alias or a hub id, or None."""
    return ALIASES.get(model.lower()) or _BY_HUB_ID.get(model.lower())


def shape_of(model: str) -> Shape | None:
    """A catalogue model's shape, or that in a local checkpoint's config.json; None where only a worker can know it."""
    if known := find(model):
        return known.shape
    config = _config(model)
    return Shape.from_config(config) if config else None


def layers_of(model: str) -> set[str]:
    """The layers that may get an adapter, by the names that target_modules takes; empty where only a worker knows."""
    if known := find(model):
        own = set(known.shape.modules)
        return own | set(FUSED) if known.shape.fused else own
    tensors = _tensors(Path(model).expanduser())
    own = {name.split(".")[-2] for name in tensors if name.endswith(".weight") and name.count(".") > 1}
    fused = [part for whole, parts in FUSED.items() if whole in own for part in parts]
    return {name for name in own if not any(word in name for word in ("norm", "embed", "lm_head"))} | set(fused)


def context_of(model: str) -> int | None:
    """The most tokens that the model reads, or None as for its shape; prepare cuts max_seq_length down to it."""
    if known := find(model):
        return known.context
    return context_in(_config(model) or {})


def context_in(config: dict[str, Any]) -> int | None:
    """The most tokens that a model reads, by its checkpoint's config.json."""
    context = reading_part(config).get("max_position_embeddings")
    return context if isinstance(context, int) and context > 0 else None


def _tensors(folder: Path) -> list[str]:
    """The names of a local checkpoint's tensors; none where they can't be read."""
    try:
        return list(weights.weight_index(folder) or weights.read_header(folder / weights.WEIGHTS)[0])
    except (UserError, OSError):
        return []


def _config(model: str) -> dict[str, Any] | None:
    return checkpoint.read_config(Path(model).expanduser())


def check(model: str) -> str:
    """The model as a run records it: an alias, a hub id, or the absolute path of a local checkpoint.

    A path has to hold config.json, a tokenizer and safetensors weights: a pickle can run code when it is loaded.
    """
    if find(model):
        return model.lower() if model.lower() in ALIASES else model
    path = Path(os.path.expanduser(model))
    try:
        if path.is_dir():
            checkpoint.check(path, str(path))
            return str(path.resolve())
    except OSError as error:
        raise UserError(f"model {model}: can't be read ({error.strerror})", "Name one that you may read.") from None
    if model.startswith((".", "/", "~")):
        raise NotFound(f"model {model}: no such directory", "Give a folder with config.json and *.safetensors.")
    if is_hub_id(model):
        return model
    raise NotFound(
        f"unknown model {model}.{did_you_mean(model, list(ALIASES))}",
        "`ftq models` lists the known ones; a hub id (owner/name) or a local checkpoint directory works too.",
    )


def name_of(model: str) -> str:
    """The base model's own name: llama.cpp reads Phi-3's control tokens as its makers do by that name alone."""
    known = find(model)
    return (known.hub_id if known else model).rstrip("/").rpartition("/")[2]


def is_hub_id(model: str) -> bool:
    return bool(_HUB_ID.fullmatch(model)) and ".." not in model
