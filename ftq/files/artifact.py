"""A file or a folder that a stage has published."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Artifact:
    """`path` is relative to the run's folder; `bytes` counts a folder's files together."""

    kind: str
    path: str
    bytes: int
