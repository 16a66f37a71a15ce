"""The version of code by its source: what was made or tried by other code may have come out otherwise."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent


def version_of(places: Iterable[str], root: Path = ROOT) -> str:
    """A hash of the modules and templates in these folders, or of the one module that a place names."""
    files = [path for place in places for path in _sources(root / place)]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


def _sources(place: Path) -> list[Path]:
    kinds = ("*.py", "*.toml", "*.json")
    return [place] if place.is_file() else sorted(path for kind in kinds for path in place.rglob(kind))
