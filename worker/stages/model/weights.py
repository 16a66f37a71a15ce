"""What the stages ask of a checkpoint's weights; ftq/spec/weights.py reads their headers."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

from ftq.spec.weights import Weight, read, read_header, weight_files

__all__ = ["USABLE", "Weight", "files", "parameters", "read", "read_ahead", "read_header"]
USABLE = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}  # types of weights, and PyTorch's names


def files(model_dir: Path) -> list[Path]:
    """The files that the model is loaded from. Others beside them may have the same weights in another form."""
    return [model_dir / name for name in weight_files(model_dir)]


def parameters(model_dir: Path) -> int:
    """How many numbers the checkpoint holds."""
    return sum(math.prod(weight.shape) for weight in read(model_dir).values())


def read_ahead(model_dir: Path) -> None:
    """Have the kernel read the weights from the disk in the background; returns at once."""
    for path in files(model_dir):
        with contextlib.suppress(OSError, AttributeError), path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
