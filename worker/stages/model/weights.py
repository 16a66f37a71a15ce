"""What a checkpoint holds: the one view of its files for prepare, training, merging, counting and converting."""

from __future__ import annotations

import contextlib
import json
import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftq.errors import UserError
from ftq.spec import models

USABLE = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}  # types of weights, and PyTorch's names
BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
AGAIN = "Get that file again: most likely its download or copy broke off."


@dataclass(frozen=True)
class Weight:
    """One tensor of a checkpoint, `size` bytes from `begin` of its file on."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    size: int


def files(model_dir: Path) -> list[Path]:
    """The files that the model is loaded from. Others beside them may have the same weights in another form."""
    return [model_dir / name for name in models.weight_files(model_dir)]


def read(model_dir: Path) -> dict[str, Weight]:
    """{name: weight}, from the headers of the files. UserError for a weight that is twice there, or not whole."""
    stored = dict[str, Weight]()
    for path in files(model_dir):
        header, first = read_header(path), _data_begins(path)
        header.pop("__metadata__", None)
        for name, entry in header.items():
            if name in stored:
                raise UserError(
                    f"model {model_dir}: {name} stands in {stored[name].file.name} and in {path.name}",
                    "One of these files belongs to another model: take all of them from one download.",
                )
            begin, end = entry["data_offsets"]
            stored[name] = Weight(path, entry["dtype"], tuple(entry["shape"]), first + begin, end - begin)
    _check_index(model_dir, stored)
    return stored


def parameters(model_dir: Path) -> int:
    """How many numbers the checkpoint holds."""
    return sum(math.prod(weight.shape) for weight in read(model_dir).values())


def read_header(path: Path) -> dict[str, Any]:
    """A safetensors file's header; UserError if the file is not whole."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header: dict[str, Any] = json.loads(file.read(length))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        if path.stat().st_size != 8 + length + end:
            raise ValueError("its size does not fit its header")
        for name, entry in entries.items():
            first, last = entry["data_offsets"]
            if math.prod(entry["shape"]) * BYTES.get(entry["dtype"], 0) not in (0, last - first):
                raise ValueError(f"{name} has not the {math.prod(entry['shape'])} numbers of its shape")
    except (OSError, ValueError, struct.error, MemoryError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error})", AGAIN) from None
    return header


def read_ahead(model_dir: Path) -> None:
    """Have the kernel read the weights from the disk in the background; returns at once."""
    for path in files(model_dir):
        with contextlib.suppress(OSError, AttributeError), path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def _data_begins(path: Path) -> int:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
    return int(8 + length)


def _check_index(model_dir: Path, stored: dict[str, Weight]) -> None:
    """UserError where the index that is read names a weight that its file doesn't have."""
    for name, file in models.weight_index(model_dir).items():
        if name not in stored:
            raise UserError(
                f"model {model_dir}: by its index {name} is in {file}, and it isn't there",
                "Take the index and all of its files from one download.",
            )
