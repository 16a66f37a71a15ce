"""Room on the disk: deleting a run's files, and finding what nothing needs."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from ftq.client.bucket import place
from ftq.errors import FtqError, NotFound, Refused, Unavailable, UserError, is_disk_full
from ftq.files import disk, run_dir, uploads
from ftq.files.run_dir import RunDir
from ftq.settings import Settings, cache_dir
from ftq.store.records import Run
from ftq.store.store import RunStore
from ftq.words import plural, size

UNUSED = 7 * 86_400  # seconds without a read of a base model's GGUF in the cache, which is made again within minutes
# They end the name of what stands for a run in the bucket: for its uploads that were stopped, for one that the database
# doesn't know, and for one of which nothing says whose it is; and of what stands for an object that a probe has left.
UPLOADS, UNKNOWN, ORPHAN, PROBE = ".uploads", ".unknown", ".orphan", ".probe"

# In folders that stay: files and attempts that were being written, and the marks of submits and deletions.
_INSIDE = ("*.partial", ".submitting", "checkpoints/.*.partial", "checkpoints/*/*/.*.partial", ".bucket/.*.partial")
_OURS = ("broker", "flower")  # folders that aren't a run's


class Room:
    """What runs take on the disk, what `gc` may delete of it, and deleting it."""

    def __init__(self, store: RunStore, settings: Settings) -> None:
        self._store, self._home, self._url = store, settings.home, settings.artifacts_url

    def removable(self, last: int) -> list[tuple[Run, int]]:
        """(run, bytes) that `gc` would delete: finished and not kept.

        The last `last` that succeeded stay, and the last `last` of the others: those never take the place of a model.
        What is `latest` of its name is spared too (`spared`). UserError if the workers use another bucket than is named
        here, or all of these runs are in another one.
        """
        if differs := place.other_bucket(self._store.workers(), self._url):
            raise UserError(*differs)
        old, _ = self._old(last)
        elsewhere = self._elsewhere(old)
        if old and len(elsewhere) == len(old):
            raise elsewhere[old[0].id]
        return [(run, self.size(run)) for run in old if run.id not in elsewhere]

    def spared(self, last: int) -> list[str]:
        """Why `gc` leaves old runs alone: what is `latest` of its name, and what has its files in another bucket."""
        old, latest = self._old(last)
        told = [error.message for error in self._elsewhere(old).values()]
        if latest:
            command = f"`ftq rm {' '.join(sorted(latest))}`"
            what, them = ("the latest of its name", "it") if len(latest) == 1 else ("the latest of their names", "them")
            told.append(f"{plural(len(latest), 'old version')}, {what}; {command} deletes {them} all the same")
        return told

    def check(self, run: Run) -> None:
        """UserError if deleting the run here would leave its files in another bucket."""
        place.check_removal(self._store, self._url, run, self._has)

    def size(self, run: Run) -> int:
        return disk.size_of(self._path(run))

    def freed(self, runs: list[Run]) -> int:
        """Bytes that deleting the runs gives back; what another run or an uploaded file has too stays."""
        return disk.freed_by([self._path(run) for run in runs])

    def staying(self, runs: list[Run]) -> int:
        """Bytes of these runs' files that deleting them doesn't give back."""
        return disk.staying_of([self._path(run) for run in runs])

    def leftovers(self, orphans: bool = False) -> list[tuple[Path, int]]:
        """(path, bytes) of what nothing needs; `why` says why, `clear` deletes one.

        It is left of deletions and killed submits, or lies in this machine's cache. With `orphans` also what may be
        another database's (`is_orphan`).
        """
        submits = [mark.parent for mark in self._home.glob("[!.]*/.submitting")]
        lost = [folder for folder in submits if not is_recorded(self._store, folder.name)]
        stopped = filter(disk.is_abandoned, [*self._home.glob(".*.partial"), *lost])
        paths = [*sorted([*stopped, *self._home.glob(".*.deleted")]), *sorted(self._inside())]
        paths += [*uploads.stopped(self._home), *sorted(_unused(cache_dir()))]
        return [(path, disk.size_of(path)) for path in paths]

    def _inside(self) -> Iterator[Path]:
        """What was stopped in a folder that stays: of a run that the database knows and that isn't running, or ours."""
        paths = [path for names in _INSIDE for path in self._home.glob(f"[!.]*/{names}") if disk.is_abandoned(path)]
        found = {path: path.relative_to(self._home).parts[0] for path in paths}
        idle = {run.id for run in self._store.some([*found.values()]) if run.status != "running"}
        return (path for path, folder in found.items() if folder in idle or folder in _OURS)

    def old_questions(self) -> int:
        """How many questions, with their answers, are older than a day; `forget_questions` deletes them."""
        return self._store.count_questions()

    def forget_questions(self) -> None:
        self._store.forget_questions()

    def remove(self, run: Run, old: bool = False) -> None:
        """Delete a run's record and its files. Refused while it is running; with `old` also if `gc` has to spare it.

        The files get a mark before the record goes: what can't be deleted then, or not before a kill, is a leftover.
        UserError if they are in another bucket.
        """
        self.check(run)
        folder = RunDir(self._folder(run))
        aside = folder.path.with_name(f".{run.id}.deleted")
        try:
            self._store.delete(run.id, lambda: _mark(folder), old=old)
        except BaseException:
            with contextlib.suppress(FtqError):  # of a run that is gone, and in doubt, the mark stays
                self._store.get(run.id)
                run_dir.remove(folder.submitting)
            raise
        try:
            with contextlib.suppress(FileNotFoundError):
                folder.path.rename(aside)
        except OSError as error:
            message = f"{run.name} is deleted, its files aren't yet: {folder.path} can't be renamed ({error.strerror})"
            raise Unavailable(message, f"Make {self._home} writable for you; an hour later `ftq gc` goes on.") from None
        self.clear(aside)

    def clear(self, leftover: Path) -> None:
        try:
            if leftover.parent == self._home / uploads.FOLDER:
                uploads.settle(leftover, self._store.files.recorded)
            else:
                run_dir.remove(leftover)
        except FileNotFoundError:
            pass  # another client deletes it at this moment
        except OSError as error:
            if in_use := _hidden(leftover):
                raise Unavailable(
                    f"a file of {leftover} is in use ({in_use}): a worker may still have the model loaded",
                    "`ftq gc` deletes the rest once it is closed: a worker closes a model that nobody asks.",
                ) from None
            raise Unavailable(
                f"{leftover} can't be deleted: {error.filename} ({error.strerror})",
                f"`chmod -R u+w {leftover}` as its owner, then `ftq gc` deletes it.",
            ) from None

    def _old(self, last: int) -> tuple[list[Run], list[str]]:
        """(the old runs that may go, the names of the versions that are old too and `latest`)."""
        finished = [run for run in self._store.all() if run.is_finished and not run.kept]
        models = [run.id for run in finished if run.status == "succeeded"]
        others = [run.id for run in finished if run.status != "succeeded"]
        ids = {*models[last:], *others[last:]}
        old = [run for run in finished if run.id in ids]
        latest = self._store.latest() if old else set[str]()
        names = [run.version_name for run in old if run.version_name in latest]
        return [run for run in old if run.version_name not in latest], [name for name in names if name]

    def _elsewhere(self, runs: list[Run]) -> dict[str, Refused]:
        return place.elsewhere(self._store, self._url, runs, self._has)

    def _has(self, run: Run) -> bool:
        """Whether all of the run's files are here although they went into another bucket."""
        return False

    def _folder(self, run: Run) -> Path:
        """What goes aside."""
        return self._path(run)

    def _path(self, run: Run) -> Path:
        return run_dir.run_dir(self._home, run.id).path


