"""The bytes of the gateway's files and of uploads' parts: FTQ_HOME/files/<id>.

A file is written as `.<id>.<random>.partial`, synced, and linked to its name; then its row is written, and the partial
goes. A partial without a writer is left of a process that was killed: `settle` looks for the row and keeps all or
nothing. A file without a partial is never touched, whatever database is asked. Names that clients send are no paths.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Self

from ftq.errors import FtqError
from ftq.files.disk import is_abandoned
from ftq.files.run_dir import sync

FOLDER = "files"
READ_AT_ONCE = 2**20  # bytes

Recorded = Callable[[Collection[str]], set[str]]  # those of some ids that have a row


def path_of(home: Path, file_id: str) -> Path:
    """Where a file's bytes are. FtqError for an id that could name another place: others may write to the database."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", file_id):
        raise FtqError(f"{file_id!r} is no file's id", "The database was written by something else than ftq.")
    return home / FOLDER / file_id


class Writer:
    """Writes the bytes of a file and hashes them, as a context manager in which the row is written too.

    A block that fails before `finish` leaves nothing, one that fails after it a partial to `settle`. OSError if the
    disk is full.
    """

    def __init__(self, home: Path, file_id: str) -> None:
        self.path = path_of(home, file_id)
        self.partial = _new_partial(self.path)
        self.bytes = 0
        self._hash = hashlib.sha256()
        self._file: IO[bytes] | None = None
        self._finished = False

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.partial.open("xb", buffering=0)
        return self

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        assert self._file
        rest = memoryview(piece)
        self._hash.update(rest)
        self.bytes += len(rest)
        while rest:  # a raw write may take less than all
            rest = rest[self._file.write(rest) :]

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._hash.hexdigest()

    def finish(self) -> None:
        """Put the file in place, to stay there after a power cut."""
        assert self._file
        os.fsync(self._file.fileno())
        self._file.close()
        self._finished = True
        try:
            os.link(self.partial, self.path)
        except OSError:  # a file system without links, or a result file that another process makes at this moment
            os.replace(self.partial, self.path)
        sync(self.path.parent)

    def withdraw(self) -> None:
        """Take the file away again, which gets no row. In the block, so that a kill leaves it to `settle`."""
        self.path.unlink(missing_ok=True)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file:
            self._file.close()
        if kind is None or not self._finished:
            self.partial.unlink(missing_ok=True)


def pieces_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(READ_AT_ONCE):
            yield piece


@contextlib.contextmanager
def removing(home: Path, file_id: str) -> Iterator[None]:
    """Delete a file's bytes after the block has deleted its row: killed between, `settle` goes on."""
    path = path_of(home, file_id)
    partial = _new_partial(path)
    with contextlib.suppress(OSError):
        os.link(path, partial)
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


def _new_partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
