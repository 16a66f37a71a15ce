"""Quantising a GGUF, in a process of its own: a fault inside llama.cpp ends that process, not the stage."""

from __future__ import annotations

import sys
from pathlib import Path

# Imports stand in functions: the child needs none of them, and would start 0.2 s later.

# llama_ftype of llama.h, which cyllama takes as a number.
FTYPES = {
    "q8_0": 7,
    "q2_k": 10,
    "q3_k_m": 12,
    "q3_k_l": 13,
    "q4_k_s": 14,
    "q4_k_m": 15,
    "q5_k_s": 16,
    "q5_k_m": 17,
    "q6_k": 18,
}
SHOWN = 300  # characters of a process's last line, in the error


def quantize(source: Path, target: Path, kind: str) -> None:
    """Write the f16 GGUF `source` as `target` in a smaller type. FtqError with llama.cpp's last line."""
    run_apart(["worker.gguf.quantize", str(source), str(target), kind], f"quantising {source.name} to {kind}", target)


def run_apart(command: list[str], what: str, target: Path) -> None:
    """Run `python -m COMMAND`, which has to write `target`. If it fails, its output goes to this process's stderr."""
    import os
    import subprocess

    from ftq.errors import FtqError
    from worker.machine.crash import ended
    from worker.machine.hardware import computing

    process = subprocess.run(
        [sys.executable, "-m", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=os.environ | computing(),
    )
    if process.returncode == 0 and target.is_file():
        return
    sys.stderr.write(process.stdout)
    how = ended(process.returncode)
    last = (process.stdout.strip().splitlines() or ["it printed nothing"])[-1]
    raise FtqError(f"{what} failed ({how}): {last[:SHOWN]}", "The log has all of it: `ftq logs RUN --stage export`.")


def main() -> None:
    from cyllama.llama.llama_cpp import LlamaModelQuantizeParams, model_quantize

    source, target, kind = sys.argv[1:]
    params = LlamaModelQuantizeParams()
    params.ftype, params.nthread = FTYPES[kind], 0  # all processors
    model_quantize(source, target, params)


if __name__ == "__main__":
    main()
