"""Whether the weights of a base model are numbers: one that isn't makes every loss NaN, and no loss says which it was.

This reads all of them once, as the training does after it: from the disk, or from memory by then.
"""

from __future__ import annotations

from pathlib import Path

from ftq.errors import UserError
from ftq.spec import weights

EXPONENT = {"F32": ("<u4", 0x7F800000), "BF16": ("<u2", 0x7F80), "F16": ("<u2", 0x7C00)}  # all set: no number
HINT = "Its file is damaged, or the training that made it diverged: get the file again, or take another model."


def check_finite(model_dir: Path, model: str) -> None:
    """UserError naming the first weight with a NaN or an infinity among its numbers."""
    for name, weight in weights.read(model_dir).items():
        if weight.dtype in EXPONENT and (wrong := _not_finite(weight)):
            said = f"{wrong:,} of the numbers of {name} are NaN or infinite"
            raise UserError(f"model {model}: {said} (in {weight.file.name})", HINT)


def _not_finite(weight: weights.Weight) -> int:
    import numpy

    kind, exponent = EXPONENT[weight.dtype]
    buffer, wrong = numpy.empty(weights.AT_ONCE // numpy.dtype(kind).itemsize, kind), 0
    for block in weight.blocks():
        bits = buffer[: len(block) // buffer.itemsize]
        numpy.bitwise_and(numpy.frombuffer(block, kind, len(bits)), exponent, out=bits)
        if bits.max(initial=0) == exponent:
            wrong += int(numpy.count_nonzero(bits == exponent))
    return wrong
