"""What to type to use a model that was pulled: with Ollama, llama.cpp, vLLM, transformers."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from ftq.delivery.parts import LORA, Model

HERE = Path(".")


def commands(model: Model, folder: Path = HERE) -> list[str]:
    """What to type to use the model, whose files lie in the folder."""
    place, name = shlex.quote(str(folder)), model.name.lower()
    if model.file:
        served = shlex.quote(str(folder / model.file))
        return [
            f"(cd {place} && ollama create {name} -f Modelfile) && ollama run {name}",
            f"llama-server -m {served} --jinja",
        ]
    if model.kind == "merged":
        return [f"vllm serve {place}", f"transformers serve {place}"]
    base = shlex.quote(_base_of(model))
    lines = [f"vllm serve {base} --enable-lora --lora-modules {name.replace(':', '-')}={place}"]
    if any(part.name == LORA for part in model.parts):
        lines.append(f"llama-server -m BASE.gguf --lora {shlex.quote(str(folder / LORA))} --jinja")
    return lines


def _base_of(model: Model) -> str:
    """The base model, as the adapter names it."""
    config = next((part for part in model.parts if part.name == "adapter_config.json"), None)
    if config is None:
        return model.run.model
    with config.open() as file:
        return str(json.load(file).get("base_model_name_or_path") or model.run.model)
