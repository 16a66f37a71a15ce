"""What this machine has of a part, checked: .bucket/<part>.json in the run's folder, so nothing is checked twice."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ftq.errors import UNREADABLE, FtqError
from ftq.files.disk import stamp
from ftq.files.remote.manifest import Entry, Manifest
from ftq.files.run_dir import write_json

FOLDER = ".bucket"
LOCK_SECONDS = 0.05


@dataclass
class Record:
    """`stamps` are (bytes, time) of the files that were checked: others of them mean that a file was changed."""

    manifest: Manifest
    stamps: dict[str, tuple[int, int]] = field(default_factory=dict)

    def has(self, folder: Path, entry: Entry) -> bool:
        with contextlib.suppress(OSError):
            return entry.path in self.stamps and stamp(folder / entry.path) == self.stamps[entry.path]
        return False

    def note(self, folder: Path, entry: Entry) -> None:
        with contextlib.suppress(OSError):
            self.stamps[entry.path] = stamp(folder / entry.path)

    def write(self, folder: Path) -> None:
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        manifest = json.loads(self.manifest.to_bytes())
        write_json(folder / FOLDER / f"{self.manifest.part}.json", {"manifest": manifest, "stamps": self.stamps})


def read(folder: Path, part: str) -> Record | None:
    """None where nothing of the part is here, or nobody knows what."""
    try:
        value = json.loads((folder / FOLDER / f"{part}.json").read_text(encoding="utf-8"))
        told = value["manifest"]
        manifest = Manifest.from_bytes(json.dumps(told).encode(), folder.name, part, told["attempt"])
        return Record(manifest, {path: (int(size), int(at)) for path, (size, at) in value["stamps"].items()})
    except (FtqError, *UNREADABLE):
        return None


@contextlib.contextmanager
def locked(folder: Path, while_waiting: Callable[[], None] = lambda: time.sleep(LOCK_SECONDS)) -> Iterator[None]:
    """One process at a time moves files of the run on this machine."""
    with _lock(folder, "lock") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                while_waiting()
        yield


def note_that_it_runs(folder: Path, stage: str) -> None:
    """The stage's log on this machine is its own from now on."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    (folder / FOLDER / f"ran.{stage}").touch()


def ran_here(folder: Path, stage: str) -> bool:
    return (folder / FOLDER / f"ran.{stage}").exists()


@contextlib.contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Nobody takes the run's files from this machine while the block runs."""
    with _lock(folder, "use") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        os.utime(file)
        yield


@contextlib.contextmanager
def unused(folder: Path) -> Iterator[bool]:
    """Whether nobody uses the run's files on this machine; nobody begins to while the block runs."""
    with _lock(folder, "use") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def used_at(folder: Path) -> float:
    """When the run's files were last fetched, sent or read here."""
    try:
        return (folder / FOLDER / "use").stat().st_mtime
    except OSError:
        return 0.0


@contextlib.contextmanager
def _lock(folder: Path, name: str) -> Iterator[int]:
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    file = os.open(folder / FOLDER / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        yield file
    finally:
        os.close(file)