def _hidden(leftover: Path) -> str:
    """A file that FUSE or NFS keeps under another name because it is open, if that is all that is left."""
    left = [name for _, _, names in os.walk(leftover) for name in names]
    return left[0] if left and all(name.startswith((".fuse_hidden", ".nfs")) for name in left) else ""


def is_orphan(leftover: Path) -> bool:
    """Whether nothing says whose it is."""
    return leftover.suffix == ORPHAN


def placed(path: Path, places: Mapping[str, Path]) -> tuple[str, str]:
    """(the first of the places that the path is in, its name there)."""
    place = next(name for name, folder in places.items() if path.is_relative_to(folder))
    return place, path.relative_to(places[place]).as_posix()


def why(leftover: Path, home: Path) -> str:
    """Why nothing needs the leftover. `home` is the artifacts folder."""
    if leftover.parent == cache_dir():
        return "in the cache, and not used any more"
    if leftover.suffix == UPLOADS:
        return "uploads to the bucket were stopped there"
    if leftover.suffix == PROBE:
        return "a try to write to the bucket was stopped there"
    if leftover.suffix in (UNKNOWN, ORPHAN):
        return "a run in the bucket that the database doesn't know"
    if leftover.parent.name == uploads.FOLDER:
        return "an upload was stopped there"
    if leftover.name == ".submitting":
        return "a submit or a deletion was stopped there"
    if leftover.is_relative_to(home) and leftover.parent != home:
        return "writing it was stopped there"
    if leftover.name.startswith("."):
        return f"a {'deletion' if leftover.suffix == '.deleted' else 'submit'} was stopped there"
    is_half = (leftover / ".submitting").exists()
    return "a submit or a deletion was stopped there" if is_half else "a copy of a run that was deleted"


def shared(staying: int) -> str:
    """What deleting doesn't give back, as a sentence after that which it does; nothing where all goes."""
    return f" {size(staying)} are shared with other runs or uploaded files and stay." if staying else ""


def is_recorded(store: RunStore, run_id: str) -> bool:
    """Whether the run is in the database. True if the database is unreachable: files are kept in doubt."""
    with contextlib.suppress(FtqError):
        try:
            store.get(run_id)
        except NotFound:
            return False
    return True


def cannot_write(home: Path, error: OSError) -> Unavailable:
    if is_disk_full(error):
        hint = "Make room there (`ftq gc` deletes old runs), or set FTQ_HOME to another folder."
        return Unavailable(f"the disk is full ({home})", hint)
    hint = "Make the artifacts folder writable for you, or set FTQ_HOME to another."
    return Unavailable(f"{error.filename or home} can't be written ({error.strerror})", hint)


def _unused(cache: Path) -> Iterator[Path]:
    """What nothing needs in the cache: folders of earlier versions, unfinished files, unused GGUFs of base models."""
    for name in ("four_bit", "smollm2-135m"):
        yield from cache.glob(name)
    yield from filter(disk.is_abandoned, cache.glob(".*.partial"))
    for path in cache.glob("base-*.gguf"):
        with contextlib.suppress(OSError):
            if time.time() - max(path.stat().st_atime, path.stat().st_mtime) > UNUSED:
                yield path


def _mark(folder: RunDir) -> None:
    """Mark the files of a run that is to be deleted, if there are any. Unavailable if nothing can be deleted there."""
    try:
        if folder.path.is_dir():
            folder.submitting.touch()
            run_dir.sync(folder.path)
    except OSError as error:
        if not is_disk_full(error):  # that keeps nobody from making room
            raise cannot_write(folder.path, error) from None
