"""What can be seen of a base model's folder at once: whether its files are whole, belong together, and can be trained.

Only headers and settings are read, which takes some milliseconds; the loader and the converter are tried by prepare.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ftq.errors import UserError
from ftq.spec.shape import Shape
from ftq.spec.weights import DAMAGED, Weight, read, weight_files

DECODERS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "Model")  # how architectures' names end
ENCODERS = ("bert", "electra", "mpnet")  # in the names of those that don't write
TOKENIZERS = ("tokenizer.json", "*.model", "*.tiktoken", "vocab*", "tekken.json")
EMBEDDING, LAYER = "model.embed_tokens.weight", re.compile(r"model\.layers\.(\d+)\.")
MORE_LAYERS = ("nextn", "mtp")  # in a config: layers beyond its count, which loaders leave out
PARSED = 2**22  # bytes of a tokenizer.json that are parsed at once: of a larger one both ends are looked at
OTHERS = "Take all of the model's files from one place: these are of two models, or its config.json was changed."


def check(folder: Path, model: str) -> None:
    """UserError naming the first thing for which prepare would refuse the model that lies in this folder."""
    config = _config(folder, model)
    _check_architecture(config, model)
    if config.get("quantization_config"):
        raise UserError(
            f"model {model} is quantised itself (quantization_config in its config.json): an adapter can't be merged",
            "Take the 16-bit model that it was made of, with load_in_4bit=true where memory is short.",
        )
    _check_files(folder, model)
    _check_tokenizer(folder, model)
    _check_sizes(config, read(folder), model)


def read_config(folder: Path) -> dict[str, Any] | None:
    """The folder's config.json; None where there is none that is an object."""
    try:
        value = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _config(folder: Path, model: str) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise UserError(
            f"model {model}: no config.json in it",
            "Give a checkpoint saved by save_pretrained, or a name of `ftq models`.",
        )
    config = read_config(folder)
    if config is None:
        raise UserError(f"model {model}: its config.json can't be read as a JSON object", DAMAGED)
    return config


def _check_architecture(config: dict[str, Any], model: str) -> None:
    """Refuse what doesn't write a text word by word. Where config.json names no architecture, the loader decides."""
    named = config.get("architectures")
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    if names and (config.get("is_encoder_decoder") or not any(map(_is_decoder, names))):
        raise UserError(
            f"model {model}: its architecture is {names[0]}, which can't be trained by ftq: it needs a decoder such as "
            "LlamaForCausalLM or Qwen3ForCausalLM",
            "Take a model that writes texts: `ftq models` lists some.",
        )


def _is_decoder(architecture: str) -> bool:
    return architecture.endswith(DECODERS) and not any(word in architecture.lower() for word in ENCODERS)


def _check_files(folder: Path, model: str) -> None:
    names = weight_files(folder)
    if not names:
        raise UserError(
            f"model {model}: no *.safetensors weights in it",
            "ftq opens no pickle (*.bin, *.pt): save the model with safe_serialization=True.",
        )
    if missing := [name for name in names if not (folder / name).is_file()]:
        more = f" and {len(missing) - 1} more of its {len(names)} files" if len(missing) > 1 else ""
        message = f"model {model}: {missing[0]}{more} is missing, which its index names"
        raise UserError(message, "Copy the file there, or download the model again.")


def _check_tokenizer(folder: Path, model: str) -> None:
    if not any(path.is_file() for pattern in TOKENIZERS for path in folder.glob(pattern)):
        raise UserError(
            f"model {model}: no tokenizer in it (tokenizer.json or tokenizer.model)",
            "Copy the base model's own tokenizer files beside its config.json.",
        )
    path = folder / "tokenizer.json"
    if path.is_file() and not _is_object(path):
        raise UserError(f"model {model}: its tokenizer.json can't be read as a JSON object", DAMAGED)


def _is_object(path: Path) -> bool:
    """Whether a file is an object of JSON; of a large one only its ends are read, which shows one that was cut."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size <= PARSED:
                return isinstance(json.loads(file.read()), dict)
            begin = file.read(64)
            file.seek(size - 64)
            return begin.lstrip().startswith(b"{") and file.read().rstrip().endswith(b"}")
    except (OSError, ValueError, RecursionError):
        return False


def _check_sizes(config: dict[str, Any], stored: dict[str, Weight], model: str) -> None:
    """UserError where config.json and the weights differ in width, vocabulary or layers; the loader compares all."""
    shape = Shape.from_config(config)
    if shape is None:
        return
    embedding = stored.get(EMBEDDING)
    if embedding and len(embedding.shape) == 2:
        rows, columns = embedding.shape
        _compare(model, "hidden_size", shape.hidden, f"{EMBEDDING} has {columns} columns", columns)
        _compare(model, "vocab_size", shape.vocabulary, f"{EMBEDDING} has {rows} rows", rows)
    layers = _layers(stored)
    if layers < shape.layers or not any(word in name for name in config for word in MORE_LAYERS):
        _compare(
            model, "num_hidden_layers", shape.layers, f"the weights are of {layers} layers", layers or shape.layers
        )


def _layers(names: Iterable[str]) -> int:
    """How many layers the weights have; 0 where they are named otherwise than most are."""
    return max((int(match[1]) + 1 for match in map(LAYER.match, names) if match), default=0)


def _compare(model: str, option: str, wanted: int, said: str, there: int) -> None:
    if wanted != there:
        raise UserError(f"model {model}: its config.json says {option} {wanted}, and {said}", OTHERS)
