"""What the peers' runners share: the same options, one lock for the GPU, one way to count and to time.

A runner is one process. It imports its trainer, waits for the GPU's lock, loads, trains so many steps and prints
one line, `RESULT {json}`, also when it ran out of memory. Tokens are counted as the model gets them, by a hook on its
forward pass: only real ones, no padding, and whether or not they have a label.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib.metadata
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BEGAN = time.time()
GIB = 2**30
PACKAGES = ("torch", "triton", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "liger-kernel",
            "unsloth", "unsloth_zoo", "llamafactory", "axolotl", "flash-attn")  # fmt: skip


def options(peer: str, doc: str | None) -> argparse.Namespace:
    """The command line, the same for all: what to train, on what, how the batch is made up, and the limits."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.peers.{peer}", description=doc, formatter_class=argparse.RawTextHelpFormatter
    )
    switch = argparse.BooleanOptionalAction
    parser.add_argument("model", type=Path, help="folder of the base model")
    parser.add_argument("rows", type=Path, help="Alpaca JSONL")
    parser.add_argument("--bs", type=int, default=2, help="rows, or packed rows, in a micro-batch")
    parser.add_argument("--ga", type=int, default=4, help="micro-batches in a step")
    parser.add_argument("--packing", action=switch, default=False)
    parser.add_argument(
        "--isolate", action=switch, default=False, help="LLaMA-Factory: packed rows don't see each other"
    )
    parser.add_argument("--four", action=switch, default=True, help="4-bit base")
    parser.add_argument("--ckpt", choices=("true", "none", "unsloth"), default="true", help="gradient checkpointing")
    parser.add_argument("--kernels", action=switch, default=False, help="Liger kernels, where the peer offers them")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--max-length", type=int, default=2048)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--alpha", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--limit-gib", type=float, help="as if the card had so much memory")
    parser.add_argument("--gpu-lock", type=Path, help="file to lock after the imports, held until the end")
    given = parser.parse_args()
    given.peer = peer
    return given


def trainer_settings(given: argparse.Namespace, out: str) -> dict[str, Any]:
    """transformers' TrainingArguments as every peer takes them, whatever it calls its own."""
    import torch

    gpu = torch.cuda.is_available()
    return {
        "output_dir": out, "max_steps": given.steps, "per_device_train_batch_size": given.bs,
        "gradient_accumulation_steps": given.ga, "learning_rate": given.lr, "lr_scheduler_type": "linear",
        "warmup_steps": 2, "logging_steps": 5, "save_strategy": "no", "bf16": gpu, "use_cpu": not gpu,
        "optim": "adamw_8bit" if gpu else "adamw_torch", "seed": 3407, "disable_tqdm": True,
    }  # fmt: skip


@contextlib.contextmanager
def measured(given: argparse.Namespace) -> Iterator[Any]:
    """Take the GPU and time what happens until the block ends. Gives the callback to hand to the trainer.

    Enter it when everything is imported. The RESULT line comes when the block ends, well or not.
    """
    from benchmarks.peers.meter import Meter

    imported = time.time()
    error = None
    with _locked(given.gpu_lock), tempfile.TemporaryDirectory(prefix="ftq-peer-") as given.out:
        meter = Meter(given.steps)
        _limit(given.limit_gib)
        try:
            yield meter
        except BaseException as caught:
            error = "out of memory" if _is_memory(caught) else f"{type(caught).__name__}: {caught}"[:500]
            raise
        finally:
            print("RESULT", json.dumps(_result(given, meter, imported, error)), flush=True)


@contextlib.contextmanager
def _locked(path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _limit(gib: float | None) -> None:
    import torch

    if gib is not None and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(gib * GIB / torch.cuda.get_device_properties(0).total_memory)


def _is_memory(error: BaseException) -> bool:
    while error.__cause__:
        error = error.__cause__
    return "out of memory" in str(error).lower()


def _result(given: argparse.Namespace, meter: Any, imported: float, error: str | None) -> dict[str, Any]:
    """The line's content; times in seconds, memory in GiB. `ready`: import, load and first step, without the wait."""
    asked = {key: str(value) if isinstance(value, Path) else value for key, value in vars(given).items()}
    seconds = {"import": imported - BEGAN, "wait": meter.created - imported, **meter.seconds()}
    if "first_step" in seconds:
        seconds["ready"] = seconds["import"] + seconds["load"] + seconds["first_step"]
    return {
        **{key: asked[key] for key in sorted(asked.keys() - {"gpu_lock", "out"})}, "error": error,
        **meter.numbers(), "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "versions": dict(_versions()),
    }  # fmt: skip


def _versions() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)


def offline() -> None:
    """No peer asks a hub for anything: the model is a folder."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")
