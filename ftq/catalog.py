"""The base models people fine-tune most: alias -> hub id, context length, stop token, size.

Sizes are in GB (10^9 bytes): `download_gb` is the 16-bit checkpoint, `memory_4bit_gb` the least GPU memory that
trains in 4 bit with batch 1 (Unsloth's published estimate, rounded up).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from ftq.errors import NotFound, UserError, did_you_mean


@dataclass(frozen=True)
class BaseModel:
    """`stop` is the token that ends an answer: where a chat model ends its turn, not the tokenizer's EOS."""

    alias: str
    hub_id: str
    parameters_b: float
    context: int
    stop: str
    licence: str
    memory_4bit_gb: float

    @property
    def download_gb(self) -> float:
        return round(self.parameters_b * 2, 1)


MODELS = [
    BaseModel("smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct", 0.135, 8192, "<|im_end|>", "Apache-2.0", 1),
    BaseModel("smollm2-1.7b", "HuggingFaceTB/SmolLM2-1.7B-Instruct", 1.7, 8192, "<|im_end|>", "Apache-2.0", 3),
    BaseModel("phi-3.5-mini", "microsoft/Phi-3.5-mini-instruct", 3.8, 131072, "<|end|>", "MIT", 5),
    BaseModel("phi-3-medium", "microsoft/Phi-3-medium-4k-instruct", 14.0, 4096, "<|end|>", "MIT", 12),
    BaseModel("phi-4-mini", "microsoft/Phi-4-mini-instruct", 3.8, 131072, "<|end|>", "MIT", 5),
    BaseModel("qwen3-0.6b", "Qwen/Qwen3-0.6B", 0.6, 40960, "<|im_end|>", "Apache-2.0", 2),
    BaseModel("qwen3-4b", "Qwen/Qwen3-4B", 4.0, 40960, "<|im_end|>", "Apache-2.0", 6),
    BaseModel("qwen3-8b", "Qwen/Qwen3-8B", 8.2, 40960, "<|im_end|>", "Apache-2.0", 9),
    BaseModel("llama-3.2-3b", "meta-llama/Llama-3.2-3B-Instruct", 3.2, 131072, "<|eot_id|>", "Llama 3.2", 5),
    BaseModel("llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct", 8.0, 131072, "<|eot_id|>", "Llama 3.1", 9),
    BaseModel("mistral-7b", "mistralai/Mistral-7B-Instruct-v0.3", 7.2, 32768, "</s>", "Apache-2.0", 8),
    BaseModel("gemma-2-2b", "google/gemma-2-2b-it", 2.6, 8192, "<end_of_turn>", "Gemma", 5),
]
ALIASES = {model.alias: model for model in MODELS}
_BY_HUB_ID = {model.hub_id.lower(): model for model in MODELS}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def find(model: str) -> BaseModel | None:
    """The catalogue's entry for an alias or a hub id, or None."""
    return ALIASES.get(model.lower()) or _BY_HUB_ID.get(model.lower())


def check(model: str) -> str:
    """The model as a run records it: an alias, a hub id, or the absolute path of a local checkpoint.

    A path has to hold config.json and safetensors weights: a pickle can run code when it is loaded.
    """
    if find(model):
        return model.lower() if model.lower() in ALIASES else model
    path = Path(model).expanduser()
    if path.is_dir():
        return _check_directory(path)
    if model.startswith((".", "/", "~")):
        raise NotFound(f"model {model}: no such directory", "Give a folder with config.json and *.safetensors.")
    if is_hub_id(model):
        return model
    raise NotFound(
        f"unknown model {model}.{did_you_mean(model, list(ALIASES))}",
        "`ftq models` lists the known ones; a hub id (owner/name) or a local checkpoint directory works too.",
    )


def is_hub_id(model: str) -> bool:
    return bool(_HUB_ID.fullmatch(model)) and ".." not in model


def weight_files(path: Path) -> list[str]:
    """The names of a checkpoint's safetensors files, as its index has them; empty where it has none of either.

    UserError for an index that names anything but safetensors files beside it.
    """
    index = path / "model.safetensors.index.json"
    if not index.is_file():
        return [name for name in ("model.safetensors",) if (path / name).is_file()]
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        wrong = next((name for name in names if Path(name).name != name or not name.endswith(".safetensors")), None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index}: not an index of weights ({error})", "Get the model again.") from None
    if wrong is not None:
        raise UserError(f"{index}: {wrong} is not a safetensors file beside it", "Get the model again.")
    return names


def _check_directory(path: Path) -> str:
    if not (path / "config.json").is_file():
        raise UserError(f"model {path}: no config.json in it", "Give a checkpoint saved by save_pretrained.")
    names = weight_files(path)
    if not names:
        raise UserError(f"model {path}: no *.safetensors weights in it",
                        "ftq opens no pickle (*.bin, *.pt): save the model with safe_serialization=True.")  # fmt: skip
    if missing := [name for name in names if not (path / name).is_file()]:
        raise UserError(f"model {path}: {missing[0]} is missing", "Get the model again.")
    return str(path.resolve())
