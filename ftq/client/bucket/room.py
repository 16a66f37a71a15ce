"""What runs take in the bucket, and deleting it there and here."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ftq.client.bucket import unknown
from ftq.client.bucket.files import BucketFiles
from ftq.client.removal import ORPHAN, PROBE, UNKNOWN, UPLOADS, Room, is_recorded
from ftq.errors import NotFound
from ftq.files import disk
from ftq.files.remote.bucket import OutOfReach
from ftq.files.remote.record import FOLDER
from ftq.settings import Settings
from ftq.store.records import Run
from ftq.store.store import RunStore

GIVEN_UP_SECONDS = 86_400.0  # without which a submit that is on its way now would be cut


class BucketRoom(Room):
    """A deletion that didn't reach the bucket leaves its mark on this machine: `gc` goes on with it."""

    def __init__(self, store: RunStore, settings: Settings, files: BucketFiles) -> None:
        super().__init__(store, settings)
        self._files, self._share = files, files.share

    def removable(self, last: int) -> list[tuple[Run, int]]:
        """OutOfReach without the bucket: nobody knows then what there is to delete."""
        removable = super().removable(last)
        self._share.bucket.probe()
        return removable

    def size(self, run: Run) -> int:
        """Bytes in the bucket; each run has its own copy of everything."""
        return sum(self._share.bucket.sizes(run.id).values())

    def freed(self, runs: list[Run]) -> int:
        return sum(self.size(run) for run in runs)

    def staying(self, runs: list[Run]) -> int:
        return 0

    def leftovers(self, orphans: bool = False) -> list[tuple[Path, int]]:
        """Also this machine's copies of runs that were deleted on another, and what only the bucket has.

        OutOfReach without the bucket: nobody knows then what there is.
        """
        copies = sorted(mark.parent for mark in self._home.glob(f"[!.]*/{FOLDER}"))
        gone = [folder for folder in copies if not (folder / ".submitting").exists() and disk.is_abandoned(folder)]
        gone = [folder for folder in gone if not is_recorded(self._store, folder.name)]
        copies_of_gone = [(folder, disk.size_of(folder)) for folder in gone]
        return [*super().leftovers(), *copies_of_gone, *self._given_up(), *self._probes(), *self._unknown(orphans)]

    def _unknown(self, orphans: bool) -> Iterator[tuple[Path, int]]:
        """Runs that the database doesn't know, such as that of a submit that was killed on another machine."""
        for one in unknown.unknown(self._share.bucket, self._store):
            if one.is_ours or orphans:
                yield self._home / f".{one.run_id}{UNKNOWN if one.is_ours else ORPHAN}", one.bytes

    def _given_up(self) -> Iterator[tuple[Path, int]]:
        """What began to go up, and nobody goes on with: S3 keeps it, and it costs as much as what is whole."""
        uploads = Counter[str]()
        for one in self._share.bucket.begun():
            if one.age > GIVEN_UP_SECONDS:
                uploads[one.key.partition("/")[0]] += one.bytes
        for run_id, size in sorted(uploads.items()):
            if not self._may_go_on(run_id):
                yield self._home / f".{run_id}{UPLOADS}", size

    def _probes(self) -> Iterator[tuple[Path, int]]:
        """What somebody has put there to see whether it can be, and didn't come to delete."""
        for key, one in sorted(self._share.bucket.tried().items()):
            if time.time() - one.changed_at > GIVEN_UP_SECONDS:
                yield self._home / f"{key}{PROBE}", one.bytes

    def _may_go_on(self, run_id: str) -> bool:
        try:
            return not self._store.get(run_id).is_finished
        except NotFound:
            return not unknown.databases_of(self._share.bucket, run_id) <= {self._store.identity}

    def remove(self, run: Run, old: bool = False) -> None:
        """Delete a run. OutOfReach also where its record is gone and the bucket keeps its files for now."""
        try:
            super().remove(run, old)
        except OutOfReach as error:
            if is_recorded(self._store, run.id):
                raise
            again = f"{error.hint} `ftq gc` on this machine deletes them then.".strip()
            raise OutOfReach(f"{run.name} is deleted, its files aren't yet: {error.message}", again) from None

    def clear(self, leftover: Path) -> None:
        """Delete what the bucket has of a deleted run, then what is left of it here."""
        if leftover.suffix == PROBE:
            self._share.bucket.delete(leftover.stem)
            return
        run_id = leftover.name.removeprefix(".").partition(".")[0]
        if leftover.suffix == UPLOADS:
            self._share.bucket.give_up(*self._share.bucket.begun(run_id))
            return
        if leftover.parent == self._home and not is_recorded(self._store, run_id):
            databases = unknown.databases_of(self._share.bucket, run_id)
            is_chosen = leftover.name.startswith(".") or (leftover / ".submitting").exists()
            if databases == {self._store.identity} or (is_chosen and not databases):
                self._share.forget_run(run_id)
        if leftover.suffix not in (UNKNOWN, ORPHAN):
            super().clear(leftover)

    def _has(self, run: Run) -> bool:
        return self._files.has(run)

    def _folder(self, run: Run) -> Path:
        folder = self._path(run)
        folder.mkdir(parents=True, exist_ok=True)  # it is the mark of a deletion that didn't reach the bucket
        return folder
