"""The stage cache: a stage whose inputs are unchanged takes its files from the run that made them.

A stage's key is a hash over everything that goes into it: the code, its options, the base model and the key
of the stage before (for prepare, the documents). Equal key, equal outcome.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ftq.estimate
import ftq.prompt
from ftq import catalog
from ftq.artifacts import STAGES, link_tree, remove, run_dir, size_of
from ftq.runs import Run, RunStore

_STAGES_FOLDER = Path(__file__).parent / "stages"
# The documents count by their content, not by where they lay; more GPUs learn the same, only faster; trackers only
# look on.
_NOBODYS = {"documents", "priority", "gpus", "report_to"}
_OPTIONS = {
    "prepare": {"model", "valid_fraction", "max_seq_length", "seed"},
    "export": {"quantizations", "keep_merged"},
    "infer": {"prompts", "infer_with", "temperature", "max_tokens"},
}


def options_of(stage: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The options that change what a stage makes. An option that no other stage claims belongs to train."""
    if stage != "train":
        return {name: spec[name] for name in sorted(_OPTIONS[stage])}
    others = _NOBODYS | _OPTIONS["export"] | _OPTIONS["infer"]
    return {name: spec[name] for name in sorted(set(spec) - others)}


def key(run: Run, stage: str) -> str | None:
    """The stage's key, or None if the stage before has none."""
    position = STAGES.index(stage)
    before = run.stages[position - 1].key if position else run.documents_hash
    if before is None:
        return None
    known = catalog.find(run.spec["model"])
    parts = {
        "before": before,
        "code": code_version(stage),
        "options": options_of(stage, run.spec),
        "model": _fingerprint(run.spec["model"]),
        "catalogue": [known.hub_id, known.stop] if known else [],  # what an alias stands for, how an answer ends
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def take(
    store: RunStore, home: Path, run: Run, stage: str, key: str, partial: Path,
    while_copying: Callable[[], None] = lambda: None,
) -> bool:  # fmt: skip
    """Link the files of an earlier stage with this key into `partial`; False if there is none, or it is gone."""
    source_id = store.find_cached(stage, key)
    if source_id is None:
        return False
    source = run_dir(home, source_id)
    recorded = store.get(source_id).stage(stage).artifacts or []
    if any(Path(file["path"]).name != file["path"] for file in recorded):  # what a stage publishes lies in its folder
        return False
    if not recorded or any(not _intact(source.path / file["path"], file["bytes"]) for file in recorded):
        return False
    remove(partial)
    partial.mkdir(parents=True)
    for file in recorded:
        link_tree(source.path / file["path"], partial / file["path"], while_copying)
    return True


def code_version(stage: str) -> str:
    """A hash of the stage's source, and of what all stages share. The estimate decides how much a step learns from."""
    shared = [path for path in _STAGES_FOLDER.glob("*.py") if path.stem not in STAGES]
    files = [*sorted(shared), _STAGES_FOLDER / f"{stage}.py", Path(ftq.prompt.__file__)]
    files += [Path(ftq.estimate.__file__)] if stage == "train" else []
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


def _fingerprint(model: str) -> list[tuple[str, int, int]]:
    """Name, size and time of a local checkpoint's files; nothing for a hub id, which is its own identity."""
    folder = Path(model)
    if not folder.is_absolute() or not folder.is_dir():
        return []
    stats = [(path.name, path.stat()) for path in sorted(folder.iterdir()) if path.is_file()]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def _intact(path: Path, size: int) -> bool:
    return path.exists() and size_of(path) == size
