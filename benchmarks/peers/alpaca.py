"""The one prompt that every peer trains on: Alpaca's, for rows without an input."""

from __future__ import annotations

import json
from pathlib import Path

FRAME = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)


def text(row: dict[str, str], end: str) -> str:
    """A row as a training text; `end` is the tokenizer's stop token."""
    return FRAME.format(instruction=row["instruction"]) + row["output"] + end


def texts(path: Path, end: str) -> list[dict[str, str]]:
    """The rows of a JSONL file as TRL takes them: {"text": ...} each."""
    with path.open(encoding="utf-8") as lines:
        return [{"text": text(json.loads(line), end)} for line in lines]
