"""The whole of ftq with a model of Phi-3.5-mini's shape: random weights, two shards, a SentencePiece tokenizer.

    python -m benchmarks.phi_shape [--documents DIR] [--steps N] [--json FILE] [--set KEY=VALUE ...]

The checkpoint is made in FTQ_HOME, then a run of it goes through `ftq up`: prepare, train, export as q8_0 and q4_k_m,
infer, evaluate. Told are each stage's seconds, what merging and converting took beside copying the same bytes on the
same disk, and what the export found. Random weights train, merge and convert as fast as real ones; what they answer
says nothing. --small makes a model of some megabytes, to try the script.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.up import up
from ftq.files.run_dir import sync

FLOWER_PORT = "5585"
HIDDEN, MIDDLE, LAYERS, HEADS, VOCABULARY, CONTEXT = 3072, 8192, 32, 32, 32064, 131072
CONTROLS = (
    "endoftext assistant placeholder1 placeholder2 placeholder3 placeholder4 system end placeholder5 placeholder6"
)
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
)
POLL_SECONDS = 0.5


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.phi_shape")
    arguments.add_argument("--documents", default="documents")
    arguments.add_argument("--steps", type=int, default=40)
    arguments.add_argument("--seconds", type=float, default=3600, help="then it is given up")
    arguments.add_argument("--set", action="append", default=[], dest="options", metavar="KEY=VALUE")
    arguments.add_argument("--small", action="store_true")
    arguments.add_argument("--json", type=Path)
    given = arguments.parse_args()
    os.environ.setdefault("FTQ_HOME", tempfile.mkdtemp(prefix="ftq-phi-", dir="."))
    model = Path(os.environ["FTQ_HOME"], "phi-shape").resolve()
    size = make_model(model, Path(given.documents), given.small)
    print(f"the model: {size / 1e9:.2f} GB; a copy of it takes {copy_seconds(model):.1f} s", flush=True)
    until = time.monotonic() + given.seconds
    options: dict[str, Any] = {"model": str(model), "documents": given.documents, "max_steps": given.steps}
    options |= {"quantizations": ["f16", "q8_0", "q4_k_m"], "max_tokens": 48, "eval_questions": 20}
    options |= {name: json.loads(value) for name, _, value in (text.partition("=") for text in given.options)}
    with up(FLOWER_PORT, until) as client:
        run = client.submit(options, "phi-shape").run
        while not run.is_finished and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
            run = client.find(run.id)
        found = {stage.name: (stage.finished_at or 0) - (stage.started_at or 0) for stage in run.stages}
        print(run.status, {name: round(seconds, 1) for name, seconds in found.items()}, run.error or "", flush=True)
        for stage in run.stages:
            print(stage.name, stage.plan)
        folder = client.run_dir(run.id)
        for path in (folder.path / "export.json", folder.path / "eval.json"):
            if path.is_file():
                print(path.name, path.read_text()[:6000])
    again = copy_seconds(model)
    print(f"a copy of the model again: {again:.1f} s")
    if given.json:
        given.json.write_text(json.dumps({"bytes": size, "copy": again, "status": run.status, "stages": found}) + "\n")


def copy_seconds(folder: Path) -> float:
    """Until the bytes are on the disk."""
    began, target = time.monotonic(), folder.with_name("copy")
    shutil.copytree(folder, target)
    for path in target.iterdir():
        sync(path)
    seconds = time.monotonic() - began
    shutil.rmtree(target)
    return seconds


def make_model(path: Path, texts: Path, small: bool) -> int:
    """Write the checkpoint and return its bytes."""
    import torch
    from transformers import Phi3Config, Phi3ForCausalLM

    path.mkdir(parents=True)
    make_tokenizer(path, texts)
    hidden, middle, layers, heads = (96, 128, 2, 4) if small else (HIDDEN, MIDDLE, LAYERS, HEADS)
    factors = hidden // heads // 2
    config = Phi3Config(
        vocab_size=VOCABULARY, hidden_size=hidden, intermediate_size=middle, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=CONTEXT,
        original_max_position_embeddings=4096, sliding_window=262144, tie_word_embeddings=False,
        rope_scaling={"type": "longrope", "short_factor": [1.0] * factors, "long_factor": [4.0] * factors},
        bos_token_id=1, eos_token_id=32000, pad_token_id=32000,
    )  # fmt: skip
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = Phi3ForCausalLM(config)
    model.save_pretrained(path, max_shard_size="2MB" if small else "5GB")
    saved = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(saved | {"architectures": ["Phi3ForCausalLM"]}, indent=2))
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [32007, 32001, 32000], "bos_token_id": 1}))
    return sum(file.stat().st_size for file in path.glob("*.safetensors"))


def make_tokenizer(path: Path, texts: Path) -> None:
    """A SentencePiece model of the documents' text, padded to Phi's 32,000 pieces, and Phi's control tokens."""
    import sentencepiece
    from transformers import AutoTokenizer

    text = path / "text"
    text.write_text("\n".join(file.read_text(errors="replace") for file in sorted(texts.rglob("*.md"))))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(path / "tokenizer"), vocab_size=4000, model_type="bpe", byte_fallback=True,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, normalization_rule_name="identity", hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    text.unlink()
    (path / "tokenizer.vocab").unlink()
    fill(path / "tokenizer.model", 32000)
    controls = [f"<|{name}|>" for name in f"{CONTROLS} user".split()]
    added = {
        str(32000 + number): {"content": text, "special": True, "rstrip": number > 0, "lstrip": False,
                              "normalized": False, "single_word": False}
        for number, text in enumerate(controls)
    }  # fmt: skip
    settings = {
        "tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "<|endoftext|>", "unk_token": "<unk>",
        "pad_token": "<|endoftext|>", "add_bos_token": False, "add_eos_token": False, "legacy": False,
        "added_tokens_decoder": added, "chat_template": TEMPLATE,
    }  # fmt: skip
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    (path / "added_tokens.json").write_text(json.dumps({text: 32000 + n for n, text in enumerate(controls)}))
    AutoTokenizer.from_pretrained(path).save_pretrained(path)
    (path / "tokenizer_config.json").write_text(json.dumps(settings))  # saving it drops what is the class's default


def fill(path: Path, pieces: int) -> None:
    """Add pieces that no text has, so that the control tokens stand where Phi has them."""
    from sentencepiece import sentencepiece_model_pb2 as proto

    model = proto.ModelProto()
    model.ParseFromString(path.read_bytes())
    while len(model.pieces) < pieces:
        model.pieces.add(piece=f"\ue000{len(model.pieces)}\ue001", score=-1e6)
    path.write_bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
