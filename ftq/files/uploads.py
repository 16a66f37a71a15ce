"""The bytes of the gateway's files and of uploads' parts: FTQ_HOME/files/<id>.

A file is written as `.<id>.partial`, synced, and renamed; then its row is written. So what is killed leaves a
partial, or a file without a row. Names that clients send are never part of a path.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Self

from ftq.errors import FtqError
from ftq.files.run_dir import sync

FOLDER = "files"
UNTOUCHED = 3600  # seconds without a write: its writer has died
READ_AT_ONCE = 2**20  # bytes


def path_of(home: Path, file_id: str) -> Path:
    """Where a file's bytes are. FtqError for an id that could name another place: others may write to the database."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", file_id):
        raise FtqError(f"{file_id!r} is no file's id", "The database was written by something else than ftq.")
    return home / FOLDER / file_id


class Writer:
    """Writes the bytes of a file and hashes them. What isn't put in place by `finish` is deleted at the end.

    As a context manager; OSError if the disk is full.
    """

    def __init__(self, home: Path, file_id: str) -> None:
        self.path = path_of(home, file_id)
        self.partial = self.path.with_name(f".{file_id}.partial")
        self.bytes = 0
        self._hash = hashlib.sha256()
        self._file: IO[bytes] | None = None

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

    def finish(self) -> str:
        """Put the file in place, to stay there after a power cut. Its SHA-256."""
        assert self._file
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self.partial, self.path)
        sync(self.path.parent)
        return self._hash.hexdigest()

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()
        self.partial.unlink(missing_ok=True)


def pieces_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(READ_AT_ONCE):
            yield piece


def remove(home: Path, file_id: str) -> None:
    path_of(home, file_id).unlink(missing_ok=True)


def leftovers(home: Path, recorded: Callable[[Collection[str]], set[str]]) -> list[Path]:
    """What writers that were killed and expired files have left. `recorded` says which ids have a row."""
    old = [path for path in (home / FOLDER).glob("*") if _is_untouched(path)]
    partials = [path for path in old if path.name.startswith(".") and path.suffix == ".partial"]
    whole = [path for path in old if not path.name.startswith(".")]
    living = recorded([path.name for path in whole]) if whole else set[str]()
    return sorted([*partials, *(path for path in whole if path.name not in living)])


def _is_untouched(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return time.time() - path.lstat().st_mtime > UNTOUCHED
    return False
