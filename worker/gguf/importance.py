"""Quantising by importance: a weight whose input is large is rounded more carefully.

llama.cpp's own tools for this aren't in the wheels, and cyllama can't hand the numbers to its quantiser. So the file is
quantised as always, which settles each tensor's type and place. Then the tensors with known inputs are quantised again
into the same places, by ggml's own function, which xllamacpp's library exports.
"""

from __future__ import annotations

import ctypes
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.gguf.quantize import run_apart

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNCHANGED = ("f16", "bf16", "q8_0")  # exact enough
# The types of tensors that gain. Q5_0, Q5_1 and Q8_0 stand in where a row can't be cut into 256: weighed, they lose.
WEIGHED = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q4_0", "Q4_1", "IQ4_NL")
FUNCTION = "ggml_quantize_chunk"
ROWS_AT_ONCE = 512


def requantize(source: Path, target: Path, importance: Path) -> None:
    """Quantise the tensors of `target` again from the f16 GGUF `source`; types and size stay.

    `importance` is an .npz file: {tensor's name: mean square of each of its inputs}.
    """
    command = ["worker.gguf.importance", str(source), str(target), str(importance)]
    run_apart(command, f"quantising {target.name} by importance", target)


# ---- in the process that computes ------------------------------------------------------------------------------


def main() -> None:
    import numpy as np
    from gguf import GGUFReader

    source, target = GGUFReader(sys.argv[1]), GGUFReader(sys.argv[2], "r+")
    weights, done = {tensor.name: tensor for tensor in source.tensors}, 0
    with np.load(sys.argv[3]) as importance, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        for tensor in target.tensors:
            if tensor.name in importance and tensor.tensor_type.name in WEIGHED:
                _rewrite(weights[tensor.name], tensor, importance[tensor.name].astype(np.float32), threads)
                done += 1
    target.data.flush()
    print(f"{done} of {len(target.tensors)} tensors by importance")


def _rewrite(source: Any, target: Any, importance: NDArray[np.float32], threads: ThreadPoolExecutor) -> None:
    """Quantise one tensor, some rows at a time: these are all that is in memory as float32."""
    columns = int(target.shape[0])
    if importance.shape != (columns,):
        raise SystemExit(f"{target.name} has {columns} inputs, their importance {importance.shape}")
    weights, written = source.data.reshape(-1, columns), target.data.reshape(-1, target.data.shape[-1])

    def part(first: int) -> None:
        written[first : first + ROWS_AT_ONCE] = _quantized(
            weights[first : first + ROWS_AT_ONCE], int(target.tensor_type), written.shape[1], importance
        )

    list(threads.map(part, range(0, len(weights), ROWS_AT_ONCE)))


def _quantized(rows: Any, kind: int, width: int, importance: NDArray[np.float32]) -> Any:
    import numpy as np

    values = np.ascontiguousarray(rows, dtype=np.float32)
    blocks = np.empty((len(values), width), dtype=np.uint8)
    size = _ggml()(
        kind, values.ctypes.data, blocks.ctypes.data, 0, len(values), values.shape[1], importance.ctypes.data
    )
    if size != blocks.nbytes:
        raise SystemExit(f"{FUNCTION} wrote {size} bytes, {blocks.nbytes} were expected")
    return blocks


def _ggml() -> Any:
    """`size_t ggml_quantize_chunk(type, const float *, void *, start, rows, columns, const float * importance)`."""
    module = find_spec("xllamacpp.xllamacpp")
    try:
        function = getattr(ctypes.CDLL(str(module.origin if module else "")), FUNCTION)
    except (OSError, AttributeError) as error:
        raise SystemExit(f"this xllamacpp can't quantise by importance: {error}") from None
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [ctypes.c_int, pointer, pointer, number, number, number, pointer]
    function.restype = ctypes.c_size_t
    return function


if __name__ == "__main__":
    main()
