"""Trains a small base model on whatever Python is installed, and makes rows for it: losses then mean something.

    python -m benchmarks.peers.make_base TOKENIZER_DIR OUT_DIR [--seconds 60]

A Llama of 50 M parameters reads the source of torch and transformers for so long (on a GPU: some 60 million tokens a
minute). OUT_DIR becomes its checkpoint; OUT_DIR/rows/train.jsonl and valid.jsonl ask for docstrings of NumPy, SciPy
and pandas, which it hasn't seen.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import time
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from benchmarks.peers.make_model import VOCABULARY, copy_tokenizer
from ftq.files.run_dir import write_jsonl

READ, ASKED = ("torch", "transformers"), ("numpy", "scipy", "pandas")
LENGTH, CHARACTERS = 512, 60_000_000
ROWS, HELD_OUT, LONGEST = 2000, 200, 1200  # LONGEST: characters of an answer


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.peers.make_base", description=__doc__)
    arguments.add_argument("tokenizer", type=Path)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--seconds", type=float, default=60)
    arguments.add_argument("--characters", type=int, default=CHARACTERS)
    given = arguments.parse_args()
    tokenizer = Tokenizer.from_file(str(given.tokenizer / "tokenizer.json"))
    counts = write_rows(given.out / "rows")
    loss, tokens = train(_ids(tokenizer, given.characters), given.out, given.seconds)
    copy_tokenizer(given.tokenizer, given.out)
    print(json.dumps({"loss": round(loss, 3), "tokens": tokens, **counts}))


def write_rows(out: Path) -> dict[str, int]:
    """Alpaca rows in a random order that is always the same; the last ones are held out."""
    rows = [row for name in ASKED for row in _docstrings(name)]
    random.Random(0).shuffle(rows)
    rows = rows[: ROWS + HELD_OUT]
    out.mkdir(parents=True, exist_ok=True)
    parts = {"train": rows[:-HELD_OUT], "valid": rows[-HELD_OUT:]}
    for name, part in parts.items():
        write_jsonl(out / f"{name}.jsonl", part)
    return {name: len(part) for name, part in parts.items()}


def _docstrings(package: str) -> Iterator[dict[str, str]]:
    for path in _sources(package):
        with warnings.catch_warnings(action="ignore"):
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except (SyntaxError, UnicodeDecodeError):
                continue
        for node in ast.walk(tree):
            said = ast.get_docstring(node) if isinstance(node, ast.FunctionDef | ast.ClassDef) else None
            if said and len(said) > 200 and "test" not in str(path):
                asked = f"Document {package}'s {getattr(node, 'name', '')} ({path.stem})"
                yield {"instruction": asked, "input": "", "output": said[:LONGEST]}


def _sources(package: str) -> list[Path]:
    found = find_spec(package)
    return sorted(Path(found.origin).parent.rglob("*.py")) if found and found.origin else []


def _ids(tokenizer: Tokenizer, characters: int) -> Any:
    import torch

    texts, left = [], characters
    for path in (path for name in READ for path in _sources(name)):
        text = path.read_text(encoding="utf-8", errors="ignore")
        texts.append(text)
        left -= len(text)
        if left < 0:
            break
    ids = [one for found in tokenizer.encode_batch_fast(texts, add_special_tokens=False) for one in (*found.ids, 0)]
    return torch.tensor(ids)


def train(ids: Any, out: Path, seconds: float) -> tuple[float, int]:
    """(last loss, tokens seen) of a plain training from random weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    device, many = ("cuda", 64) if torch.cuda.is_available() else ("cpu", 4)
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama", hidden_size=512, intermediate_size=1536, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=4, vocab_size=VOCABULARY, tie_word_embeddings=True, max_position_embeddings=2048,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").to(device)
    adam = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    began, steps, loss = time.monotonic(), 0, torch.tensor(0.0)
    while (spent := time.monotonic() - began) < seconds:
        for group in adam.param_groups:
            group["lr"] = 1e-3 * min(1.0, (steps + 1) / 100, 1.05 - spent / seconds)
        starts = torch.randint(len(ids) - LENGTH, (many,))
        batch = torch.stack([ids[start : start + LENGTH] for start in starts.tolist()]).to(device)
        with torch.autocast(device, torch.bfloat16):
            loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        adam.zero_grad()
        steps += 1
        if device == "cuda":
            torch.cuda.synchronize()
    model.to(torch.bfloat16).save_pretrained(out)
    return float(loss.detach()), steps * many * LENGTH


if __name__ == "__main__":
    main()
