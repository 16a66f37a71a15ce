"""What a run puts on the disk, in bytes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftq.errors import UserError
from ftq.spec import models
from ftq.spec.recipe import recipe_of
from ftq.spec.shape import Shape

if TYPE_CHECKING:
    from ftq.spec.options import RunSpec

# Bits a weight takes in a GGUF, the scales counted in (measured on Llama-shaped models).
BITS = {
    "f16": 16.0, "bf16": 16.0, "q8_0": 8.5, "q6_k": 6.6, "q5_k_m": 5.7, "q5_k_s": 5.6,
    "q4_k_m": 4.9, "q4_k_s": 4.7, "q3_k_l": 4.4, "q3_k_m": 4.0, "q2_k": 3.4,
}  # fmt: skip
MARGIN = 1.1  # of the export: for what stands in a file beside the weights
CHECKPOINTS = 3  # two are kept, and one more is being written


def of_run(spec: RunSpec, shape: Shape, optimizer: str) -> tuple[dict[str, int], dict[str, int]]:
    """(bytes by what they are needed for, bytes of each GGUF file)."""
    parameters, weights = shape.parameters, shape.adapter(recipe_of(spec, shape.parameters).r, spec.target_modules)
    is_there = models.find(spec.model) is models.ALIASES[models.PACKAGED] or Path(spec.model).is_absolute()
    needed = {
        "download": 0 if is_there else merged(parameters),
        "checkpoints": checkpoints(weights, optimizer),
        "export": export(parameters, spec.quantizations),
        "adapter": weights * 4,  # in 32 bit
        "merged": merged(parameters) if spec.keep_merged else 0,
    }
    return needed, {name: gguf(parameters, name) for name in spec.quantizations}


def gguf(parameters: int, quantization: str) -> int:
    return int(parameters * BITS[quantization] / 8)


def merged(parameters: int) -> int:
    """The 16-bit model with the adapter in it: as large as the base model's download."""
    return parameters * 2


def export(parameters: int, quantizations: list[Any]) -> int:
    """What an export needs: the merged model, the f16 file that is quantised, and each type asked for."""
    types = {"f16", *quantizations}
    return int((merged(parameters) + sum(gguf(parameters, name) for name in types)) * MARGIN)


def check_room(run: Path, parameters: int, quantizations: list[Any], hint: str) -> None:
    """UserError if the disk of the run's folder has no room for its export; `hint` says what to do then."""
    need, have = export(parameters, quantizations), shutil.disk_usage(run).free
    if have < need:
        message = f"the export needs {need / 1e9:.1f} GB of disk in {run}, but only {have / 1e9:.1f} GB are free"
        raise UserError(message, hint)


def checkpoints(weights: int, optimizer: str) -> int:
    """The most that checkpoints take at once: adapter and optimiser states."""
    return CHECKPOINTS * weights * (4 + (2 if optimizer == "adamw_8bit" else 8))
