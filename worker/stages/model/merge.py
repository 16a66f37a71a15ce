"""Merging the adapter into the base model, one weight file at a time: memory holds a file, not three models."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

from ftq.errors import FtqError, UserError
from ftq.examples.prompt import CHAT_TEMPLATE
from ftq.files.run_dir import write_json
from ftq.spec.options import Format
from worker.stages.model import base_model, template
from worker.stages.model.tokens import Tokens

LORA = {".lora_A.weight": 0, ".lora_B.weight": 1}


def merge(model_dir: Path, adapter: Path, target: Path, stop: str, format: Format = "alpaca") -> None:
    """Write base + adapter as a 16-bit checkpoint with the base's own tokenizer files and the trained prompt."""
    check_adapter(adapter)
    copy_settings(model_dir, target, stop, format)
    pairs = _read_pairs(adapter)
    used = 0
    for path in base_model.weight_paths(model_dir):
        used += _merge_file(path, target / path.name, pairs, _scaling(adapter))
    if used != len(pairs):
        message = f"merging used {used} of the adapter's {len(pairs)} layers: it doesn't fit this base model"
        raise FtqError(message, f"{adapter}/adapter_config.json names the base model that it was trained on.")


def copy_settings(model_dir: Path, target: Path, stop: str, format: Format = "alpaca") -> None:
    """Write everything of a merged model but its weights into the new folder `target`."""
    target.mkdir()
    for file in base_model.side_files(model_dir):
        shutil.copyfile(file, target / file.name)
    chat_template = CHAT_TEMPLATE if format == "alpaca" else template.source(model_dir)
    _set_prompt_and_stop(target, chat_template, Tokens(model_dir).id_of(stop), stop)


def check_fits(layers: dict[str, list[int]], model_dir: Path, model: str) -> None:
    """UserError unless each layer that gets an adapter ({name: shape}) is one of the checkpoint's weights."""
    shapes: dict[str, list[list[int]]] = {}
    for name, shape in base_model.shapes(model_dir):
        shapes.setdefault(_plain(name), []).append(shape)
    wrong = [name for name, shape in layers.items() if shapes.get(_plain(name)) != [shape]]
    if wrong:
        raise UserError(
            f"model {model}: the adapter on {wrong[0]}{f' and {len(wrong) - 1} more layers' if wrong[1:] else ''} "
            "couldn't be merged, because its weights are stored in another form",
            "Leave that layer out of target_modules, or take another model.",
        )


def check_adapter(adapter: Path) -> None:
    """UserError unless the adapter's weights are safetensors: PEFT would open adapter_model.bin, a pickle, instead."""
    if not (adapter / "adapter_model.safetensors").is_file():
        what = f"{adapter} has no adapter_model.safetensors" if adapter.is_dir() else f"{adapter} is not there yet"
        raise UserError(what, "Run the train stage first: `ftq retry RUN`.")


def _set_prompt_and_stop(target: Path, chat_template: str, stop_id: int | None, stop: str) -> None:
    """Set the trained prompt as chat template and the stop token as end of an answer, for whatever serves the model.

    `auto_map` is removed: it names code of the base model, which llama.cpp's converter would look for and run.
    """
    (target / "chat_template.jinja").write_text(chat_template, encoding="utf-8")
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        _change(target / name, "auto_map")
    _change(target / "tokenizer_config.json", chat_template=chat_template, eos_token=stop)
    _change(target / "config.json", eos_token_id=stop_id)
    if (target / "special_tokens_map.json").is_file():
        _change(target / "special_tokens_map.json", eos_token=stop)
    generation = target / "generation_config.json"
    before = json.loads(generation.read_text(encoding="utf-8")).get("eos_token_id") if generation.is_file() else None
    ends = dict.fromkeys([stop_id, *(before if isinstance(before, list) else [before])])
    _change(generation, eos_token_id=[end for end in ends if end is not None])


def _change(path: Path, without: str = "", **values: Any) -> None:
    old = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    write_json(path, {name: value for name, value in {**old, **values}.items() if name != without})


def _read_pairs(adapter: Path) -> dict[str, list[Any]]:
    """{base weight's plain name: [A, B]} in float32; LoRA's update is B @ A."""
    import torch
    from safetensors import safe_open

    pairs: dict[str, list[Any]] = {}
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (not a dict)
            ending = next((ending for ending in LORA if name.endswith(ending)), None)
            if ending is None:
                raise FtqError(f"{adapter}: {name} is not a LoRA weight", "Only plain LoRA adapters can be merged.")
            layer = name.removeprefix("base_model.model.").removesuffix(ending) + ".weight"
            pairs.setdefault(_plain(layer), [None, None])[LORA[ending]] = file.get_tensor(name).to(torch.float32)
    return pairs


def _plain(name: str) -> str:
    """A weight's name without what wraps it.

    A model for pictures and text is stored as `language_model.model.layers` and loaded as
    `model.language_model.layers`.
    """
    return ".".join(part for part in name.split(".") if part not in ("model", "language_model"))


def _scaling(adapter: Path) -> float:
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    rank: float = math.sqrt(config["r"]) if config.get("use_rslora") else config["r"]
    return float(config["lora_alpha"] / rank)


def _merge_file(source: Path, target: Path, pairs: dict[str, list[Any]], scaling: float) -> int:
    """Write the file with the updates added in float32 and rounded once; return how many layers got one."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    merged, used = {}, 0
    with safe_open(source, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118
            weight = file.get_tensor(name)
            kind = torch.bfloat16 if weight.dtype == torch.float32 else weight.dtype
            if _plain(name) in pairs:
                a, b = pairs[_plain(name)]
                weight = weight.to(torch.float32) + scaling * (b @ a)
                used += 1
            merged[name] = weight.to(kind).contiguous()
    save_file(merged, target, metadata={"format": "pt"})
    return used
