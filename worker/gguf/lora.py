"""An adapter as a GGUF of its own, for `llama-server --lora` beside the base model's GGUF, or Ollama's ADAPTER.

The package that converts checkpoints doesn't convert adapters. But its rules for a weight, its name and the order of
its rows, hold for B as they do for the weight that B @ A is added to; A only needs the name.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from worker.gguf.convert import refuse_code
from worker.gguf.names import plain
from worker.gguf.quantize import run_apart

ENDINGS = (".lora_A.weight", ".lora_B.weight")
SAME = 1e-4  # of the largest number: rounding


def convert_lora(adapter: Path, base: Path, target: Path) -> None:
    """Write the PEFT adapter, trained on the checkpoint `base`, as `target` in f16. FtqError with the last line."""
    refuse_code(base)
    run_apart(["worker.gguf.lora", str(adapter), str(base), str(target)], f"converting {adapter.name} to GGUF", target)


# ---- in the process that converts ------------------------------------------------------------------------------


def main() -> None:
    import gguf

    adapter, base, target = map(Path, sys.argv[1:])
    model = _rules(base, target)
    writer = gguf.GGUFWriter(target, gguf.MODEL_ARCH_NAMES[model.model_arch])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, _alpha(adapter))
    for name, a, b in _pairs(adapter, model):
        writer.add_tensor(f"{name}.lora_a", a)
        writer.add_tensor(f"{name}.lora_b", b)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _rules(base: Path, target: Path) -> Any:
    """The converter for the base's architecture, which won't write anything."""
    from conversion import (  # type: ignore[import-untyped]
        ModelBase,
        ModelType,
        get_model_architecture,
        get_model_class,
    )
    from gguf import LlamaFileType

    settings = ModelBase.load_hparams(base, False)
    kind = get_model_class(get_model_architecture(settings, ModelType.TEXT), mmproj=False)
    return kind(base, LlamaFileType.MOSTLY_F16, target, eager=True, dry_run=True, hparams=settings)


def _alpha(adapter: Path) -> float:
    """llama.cpp divides it by the rank; rsLoRA divides by the rank's root."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    factor = math.sqrt(config["r"]) if config.get("use_rslora") else 1.0
    return float(config["lora_alpha"] * factor)


def _pairs(adapter: Path, model: Any) -> Iterator[tuple[str, Any, Any]]:
    """(GGUF name, A, B) of each layer."""
    from safetensors import safe_open

    stored = {plain(name): name for name in model.model_tensors}
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
        layers = sorted({name.removesuffix(end) for name in file.keys() for end in ENDINGS if name.endswith(end)})  # noqa: SIM118
        for layer in layers:
            a, b = (file.get_tensor(layer + ending).float() for ending in ENDINGS)
            weight = stored[plain(layer.removeprefix("base_model.model.") + ".weight")]
            name, ordered = _ordered(model, weight, a, b)
            yield name, a.half().numpy(), ordered.half().numpy()


def _ordered(model: Any, weight: str, a: Any, b: Any) -> tuple[str, Any]:
    """(GGUF name, B with its rows in llama.cpp's order), checked on the whole update."""
    block = next((int(part) for part in weight.split(".") if part.isdecimal()), None)
    alone, whole = (list(model.modify_tensors(value, weight, block)) for value in (b, b @ a))
    if [name for name, _ in alone] != [name for name, _ in whole] or len(alone) != 1:
        raise SystemExit(f"{weight} becomes several weights in a GGUF: its adapter can't be one of them")
    name, ordered = alone[0]
    if ordered.shape != b.shape or (ordered @ a - whole[0][1]).abs().max() > SAME * whole[0][1].abs().max():
        raise SystemExit(f"{weight} is stored in another form in a GGUF: its adapter can't be converted")
    return name, ordered.contiguous()


if __name__ == "__main__":
    main()
