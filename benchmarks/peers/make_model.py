"""Writes a checkpoint of random weights in a known model's shape: it trains as fast as the real one.

    python -m benchmarks.peers.make_model phi-3.5-mini TOKENIZER_DIR OUT_DIR [--tiny] [--device cpu]

The vocabulary is SmolLM2's, 49,152 tokens, because the tokenizer is: Phi-3.5-mini's shape then has 3.9 B parameters and
Llama 3.1's 7.4 B. The weights are drawn on the GPU in bfloat16 and written as safetensors; seconds, not minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

VOCABULARY = 49152
SHAPES: dict[str, dict[str, Any]] = {
    "phi-3.5-mini": {
        "model_type": "phi3", "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
    },
    "smollm2-135m": {
        "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 8192, "rope_theta": 100000.0,
    },
    "llama-3.1-8b": {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192, "rope_theta": 500000.0,
    },
}  # fmt: skip
TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
# An own token fills up the batch: where it is the stop token, as in SmolLM2, nobody can tell one from the other.
PADDING = {"token": "<|endoftext|>", "id": 0}


def make(shape: str, tokenizer: Path, out: Path, device: str, tiny: bool) -> int:
    """Write config, weights and tokenizer; return the number of parameters."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**_shape(shape, tiny)), dtype=torch.bfloat16)
    model.save_pretrained(out, max_shard_size="4GB")
    copy_tokenizer(tokenizer, out)
    return int(model.num_parameters())


def _shape(name: str, tiny: bool) -> dict[str, Any]:
    shape = {
        **SHAPES[name], "vocab_size": VOCABULARY, "tie_word_embeddings": False,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": PADDING["id"],
    }  # fmt: skip
    if tiny:
        groups = shape["num_attention_heads"] // shape["num_key_value_heads"]
        shape |= {**TINY, "num_key_value_heads": TINY["num_attention_heads"] // groups}
    return shape


def copy_tokenizer(source: Path, out: Path) -> None:
    for name in ("tokenizer.json", "chat_template.jinja"):
        shutil.copyfile(source / name, out / name)
    config = json.loads((source / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["pad_token"] = PADDING["token"]
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.peers.make_model", description=__doc__)
    arguments.add_argument("shape", choices=SHAPES)
    arguments.add_argument("tokenizer", type=Path, help="the folder of a model with SmolLM2's tokenizer")
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--device", default="cuda")
    arguments.add_argument("--tiny", action="store_true", help="the same architecture with two small layers")
    given = arguments.parse_args()
    began = time.time()
    count = make(given.shape, given.tokenizer, given.out, given.device, given.tiny)
    print(json.dumps({"shape": given.shape, "parameters": count, "seconds": round(time.time() - began, 1)}))


if __name__ == "__main__":
    main()
