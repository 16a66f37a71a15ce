"""A checkpoint's safetensors files, by their headers: the one view of submit and of every stage."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftq.errors import UserError

HEADER = 100_000_000  # bytes at most, as the safetensors library has it
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
USABLE = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}  # types of weights, and PyTorch's names
BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
AT_ONCE = 2**22  # bytes of a weight that are read together: they fit into a processor's cache
AGAIN = "Get that file again: most likely its download or copy broke off."
DAMAGED = "The file is damaged: copy it once more, or download the model again."
POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Weight:
    """One tensor of a checkpoint, `size` bytes from `begin` of its file on."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    size: int

    def blocks(self) -> Iterator[memoryview]:
        """Its bytes, some at a time, each block in the place of the one before."""
        buffer, left = memoryview(bytearray(AT_ONCE)), self.size
        with self.file.open("rb", buffering=0) as file:
            file.seek(self.begin)
            while left and (size := file.readinto(buffer[:left])):
                yield buffer[:size]
                left -= size


def read(folder: Path) -> dict[str, Weight]:
    """{name: weight}, from the headers of the files. UserError for a weight that is twice there, or not whole."""
    stored = dict[str, Weight]()
    for path in paths(folder):
        entries, first = read_header(path)
        for name, entry in entries.items():
            if name in stored:
                raise UserError(
                    f"model {folder}: {name} stands in {stored[name].file.name} and in {path.name}",
                    "One of these files belongs to another model: take all of them from one download.",
                )
            begin, end = entry["data_offsets"]
            stored[name] = Weight(path, entry["dtype"], tuple(entry["shape"]), first + begin, end - begin)
    _check_index(folder, stored)
    return stored


def parameters(folder: Path) -> int:
    """How many numbers the checkpoint holds."""
    return sum(math.prod(weight.shape) for weight in read(folder).values())


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """({name: entry} of a safetensors file's header, where its numbers begin). UserError if the file is not whole."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = _length(file.read(len(POINTER)), size)
            file.seek(8)
            header = json.loads(file.read(length))
        entries: dict[str, Any] = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        if size != 8 + length + end:
            raise ValueError(f"its size does not fit its header: {size:,} bytes, not {8 + length + end:,}")
        for name, entry in entries.items():
            first, last = entry["data_offsets"]
            if math.prod(entry["shape"]) * BYTES.get(entry["dtype"], 0) not in (0, last - first):
                raise ValueError(f"{name} has not the {math.prod(entry['shape'])} numbers of its shape")
    except (OSError, ValueError, MemoryError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error})", AGAIN) from None
    return entries, 8 + length


def header_bytes(header: dict[str, Any]) -> bytes:
    """What a safetensors file with this header begins with. Its numbers then stand at a multiple of eight."""
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def paths(folder: Path) -> list[Path]:
    """The files that the model is loaded from. Others beside them may have the same weights in another form."""
    return [folder / name for name in weight_files(folder)]


def weight_files(folder: Path) -> list[str]:
    """The names of a checkpoint's safetensors files; empty where it has none.

    The rule is that of the library that loads them for the training: one file counts more than an index of several.
    UserError for an index that names anything but safetensors files beside it.
    """
    return [WEIGHTS] if (folder / WEIGHTS).is_file() else sorted(set(weight_index(folder).values()))


def unread(folder: Path) -> list[str]:
    """The names of safetensors files that look like the model's weights, and aren't what it is loaded from."""
    return sorted({path.name for path in folder.glob("model*.safetensors")} - set(weight_files(folder)))


def weight_index(folder: Path) -> dict[str, str]:
    """{weight: file} as the index has them from which the checkpoint is loaded; empty where it isn't."""
    index = folder / INDEX
    if (folder / WEIGHTS).is_file() or not index.is_file():
        return {}
    try:
        names: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted(set(names.values()))
        wrong = next((name for name in files if Path(name).name != name or not name.endswith(".safetensors")), None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{index}: not an index of weights ({error})", DAMAGED) from None
    if wrong is not None:
        raise UserError(f"{index}: {wrong} is not a safetensors file beside it", DAMAGED)
    return names


def _length(begin: bytes, size: int) -> int:
    """The bytes of the header of a file that begins so. ValueError where they can't all be there."""
    if not begin:
        raise ValueError("it is empty")
    if begin == POINTER:
        raise ValueError("it is a pointer of Git LFS, which `git lfs pull` replaces by the weights")
    length = int.from_bytes(begin[:8], "little")
    if len(begin) < 8 or 8 + length > size:
        raise ValueError("it ends within its header")
    if length > HEADER:
        raise ValueError(f"its header would have {length:,} bytes")
    return length


def _check_index(folder: Path, stored: dict[str, Weight]) -> None:
    """UserError where the index that is read names a weight that its file doesn't have."""
    for name, file in weight_index(folder).items():
        if name not in stored:
            raise UserError(
                f"model {folder}: by its index {name} is in {file}, and it isn't there",
                "Take the index and all of its files from one download.",
            )
