"""Whether the files of a base model hold what the loader wants, each weight once and whole.

The loader itself is asked, in a process of its own: it gets the names and shapes of all weights, and no numbers. So its
rules (names of earlier versions, parts that it joins, tied weights) need no second description here.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ftq.errors import FtqError, UserError
from ftq.spec import weights
from ftq.words import listed
from worker.machine.crash import ended

SHOWN = 3  # weights that are named
AGAIN = "Download the model again, or take its files from where it was made."


@dataclass(frozen=True)
class Loaded:
    """What the loader said: weights by their names in the model, and by those in the files."""

    missing: list[str]  # would be random
    other_shapes: list[str]  # would be random too
    left_over: list[str]  # would be left out of the training
    tied: list[tuple[str, str]]  # pairs that are one weight by the config, and lie in the files both


def check_loads(model_dir: Path, model: str) -> None:
    """UserError naming the first weights that are missing, twice, torn, of another shape, or left over."""
    stored = weights.read(model_dir)
    for name, weight in stored.items():
        if weight.dtype.startswith(("F", "BF")) and weight.dtype not in weights.USABLE:
            raise UserError(
                f"model {model}: {name} is stored as {weight.dtype}, which no adapter can be added to",
                "Take the 16-bit model that it was made of, with load_in_4bit=true where memory is short.",
            )
    said = _ask(model_dir, model)
    where = f"model {model}: its config.json"
    if said.missing:
        hint = f"{AGAIN} If the output layer is the embedding, config.json says tie_word_embeddings true."
        raise UserError(f"{where} wants {listed(said.missing, SHOWN)}, and the files don't have it", hint)
    if said.other_shapes:
        raise UserError(f"{where} says another shape than the files: {listed(said.other_shapes, SHOWN)}", AGAIN)
    if said.left_over:
        raise UserError(
            f"{where} has no place for {listed(said.left_over, SHOWN)}, which the files have: that would be left out",
            "Take the config.json that belongs to these weights, or remove the ones that aren't the model's.",
        )
    for one, other in said.tied:
        if _digest(stored[one]) != _digest(stored[other]):
            raise UserError(
                f"{where} says that {one} and {other} are one weight, and the files have two",
                "Set tie_word_embeddings to false in config.json, or take the model's own files.",
            )


def _ask(model_dir: Path, model: str) -> Loaded:
    process = subprocess.run(
        [sys.executable, "-m", __name__, str(model_dir)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    lines = process.stdout.splitlines()
    if process.returncode == 0 and lines:
        return Loaded(**json.loads(lines[-1]))
    sys.stderr.write(process.stderr)
    said = (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
    if process.returncode < 0:
        raise FtqError(f"model {model}: trying to load it ended by {ended(process.returncode)}", "Try `ftq retry RUN`.")
    raise UserError(f"model {model} can't be loaded: {said[:300]}", "`ftq models` lists models that can.")


def _digest(weight: weights.Weight) -> bytes:
    digest = hashlib.blake2b(f"{weight.dtype} {weight.shape}".encode())
    for block in weight.blocks():
        digest.update(block)
    return digest.digest()


# ---- in the process that asks ------------------------------------------------------------------------------


def main() -> None:
    """Print a Loaded as JSON."""
    model_dir = Path(sys.argv[1])
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    stored = weights.read(model_dir)
    _, said = type(empty).from_pretrained(
        None,
        config=config,
        state_dict={name: _without_numbers(weight) for name, weight in stored.items()},
        device_map={"": "meta"},
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    other = [f"{name} {list(here)}, not {list(wanted)}" for name, here, wanted in said["mismatched_keys"]]
    missing = sorted({*said["missing_keys"]} - {name for name, *_ in said["mismatched_keys"]})
    tied = [pair for pair in getattr(empty, "all_tied_weights_keys", {}).items() if {*pair} <= {*stored}]
    print(json.dumps(asdict(Loaded(missing, sorted(other), sorted(said["unexpected_keys"]), tied))))


def _without_numbers(weight: weights.Weight) -> Any:
    import torch

    kind = getattr(torch, weights.USABLE.get(weight.dtype, "int64"))
    return torch.empty(weight.shape, dtype=kind, device="meta")


if __name__ == "__main__":
    main()
