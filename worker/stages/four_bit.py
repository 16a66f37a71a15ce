"""A base model's 4-bit weights, quantised once: what a later training reads is a third of the 16-bit files.

They are the bits that bitsandbytes would make again at each load, so a training is the same with them and without. On a
GPU: on a CPU, where ftq never trains in 4 bit, its forward pass rewrites them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ftq.artifacts import remove, write_json
from worker.stages import base_model

ROOM = 4  # times their size has to be free on the disk before the weights are kept
SHARD = "1GB"  # of a file; so much of the weights is in the host's memory at once


def weights(model_dir: Path) -> Path:
    """The folder whose weights a 4-bit training of this base model reads."""
    return next(iter(_kept(model_dir)), model_dir)


def load(read: Callable[[Path], Any], model_dir: Path, dtype: str) -> Any:
    """read(folder) of the kept weights, where there are any that can be read, else of the base model."""
    import torch

    for kept in _kept(model_dir, dtype):
        try:
            return read(kept)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever is wrong with a cache, it costs no run
            print(f"{kept} can't be loaded, it is made again: {type(error).__name__}: {error}", file=sys.stderr)
            remove(kept)
    return read(model_dir)


def keep(model: Any, model_dir: Path, dtype: str) -> None:
    """Keep the 4-bit weights of a model that has an adapter on it, unless they are kept or the disk is nearly full."""
    if _kept(model_dir, dtype):
        return
    config = base_model.read_config(model_dir)
    base = model.get_base_model()
    more_tokens = base.get_input_embeddings().weight.shape[0] != config.get("vocab_size")
    if more_tokens or "quantization_config" in config:  # the weights aren't the base model's, or it has 4 bits itself
        return
    state = {name.replace(".base_layer.", "."): tensor for name, tensor in base.state_dict().items()
             if ".lora_" not in name}  # fmt: skip
    _folder().mkdir(parents=True, exist_ok=True)
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if shutil.disk_usage(_folder()).free < ROOM * size:
        return
    older = list(_folder().glob(f"{_place(model_dir)}-*-{dtype}"))  # of a model that has changed since
    with base_model.into_cache(_folder() / f"{_key(model_dir)}-{dtype}") as partial:
        config["quantization_config"] = _quantization(base.config)
        _write(partial, state, config, model_dir)
    for folder in older:
        remove(folder)


def _quantization(config: Any) -> dict[str, Any]:
    """How the weights were quantised, as JSON can say it."""
    from transformers import BitsAndBytesConfig

    said = config.quantization_config
    if isinstance(said, dict):  # as Unsloth leaves it on a GPU, with a dtype of PyTorch's in it
        said = BitsAndBytesConfig.from_dict(said)
    asked: dict[str, Any] = said.to_dict()
    return asked


def _write(folder: Path, state: dict[str, Any], config: dict[str, Any], model_dir: Path) -> None:
    from huggingface_hub import save_torch_state_dict

    for file in base_model.side_files(model_dir):
        if not file.name.endswith(".index.json"):
            shutil.copyfile(file, folder / file.name)
    write_json(folder / "config.json", config)
    save_torch_state_dict(state, folder, max_shard_size=SHARD, metadata={"format": "pt"})


def _kept(model_dir: Path, dtype: str = "*") -> list[Path]:
    return sorted(_folder().glob(f"{_key(model_dir)}-{dtype}"))


def _folder() -> Path:
    return base_model.cache_dir() / "four_bit"


def _key(model_dir: Path) -> str:
    """Where the base model lies, and a hash of all that its 4-bit weights depend on."""
    files = [(path.name, path.stat()) for path in base_model.weight_paths(model_dir)]
    parts = [[(name, stat.st_size, stat.st_mtime_ns) for name, stat in files], base_model.read_config(model_dir),
             version("bitsandbytes") if find_spec("bitsandbytes") else ""]  # fmt: skip
    return f"{_place(model_dir)}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}"


def _place(model_dir: Path) -> str:
    return hashlib.sha256(str(model_dir).encode()).hexdigest()[:16]
