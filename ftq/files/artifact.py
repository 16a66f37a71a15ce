"""A file or a folder that a stage has published."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Artifact:
    """`path` is relative to the run's folder; `bytes` counts a folder's files together."""

    kind: str
    path: str
    bytes: int


def gguf_name(quantization: str) -> str:
    return f"model-{quantization}.gguf"


def quantization_of(name: str) -> str:
    """The quantisation of the model with this file name; empty for another file."""
    return match[1] if (match := re.fullmatch(r"model-(.+)\.gguf", name)) else ""
