"""Merging the adapter into the base model, tensor by tensor: memory holds a few of them, not three models."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from ftq.errors import UserError
from ftq.examples.prompt import CHAT_TEMPLATE
from ftq.files.run_dir import write_json
from ftq.spec import weights
from ftq.spec.options import Format
from worker.gguf.names import plain
from worker.stages.model import base_model, template
from worker.stages.model.tokens import Tokens

LORA = {".lora_A.weight": 0, ".lora_B.weight": 1}
NOT_PLAIN = ("use_dora", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "modules_to_save")
COPIED_AT_ONCE = 2**24  # bytes
CHANGED_AT_ONCE = 2**20  # weights
TRAIN_AGAIN = "Train again: submit the run anew, with a lower learning_rate if its losses weren't numbers either."


def merge(model_dir: Path, adapter: Path, target: Path, stop: str, format: Format = "alpaca") -> int:
    """Write base + adapter as a 16-bit checkpoint with the base's own tokenizer files and the trained prompt.

    Return how many layers changed: 0 if the adapter holds nothing but zeros. UserError for an adapter that is damaged,
    of another kind or of another base model.
    """
    check_adapter(adapter)
    pairs = read_pairs(adapter)
    _check_base(pairs, adapter, model_dir)
    copy_settings(model_dir, target, stop, format)
    for path in weights.paths(model_dir):
        _merge_file(path, target / path.name, pairs, scaling(adapter))
    return sum(1 for _, b in pairs.values() if bool(b.any()))


def copy_settings(model_dir: Path, target: Path, stop: str, format: Format = "alpaca") -> None:
    """Write everything of a merged model but its weights into the new folder `target`."""
    target.mkdir()
    for file in base_model.side_files(model_dir):
        shutil.copyfile(file, target / file.name)
    chat_template = CHAT_TEMPLATE if format == "alpaca" else template.source(model_dir)
    tokens = Tokens(model_dir, format)
    _set_prompt_and_stop(target, chat_template, tokens.id_of(stop), stop)
    _set_tokenizer(target / "tokenizer_config.json", tokens)


def check_fits(layers: dict[str, list[int]], model_dir: Path, model: str) -> None:
    """UserError unless each layer that gets an adapter ({name: shape}) is one of the checkpoint's weights."""
    shapes = _shapes(model_dir)
    wrong = [name for name, shape in layers.items() if shapes.get(plain(name)) != [shape]]
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
        raise UserError(what, "`ftq retry RUN --from train` makes it anew.")


def read_pairs(adapter: Path) -> dict[str, tuple[Any, Any]]:
    """{base weight's plain name: (A, B)} in float32; LoRA's update is B @ A. UserError for a damaged adapter."""
    import torch
    from safetensors import safe_open

    _check_plain(adapter)
    halves: dict[str, list[Any]] = {}
    weights.read_header(adapter / "adapter_model.safetensors")
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (not a dict)
            ending = next((ending for ending in LORA if name.endswith(ending)), None)
            if ending is None:
                raise UserError(f"{adapter}: {name} is not a LoRA weight", "Only plain LoRA adapters can be merged.")
            layer = name.removeprefix("base_model.model.").removesuffix(ending) + ".weight"
            value = file.get_tensor(name).to(torch.float32)
            if not bool(torch.isfinite(value).all()):
                raise UserError(f"{adapter}: {name} holds numbers that are none (NaN or infinity)", TRAIN_AGAIN)
            halves.setdefault(plain(layer), [None, None])[LORA[ending]] = value
    return {name: _pair(adapter, name, *half) for name, half in halves.items()}


def scaling(adapter: Path) -> float:
    """By what the update is multiplied: alpha / r, or alpha / sqrt(r) with rsLoRA (arXiv 2312.03732)."""
    config = _config(adapter)
    rank: float = math.sqrt(config["r"]) if config.get("use_rslora") else config["r"]
    return float(config["lora_alpha"] / rank)


# ---- settings ----------------------------------------------------------------------------------------------


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


def _set_tokenizer(path: Path, tokens: Tokens) -> None:
    """Write down what each loader would guess, and each otherwise: the kind of tokenizer, and a space before a text."""
    kind = json.loads(path.read_text(encoding="utf-8")).get("tokenizer_class", "PreTrainedTokenizerFast")
    space: dict[str, Any] = {} if tokens.adds_space is None else {"add_prefix_space": tokens.adds_space}
    _change(path, tokenizer_class=kind, **space)


def _change(path: Path, without: str = "", **values: Any) -> None:
    old = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    write_json(path, {name: value for name, value in {**old, **values}.items() if name != without})


# ---- the adapter -------------------------------------------------------------------------------------------


