"""What runs take in the bucket, and deleting it there and here."""

from __future__ import annotations

from pathlib import Path

from ftq.client.bucket.files import BucketFiles
from ftq.client.removal import Room, is_recorded
from ftq.files import disk
from ftq.files.remote.record import FOLDER
from ftq.settings import Settings
from ftq.store.records import Run
from ftq.store.store import RunStore


class BucketRoom(Room):
    """A deletion that didn't reach the bucket leaves its mark on this machine: `gc` goes on with it."""

    def __init__(self, store: RunStore, settings: Settings, files: BucketFiles) -> None:
        super().__init__(store, settings.home)
        self._share = files.share

    def size(self, run: Run) -> int:
        """Bytes in the bucket; each run has its own copy of everything."""
        return sum(self._share.bucket.sizes(run.id).values())

    def freed(self, runs: list[Run]) -> int:
        return sum(self.size(run) for run in runs)

    def staying(self, runs: list[Run]) -> int:
        return 0

    def leftovers(self) -> list[tuple[Path, int]]:
        """Also this machine's copies of runs that were deleted on another."""
        copies = sorted(mark.parent for mark in self._home.glob(f"[!.]*/{FOLDER}"))
        gone = [folder for folder in copies if not (folder / ".submitting").exists()]
        gone = [folder for folder in gone if not is_recorded(self._store, folder.name)]
        return [*super().leftovers(), *((folder, disk.size_of(folder)) for folder in gone)]

    def remove(self, run: Run, old: bool = False) -> None:
        self._path(run).mkdir(parents=True, exist_ok=True)  # what is renamed aside, and is the mark
        super().remove(run, old)

    def clear(self, leftover: Path) -> None:
        """Delete what the bucket has of a deleted run, then what is left of it here."""
        run_id = leftover.name.removeprefix(".").partition(".")[0]
        if leftover.parent == self._home and not is_recorded(self._store, run_id):
            self._share.forget_run(run_id)
        super().clear(leftover)
