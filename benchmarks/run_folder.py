"""A run's folder as `ftq submit` leaves it, for what times stages without a queue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftq.files.run_dir import RunDir, write_json


def make_run(path: Path, spec: dict[str, Any]) -> RunDir:
    """The folder with its run.json. Its documents, or its dataset, are the caller's."""
    run = RunDir(path)
    run.path.mkdir(parents=True, exist_ok=True)
    write_json(run.run_json, {"id": "bench", "name": "bench", "spec": spec, "documents_hash": ""})
    return run
