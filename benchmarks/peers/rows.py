"""Makes the rows to train on, once for all: random words, token lengths as instruction data has them.

    python -m benchmarks.peers.rows MODEL_DIR OUT_DIR [--rows 20000]

Writes OUT_DIR/rows-N.jsonl (Alpaca's fields) and OUT_DIR/rows-N.json (what it holds, counted). Lengths are log-normal,
of about 230 tokens on average, and none is over 2048, the prompt's frame and the stop token counted in.
The same seed makes the same file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import re
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from benchmarks.peers import alpaca

MEAN, SPREAD, LONGEST = 230, 0.6, 2048
INSTRUCTION = 8  # words
WORD = re.compile("[Ġ▁][a-z]{3,}")  # a token that is a whole word with the space before it, as both families write it


def make(model: Path, out: Path, count: int, seed: int) -> dict[str, Any]:
    """Write the rows; return how many tokens there are, in all and in the longest row."""
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    end = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))["eos_token"]
    rows = _rows(tokenizer, count, random.Random(seed))
    lengths = [len(row.ids) for row in tokenizer.encode_batch([alpaca.text(row, end) for row in rows])]
    if max(lengths) > LONGEST:
        raise SystemExit(f"{model}: a row has {max(lengths)} tokens: its words are not one token each")
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    held = {
        "rows": count, "seed": seed, "tokens": sum(lengths), "mean": round(sum(lengths) / count, 1),
        "longest": max(lengths), "sha256": hashlib.sha256(data).hexdigest(),
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    (out / f"rows-{count}.jsonl").write_bytes(data)
    (out / f"rows-{count}.json").write_text(json.dumps(held, indent=2) + "\n", encoding="utf-8")
    return held


def _rows(tokenizer: Tokenizer, count: int, drawn: random.Random) -> list[dict[str, str]]:
    words = sorted(token[1:] for token in tokenizer.get_vocab() if WORD.fullmatch(token))
    frame = len(tokenizer.encode(alpaca.FRAME).ids)
    return [_row(words, _length(drawn) - frame, drawn) for _ in range(count)]


def _length(drawn: random.Random) -> int:
    """Tokens of a row, log-normal. Room is left for the few words whose first token differs at a line's start."""
    middle = math.log(MEAN) - SPREAD**2 / 2
    return min(LONGEST - 16, max(64, round(drawn.lognormvariate(middle, SPREAD))))


def _row(words: list[str], length: int, drawn: random.Random) -> dict[str, str]:
    said = drawn.choices(words, k=length)
    return {"instruction": " ".join(said[:INSTRUCTION]), "input": "", "output": " ".join(said[INSTRUCTION:])}


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.peers.rows", description=__doc__)
    arguments.add_argument("model", type=Path, help="a folder with tokenizer.json and tokenizer_config.json")
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--rows", type=int, default=20000)
    arguments.add_argument("--seed", type=int, default=20261122)
    given = arguments.parse_args()
    print(json.dumps(make(given.model, given.out, given.rows, given.seed)))


if __name__ == "__main__":
    main()
