"""A run's checkpoints: which one may be resumed, and which may go.

A checkpoint counts only with its seal, `ftq.json`, which is written last and holds the hash of every other file. So a
whole checkpoint is told apart from what a crash, a full disk or a frozen process left behind.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftq.errors import UNREADABLE
from ftq.files.run_dir import RunDir, remove, sync, sync_tree, write_json

SEAL = "ftq.json"
KEPT = 2
NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    path: Path
    attempt: int
    step: int


def seal(path: Path, fingerprint: str, how: dict[str, Any]) -> None:
    """Declare a checkpoint complete, once its files and the metrics beside it are on the disk.

    `how` tells people what the fingerprint says of the machine.
    """
    sync_tree(path)
    hashes = {file.relative_to(path).as_posix(): _hash(file) for file in _files(path)}
    write_json(path / SEAL, {"fingerprint": fingerprint, "how": how, "files": hashes})
    for beside in filter(Path.is_file, path.parent.iterdir()):
        sync(beside)
    for folder in list(path.parents)[:3]:  # the attempt's, checkpoints/ and the run's: each may be new
        sync(folder)


def newest_valid(run: RunDir, fingerprint: str) -> Checkpoint | None:
    """The checkpoint with the most steps, of any attempt, that is whole and has this fingerprint."""
    by_step = sorted(find_all(run), key=lambda checkpoint: (checkpoint.step, checkpoint.attempt), reverse=True)
    return next((checkpoint for checkpoint in by_step if is_valid(checkpoint, fingerprint)), None)


def is_valid(checkpoint: Checkpoint, fingerprint: str) -> bool:
    """Whether it has this fingerprint, its files are as they were written, and its step is the one in its name."""
    try:
        sealed = _read_seal(checkpoint.path)
        state = json.loads((checkpoint.path / "trainer_state.json").read_text(encoding="utf-8"))
        whole = all(_hash(checkpoint.path / name) == digest for name, digest in sealed["files"].items())
        return bool(whole and sealed["fingerprint"] == fingerprint and state["global_step"] == checkpoint.step)
    except UNREADABLE:
        return False


def is_finished(checkpoint: Checkpoint) -> bool:
    """Whether the run's last step is done and only the adapter is still to be taken out."""
    state = json.loads((checkpoint.path / "trainer_state.json").read_text(encoding="utf-8"))
    return bool(state["global_step"] >= state["max_steps"])


def reason_to_start_anew(run: RunDir, fingerprint: str, how: dict[str, Any]) -> str:
    """Why a run with checkpoints resumes none of them; empty where there are none."""
    others = [
        (checkpoint, sealed)
        for checkpoint in find_all(run)
        if (sealed := _read_seal(checkpoint.path)) and sealed.get("fingerprint") != fingerprint
    ]
    if not others:
        return ""
    last, sealed = max(others, key=lambda other: (other[0].step, other[0].attempt))
    before = sealed.get("how") or {}
    changed = [f"{name} {before[name]}, here {now}" for name, now in how.items() if before.get(name, now) != now]
    reason = "; ".join(changed) or "other options or data"
    return f"starts anew: the checkpoint at step {last.step} is of a training run with {reason}"


def prune(run: RunDir, attempt: int, fingerprint: str, keep: Collection[Path | None] = ()) -> None:
    """Remove all checkpoints with this fingerprint but the last two and those to `keep`.

    A later attempt's stay, for this attempt may have been replaced. Those with another fingerprint stay, too: the run
    may go back to the machine that computed so.
    """
    own = [checkpoint for checkpoint in find_all(run, fingerprint) if checkpoint.attempt <= attempt]
    for old in sorted(own, key=lambda checkpoint: (checkpoint.step, checkpoint.attempt))[:-KEPT]:
        if old.path not in keep:
            remove(old.path)


def epoch_ends(run: RunDir, fingerprint: str, steps: int, most: int) -> list[Checkpoint]:
    """The checkpoints at the ends of the last `most` epochs of so many steps, in order; the last step counts as one."""
    there = {one.step: one for one in sorted(find_all(run, fingerprint), key=lambda one: one.attempt)}
    last = max(there, default=0)
    ends = sorted(step for step in there if step == last or (steps and step % steps == 0))
    return [there[step] for step in ends[-most:]] if most else []


def find_all(run: RunDir, fingerprint: str | None = None) -> list[Checkpoint]:
    """All checkpoints, whole or not; with `fingerprint` those that are sealed with it."""
    result = []
    for path in run.checkpoints.glob("*/checkpoint-*"):
        match = NAME.fullmatch(path.name)
        if match and path.parent.name.isdigit() and path.is_dir():
            result.append(Checkpoint(path, int(path.parent.name), int(match[1])))
    return [one for one in result if fingerprint is None or _read_seal(one.path).get("fingerprint") == fingerprint]


def _read_seal(path: Path) -> dict[str, Any]:
    """The seal; empty where none can be read."""
    try:
        sealed = json.loads((path / SEAL).read_text(encoding="utf-8"))
        return sealed if isinstance(sealed, dict) else {}
    except (OSError, ValueError):
        return {}


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name != SEAL)


def _hash(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, hashlib.blake2b).hexdigest()
