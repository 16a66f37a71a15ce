"""The bytes of the gateway's files and of uploads' parts: FTQ_HOME/files/<id>.

A file is written as `.<id>.<random>.partial`, synced, and linked to its name; then its row is written, and the partial
goes. A deletion makes a partial first, too. One without a writer is left of a process that was killed: `settle` looks
for the row and keeps all or nothing. A file without a partial is never touched, whatever database is asked. Names that
clients send are no paths.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Self

from ftq.errors import FtqError
from ftq.files.disk import beside, is_abandoned
from ftq.files.run_dir import sync

FOLDER = "files"
READ_AT_ONCE = 2**20  # bytes
LARGE = 2**18  # bytes; a smaller piece is hashed sooner than another thread takes it
SYNC_AT_ONCE = 2**26  # bytes that go to the disk while more come, so that the last of them don't wait for all

Recorded = Callable[[Collection[str]], set[str]]  # those of some ids that have a row


def path_of(home: Path, file_id: str) -> Path:
    """Where a file's bytes are. FtqError for an id that could name another place: others may write to the database."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", file_id):
        raise FtqError(f"{file_id!r} is no file's id", "The database was written by something else than ftq.")
    return home / FOLDER / file_id


class Writer:
    """Writes the bytes of a file and hashes them, as a context manager in which the row is written too.

    A block that fails before `finish` leaves nothing, one that fails after it a partial to `settle`. OSError if the
    disk is full. A large piece is hashed, and what was written is synced, while the caller goes on.
    """

    def __init__(self, home: Path, file_id: str) -> None:
        self.path = path_of(home, file_id)
        self.partial = beside(self.path)
        self.bytes = 0
        self._hash = hashlib.sha256()
        self._file: IO[bytes] | None = None
        self._finished = False
        self._helpers = ThreadPoolExecutor(2, "upload")  # has no thread until it has work
        self._hashing: Future[None] | None = None
        self._syncing: Future[None] | None = None
        self._unsynced = 0  # bytes

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.partial.open("xb", buffering=0)
        return self

    def write(self, piece: bytes) -> None:
        assert self._file
        _wait_for(self._hashing)
        if len(piece) < LARGE:
            self._hash.update(piece)
        else:
            self._hashing = self._helpers.submit(self._hash.update, piece)
        self.bytes += len(piece)
        self._unsynced += len(piece)
        rest = memoryview(piece)
        while rest:  # a raw write may take less than all
            rest = rest[self._file.write(rest) :]
        if self._unsynced >= SYNC_AT_ONCE and (self._syncing is None or self._syncing.done()):
            _wait_for(self._syncing)
            self._syncing, self._unsynced = self._helpers.submit(os.fdatasync, self._file.fileno()), 0

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        _wait_for(self._hashing)
        return self._hash.hexdigest()

    def finish(self) -> None:
        """Put the file in place, to stay there after a power cut."""
        assert self._file
        _wait_for(self._syncing)  # what the disk refused is told once
        os.fsync(self._file.fileno())
        self._file.close()
        self._finished = True
        try:
            os.link(self.partial, self.path)
        except OSError:  # a file system without links, or a result file that another process makes at this moment
            mark = beside(self.path)
            mark.touch()  # for `settle`, in the place of the partial that is renamed
            os.replace(self.partial, self.path)
            self.partial = mark
        sync(self.path.parent)

    def withdraw(self) -> None:
        """Take the file away again, which gets no row. In the block, so that a kill leaves it to `settle`."""
        self.path.unlink(missing_ok=True)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._helpers.shutdown(wait=False, cancel_futures=True)
        if self._file:
            self._file.close()
        if kind is None or not self._finished:
            self.partial.unlink(missing_ok=True)


def _wait_for(task: Future[Any] | None) -> None:
    """Until the task is done; what it raised is raised here."""
    if task:
        task.result()


def pieces_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(READ_AT_ONCE):
            yield piece


@contextlib.contextmanager
def removing(home: Path, file_id: str) -> Iterator[None]:
    """Delete a file's bytes after the block has deleted its row: killed between, `settle` goes on."""
    path = path_of(home, file_id)
    partial = beside(path)
    with contextlib.suppress(OSError):  # a full disk keeps nobody from deleting
        partial.touch()
    yield
    path.unlink(missing_ok=True)
    partial.unlink(missing_ok=True)


def stopped(home: Path) -> list[Path]:
    """The partials of writers and deletions that were killed."""
    return sorted(path for path in (home / FOLDER).glob(".*.partial") if is_abandoned(path))


def settle(partial: Path, recorded: Recorded) -> None:
    """Keep a file that has a row, delete what has none."""
    file_id = partial.name.split(".")[1]
    if not recorded([file_id]):
        partial.with_name(file_id).unlink(missing_ok=True)
    partial.unlink(missing_ok=True)
