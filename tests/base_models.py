"""Tiny base models of the catalogue's families, and ways to damage one's files. Tokenizers by SentencePiece too."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from tests import forked
from tests.tiny import make_tiny_model

SIZES = {
    "vocab_size": 49152, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 2,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "LlamaConfig": {"tie_word_embeddings": False}, "Phi3Config": {"tie_word_embeddings": False},
    "Qwen2Config": {"tie_word_embeddings": True}, "Qwen3Config": {"tie_word_embeddings": True},
    "Gemma2Config": {}, "MistralConfig": {"tie_word_embeddings": False},
}  # fmt: skip
_WRITE = """
import json, sys, torch, transformers
wanted, sizes, folder = json.loads(sys.argv[1])
for name, (kind, more) in wanted.items():
    torch.manual_seed(0)
    config = getattr(transformers, kind)(**{**sizes, **more})
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(f"{folder}/{name}")
"""


def make_families(folder: Path) -> dict[str, Path]:
    """{family: checkpoint}, with SmolLM2's tokenizer, in float32, saved by transformers itself."""
    write_models(folder, {name: (name, more) for name, more in FAMILIES.items()})
    tokenizer = make_tiny_model(folder / "tokenizer")
    for name in FAMILIES:
        for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copyfile(tokenizer / file, folder / name / file)
    return {name: folder / name for name in FAMILIES}


def write_models(folder: Path, wanted: dict[str, tuple[str, dict[str, Any]]]) -> None:
    """Save {name: (class of its config, its sizes where they aren't SIZES)} into folders of these names."""
    done = forked.run([sys.executable, "-c", _WRITE, json.dumps([wanted, SIZES, str(folder)])])
    assert done.returncode == 0, done.stderr


def change(model: Path, without: str = "", **more: Any) -> None:
    """Write model.safetensors again without the weights of that name, and with others."""
    held = load_file(model / "model.safetensors")
    save_file({n: v for n, v in held.items() if not without or without not in n} | more, model / "model.safetensors")


def shard(model: Path, twice: str = "") -> dict[str, str]:
    """Make two shards of the model's one file, one weight standing in both if named; return the index's map."""
    held = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    names = sorted(held)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, half in halves.items():
        save_file({name: held[name] for name in {*half, *([twice] if twice else [])}}, model / file)
    index = {name: file for file, half in halves.items() for name in half}
    write_index(model, index)
    return index


def write_index(model: Path, index: dict[str, str]) -> None:
    (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def configure(model: Path, **values: Any) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, **values}))


def zeros(*shape: int, kind: Any = np.float32) -> Any:
    return np.zeros(shape, kind)


def make_pieces_model(folder: Path, tokenizer_class: str = "LlamaTokenizer", controls: tuple[str, ...] = ()) -> Path:
    """A Llama whose tokenizer is a SentencePiece model, `controls` among its pieces as Gemma has them: not special."""
    import sentencepiece

    make_tiny_model(folder)
    configure(folder, vocab_size=1024)
    change(folder, **{"model.embed_tokens.weight": np.random.default_rng(0).normal(0, 0.05, (1024, 64)).astype("f4")})
    for path in [*folder.glob("tokenizer*"), folder / "chat_template.jinja"]:
        path.unlink()
    text = folder / "text.txt"
    text.write_text("\n".join(path.read_text() for path in sorted(Path("documents").glob("*.md"))))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "tokenizer"), vocab_size=900, model_type="bpe", byte_fallback=True,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, normalization_rule_name="identity", hard_vocab_limit=False,
        user_defined_symbols=list(controls), minloglevel=2,
    )  # fmt: skip
    text.unlink()
    (folder / "tokenizer.vocab").unlink()
    settings = {"tokenizer_class": tokenizer_class, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
                "add_bos_token": True, "add_eos_token": False, "legacy": False}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
