"""What runs take in the bucket, and deleting it there and here."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ftq.client.bucket.files import BucketFiles
from ftq.client.removal import UPLOADS, Room, is_recorded
from ftq.errors import NotFound, Unavailable
from ftq.files import disk
from ftq.files.remote.record import FOLDER
from ftq.settings import Settings
from ftq.store.records import Run
from ftq.store.store import RunStore

GIVEN_UP_SECONDS = 86_400.0  # without which a submit that is on its way now would be cut


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
        return [*super().leftovers(), *((folder, disk.size_of(folder)) for folder in gone), *self._given_up()]

    def _given_up(self) -> Iterator[tuple[Path, int]]:
        """What began to go up, and nobody goes on with: S3 keeps it, and it costs as much as what is whole."""
        uploads = Counter[str]()
        with contextlib.suppress(Unavailable):  # without the bucket the rest can be deleted all the same
            for one in self._share.bucket.begun():
                if one.age > GIVEN_UP_SECONDS:
                    uploads[one.key.partition("/")[0]] += one.bytes
        for run_id, size in sorted(uploads.items()):
            if not self._may_go_on(run_id):
                yield self._home / f".{run_id}{UPLOADS}", size

    def _may_go_on(self, run_id: str) -> bool:
        with contextlib.suppress(NotFound):
            return not self._store.get(run_id).is_finished
        return False

    def remove(self, run: Run, old: bool = False) -> None:
        self._path(run).mkdir(parents=True, exist_ok=True)  # what is renamed aside, and is the mark
        super().remove(run, old)

    def clear(self, leftover: Path) -> None:
        """Delete what the bucket has of a deleted run, then what is left of it here."""
        run_id = leftover.name.removeprefix(".").partition(".")[0]
        if leftover.suffix == UPLOADS:
            self._share.bucket.give_up(*self._share.bucket.begun(run_id))
            return
        if leftover.parent == self._home and not is_recorded(self._store, run_id):
            self._share.forget_run(run_id)
        super().clear(leftover)