def _config(adapter: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{adapter}/adapter_config.json can't be read ({error})", TRAIN_AGAIN) from None
    return value


def _check_plain(adapter: Path) -> None:
    """UserError for an adapter that says it is more than B @ A on some layers, all of one rank."""
    config = _config(adapter)
    if more := [name for name in NOT_PLAIN if config.get(name)]:
        raise UserError(f"{adapter} is no plain LoRA adapter ({', '.join(more)})", "Only plain ones can be merged.")


def _pair(adapter: Path, name: str, a: Any, b: Any) -> tuple[Any, Any]:
    if a is None or b is None:
        raise UserError(f"{adapter}: {name} has only one of its two LoRA weights", TRAIN_AGAIN)
    rank = _config(adapter)["r"]
    if len(a) != rank or b.shape[-1] != rank:
        shapes = f"{list(b.shape)} x {list(a.shape)}"
        raise UserError(
            f"{adapter}: {name} has weights of the shapes {shapes}, its config a rank of {rank}", TRAIN_AGAIN
        )
    return a, b


def _check_base(pairs: dict[str, tuple[Any, Any]], adapter: Path, model_dir: Path) -> None:
    """UserError unless each update fits one of the base's weights."""
    shapes = _shapes(model_dir)
    wrong = [name for name, (a, b) in pairs.items() if shapes.get(name) != [[len(b), a.shape[1]]]]
    if wrong:
        name = wrong[0]
        update = [len(pairs[name][1]), pairs[name][0].shape[1]]
        raise UserError(
            f"{len(wrong)} of the adapter's {len(pairs)} layers don't fit this base model: {name} has the shape "
            f"{' or '.join(map(str, shapes.get(name, ['of no weight here'])))}, the adapter's {update}",
            f"{adapter}/adapter_config.json names the base model that it was trained on.",
        )


def _shapes(model_dir: Path) -> dict[str, list[list[int]]]:
    """{plain name: the shapes of the weights of that name}."""
    shapes: dict[str, list[list[int]]] = {}
    for name, weight in weights.read(model_dir).items():
        shapes.setdefault(plain(name), []).append([*weight.shape])
    return shapes


# ---- the weights -------------------------------------------------------------------------------------------


def _merge_file(source: Path, target: Path, pairs: dict[str, tuple[Any, Any]], scaling: float) -> None:
    """Write the file with the updates added in float32 and rounded once. What doesn't change is copied as it is.

    What changes becomes float16, which rounds eight times finer than bfloat16: that would lose a small update among
    its steps. bfloat16 takes what is too large for float16.
    """
    if not _write(source, target, pairs, scaling, "F16"):
        _write(source, target, pairs, scaling, "BF16")


def _write(source: Path, target: Path, pairs: dict[str, tuple[Any, Any]], scaling: float, kind: str) -> bool:
    """Whether all numbers that were changed are finite in this type."""
    header, first = weights.read_header(source)
    metadata = {"__metadata__": {"format": "pt"}}
    is_finite = True
    places = sorted(header, key=lambda name: header[name]["data_offsets"])
    with source.open("rb") as base, target.open("wb") as merged:
        merged.write(weights.header_bytes({**metadata, **dict(_described(header, places, pairs, kind))}))
        for name in places:
            begin, end = header[name]["data_offsets"]
            base.seek(first + begin)
            if plain(name) in pairs or header[name]["dtype"] == "F32":
                is_finite &= _change_weight(base, merged, header[name], pairs.get(plain(name)), scaling, kind)
            else:
                _copy(base, merged, end - begin)
    return is_finite


def _described(header: dict[str, Any], places: list[str], changed: Container[str], kind: str) -> Iterator[Any]:
    """(name, entry) as the new file has them: what is changed, or was float32, has the type `kind`."""
    offset = 0
    for name in places:
        entry = header[name]
        begin, end = entry["data_offsets"]
        is_long = entry["dtype"] == "F32"
        dtype = kind if is_long or plain(name) in changed else entry["dtype"]
        size = (end - begin) // 2 if is_long else end - begin
        yield name, {"dtype": dtype, "shape": entry["shape"], "data_offsets": [offset, offset + size]}
        offset += size


def _change_weight(
    source: Any, target: Any, entry: dict[str, Any], pair: tuple[Any, Any] | None, scaling: float, kind: str
) -> bool:
    """Write a weight some rows at a time: large buffers, used once, would cost more than the arithmetic.

    Return whether all its numbers are finite.
    """
    import torch

    stored, written = (getattr(torch, weights.USABLE[name]) for name in (entry["dtype"], kind))
    is_finite = True
    columns = entry["shape"][-1] if entry["shape"] else 1
    rows, step = math.prod(entry["shape"]) // columns, max(1, CHANGED_AT_ONCE // columns)
    for first in range(0, rows, step):
        count = min(step, rows - first)
        data = bytearray(count * columns * stored.itemsize)
        source.readinto(data)
        weight = torch.frombuffer(data, dtype=stored).view(count, columns)
        if pair:
            weight = (pair[1][first : first + count] @ pair[0]).mul_(scaling).add_(weight)
        rounded = weight.to(written).contiguous()
        is_finite &= bool(torch.isfinite(rounded).all())
        target.write(rounded.view(torch.uint8).numpy().data)
    return is_finite


def _copy(source: Any, target: Any, size: int) -> None:
    while size:
        size -= target.write(source.read(min(size, COPIED_AT_ONCE)))
