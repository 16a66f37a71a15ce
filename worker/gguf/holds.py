"""What a GGUF really holds: llama.cpp takes another type for a row that the one asked for can't be cut into."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

BLOCK = 32  # numbers that a type of at most 8 bits takes at once; the k types want 256, and have others for 32
WHOLE = ("f32", "f16", "bf16")


def held(file: Path) -> dict[str, float]:
    """{type: its share of the numbers in the file's matrices}, the largest first."""
    from gguf import GGUFReader

    numbers = Counter[str]()
    for tensor in GGUFReader(file).tensors:
        if len(tensor.shape) > 1:
            numbers[tensor.tensor_type.name.lower()] += int(tensor.n_elements)
    return {kind: round(count / numbers.total(), 4) for kind, count in numbers.most_common()}


def whole(holds: dict[str, float]) -> float:
    """The share that isn't quantised."""
    return sum(share for kind, share in holds.items() if kind in WHOLE)
