"""The vocabulary of a GGUF: which of its tokens are control tokens, and a file to try it with before any training."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

TYPES, TOKENS = "tokenizer.ggml.token_type", "tokenizer.ggml.tokens"
CONTROL = 3  # llama.cpp makes such a token of a text only where it is told to
NEVER = (CONTROL, 2)  # 2 is the unknown token
WIDTH = 32  # numbers in a row of the weights that are no weights


def mark_controls(file: Path, controls: Collection[str]) -> int:
    """Make control tokens of these, where the file has them as others; return how many.

    llama.cpp finds a token that somebody has added in every text, also in one that only speaks of it.
    """
    from gguf import GGUFReader

    reader, names, changed = GGUFReader(file, "r+"), set(controls), 0
    tokens, types = reader.get_field(TOKENS), reader.get_field(TYPES)
    if tokens is None or types is None:
        return 0
    for token, place in zip(tokens.contents(), types.data, strict=True):
        if token in names and types.parts[place][0] not in NEVER:
            types.parts[place][0] = CONTROL
            changed += 1
    reader.data.flush()
    return changed


def loadable(vocabulary: Path, target: Path) -> None:
    """Write `target`, a model of zeros with the vocabulary and the chat template of the GGUF `vocabulary`."""
    import gguf

    reader = gguf.GGUFReader(vocabulary)
    writer = gguf.GGUFWriter(target, "llama")
    for name, field in reader.fields.items():
        if name == "general.name" or name.startswith("tokenizer."):
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    size = len(reader.fields[TOKENS].data)
    writer.add_vocab_size(size)
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDTH)
    writer.add_block_count(1)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(WIDTH)
    writer.add_layer_norm_rms_eps(1e-5)
    for name, shape in _zeros(size):
        writer.add_tensor(name, shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _zeros(vocabulary: int) -> list[tuple[str, Any]]:
    import numpy as np

    layers = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    norms = ("output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight")
    return [
        ("token_embd.weight", np.zeros((vocabulary, WIDTH), np.float16)),
        *((name, np.zeros(WIDTH, np.float32)) for name in norms),
        *((f"blk.0.{name}.weight", np.zeros((WIDTH, WIDTH), np.float16)) for name in layers),
    ]
