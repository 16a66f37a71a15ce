"""A training run's checkpoints in the bucket, so that another machine resumes where this one was.

Each time the whole state is sent as one part, `checkpoints-<number>.<attempt>`: what this attempt has sent before isn't
sent again. An attempt refers to its own parts alone, and deletes nothing of a later one: a zombie can't damage it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from ftq.files.disk import stamp
from ftq.files.remote.bucket import Gone
from ftq.files.remote.manifest import Entry, Manifest, manifest_key
from ftq.files.remote.record import FOLDER
from ftq.files.remote.share import Share
from ftq.files.remote.transfer import Move, Upload
from ftq.files.run_dir import RunDir, link_tree, remove, run_dir

CHECKPOINT = re.compile(r"checkpoint-\d+")
_PART = re.compile(r"checkpoints-(\d{1,9})\.(\d{1,9})(\.json)?")
_TRIES = 3  # a later push may delete what is being fetched


class Sender:
    """Sends the checkpoints of one attempt. `is_whole` says whether a checkpoint's folder is sealed."""

    def __init__(self, share: Share, run_id: str, attempt: int, is_whole: Callable[[Path], bool]) -> None:
        self._share, self._attempt, self._is_whole = share, attempt, is_whole
        self._run = run_dir(share.home, run_id)
        self._number = 0
        self._sent = dict[str, tuple[tuple[int, int], Entry]]()  # files of whole checkpoints: they don't change
        self._keys = set[str]()  # what this attempt has in the bucket
        self._cut = list[str]()  # parts that didn't get there whole: they go once a later one has
        self._begun = list[str]()  # those of them that have large files, or pieces, which aren't sent again

    def send(self, move: Move) -> None:
        """Send the state as it is now. OutOfReach leaves the one before it whole."""
        beside = self._run.path / FOLDER / f"checkpoints.{self._attempt}"
        try:
            files = self._snapshot(beside)
            if files:
                self._send(files, move)
        finally:
            if beside.exists():
                remove(beside)

    def _send(self, files: dict[str, Path], move: Move) -> None:
        self._number += 1
        stamps = {path: stamp(file) for path, file in files.items()}
        name = f"checkpoints-{self._number}"
        known = [entry for path, (sent, entry) in self._sent.items() if path in files and stamp(files[path]) == sent]
        upload = Upload(
            self._share.bucket,
            self._run.path.name,
            name,
            self._attempt,
            files,
            earlier=known,
            begun=self._begun,
            database=self._share.database,
        )
        try:
            manifest = upload.go(move)
        except BaseException:
            self._cut += [upload.manifest.name] if upload.has_sent else []
            self._begun = sorted({*self._begun, *upload.used})
            raise
        for entry in manifest.files:
            if CHECKPOINT.search(entry.path):
                kept = Entry(entry.path, entry.size, entry.sha256, entry.within or manifest.name)
                self._sent[entry.path] = (stamps[entry.path], kept)
        self._forget_others(manifest)

    def _forget_others(self, manifest: Manifest) -> None:
        """Delete what this attempt has sent and doesn't need any more, and what earlier attempts have."""
        bucket, run_id = self._share.bucket, manifest.run
        needed = {manifest.key(entry) for entry in manifest.files}
        needed.add(manifest_key(run_id, manifest.part, manifest.attempt))
        if not self._keys:  # it is the first that got there
            forget(self._share, run_id, before=self._attempt)
        bucket.delete(*sorted(self._keys - needed, key=lambda key: not key.endswith(".json")))
        self._keys = needed
        for name in self._cut:
            bucket.give_up(*bucket.begun(f"{run_id}/{name}"))
            bucket.delete(f"{run_id}/{name}.json", f"{run_id}/{name}")
        self._cut, self._begun = [], []

    def _snapshot(self, beside: Path) -> dict[str, Path]:
        """{path: file} of the state, linked: the training run deletes and writes meanwhile."""
        if beside.exists():
            remove(beside)
        files = dict[str, Path]()
        for place, folders, names in os.walk(self._run.checkpoints):
            here = Path(place)
            is_checkpoint = bool(CHECKPOINT.fullmatch(here.name))
            if is_checkpoint and not self._is_whole(here):
                folders.clear()
                continue
            for name in names:
                path = (here / name).relative_to(self._run.path).as_posix()
                if not name.endswith("partial"):
                    with contextlib.suppress(FileNotFoundError):  # it has just been pruned
                        _keep(here / name, beside / path)
                        files[path] = beside / path
        return files


def fetch(share: Share, run_id: str, fresh_from: int, attempt: int, move: Move) -> int | None:
    """Have the newest state of an attempt before this one, from `fresh_from` on; its attempt, None if there is none.

    An attempt that ran on this machine has left it here.
    """
    folder = run_dir(share.home, run_id)
    for _ in range(_TRIES):
        found = [_PART.fullmatch(name) for name in share.bucket.names(run_id)]
        parts = [(int(match[2]), int(match[1])) for match in found if match and match[3]]
        there = [part for part in parts if fresh_from <= part[0] < attempt]
        if not there:
            return None
        newest, number = max(there)
        if ran_here(folder, newest):
            return None
        with contextlib.suppress(Gone):
            share.fetch(run_id, f"checkpoints-{number}", newest, move=move)
            (folder.path / FOLDER / f"checkpoints-{number}.json").unlink(missing_ok=True)
            return newest
    return None


def note_attempt(folder: RunDir, attempt: int) -> None:
    """Note that this machine runs the attempt: its state here is never older than the one in the bucket."""
    (folder.path / FOLDER).mkdir(parents=True, exist_ok=True)
    (folder.path / FOLDER / f"trained.{attempt}").touch()


def ran_here(folder: RunDir, attempt: int) -> bool:
    return (folder.path / FOLDER / f"trained.{attempt}").exists()


def forget(share: Share, run_id: str, before: int) -> None:
    """Delete the checkpoints of attempts before this one."""
    share.forget_earlier(run_id, r"checkpoints-\d{1,9}", before)


def _keep(source: Path, target: Path) -> None:
    """What lies in a checkpoint is never written again, so it may be linked."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if CHECKPOINT.search(str(target)):
        link_tree(source, target)
    else:
        shutil.copy2(source, target)
