"""Copying one file so that its name means that it is whole, and that a copy that was stopped goes on.

The bytes go into NAME.part first. What a killed copy has left there is compared with the source, and kept as far as it
is the same; so a torn end or the file of another run does no harm.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ftq.delivery.parts import Elsewhere, Part
from ftq.errors import FtqError, Refused, Unavailable
from ftq.files.disk import COPIED_AT_ONCE, digest_of
from ftq.files.run_dir import sync

PART = ".part"
UNLOCKED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # a file system that has no locks


def copy(part: Part, folder: Path, run: str, moved: Callable[[int], None]) -> str:
    """Put the file of a run into the folder and return its SHA-256. FtqError if it isn't what the export has recorded.

    `moved` gets the number of bytes with each piece.
    """
    target = folder / part.name
    partial = target.with_name(target.name + PART)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _source(part) as source, _locked(partial) as out:
            digest = source.download(out, moved) if isinstance(source, Elsewhere) else _copy(source, out, moved)
            if part.sha256 and digest != part.sha256:
                partial.unlink()
                raise damaged(part, run)
            os.replace(partial, target)
        sync(target.parent)
    except OSError as error:
        raise cannot(target, error) from None
    return digest


def sha256(part: Part) -> str:
    """The checksum of what is there now."""
    with part.open() as source:
        return digest_of(source)


def damaged(part: Part, run: str) -> FtqError:
    return FtqError(
        f"{part.source!s} is damaged: its SHA-256 isn't the one that the export recorded",
        f"`ftq retry {run} --from export` makes it anew. Check the disk that the artifacts are on.",
    )


def cannot(target: Path, error: OSError) -> Unavailable:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(f"the disk is full ({target.parent})", "Make room; the same command then goes on.")
    return Unavailable(f"{error.filename or target} can't be used ({error.strerror})", "Is it there, and yours?")


@contextlib.contextmanager
def _source(part: Part) -> Iterator[BinaryIO | Elsewhere]:
    if isinstance(part.source, Elsewhere):
        yield part.source
        return
    with part.open() as file:
        yield file


def _copy(source: BinaryIO, out: BinaryIO, moved: Callable[[int], None]) -> str:
    """Make `out` the same as `source`, and sync it. What it holds already is read, not written."""
    digest, there, done = hashlib.sha256(), True, 0
    while chunk := source.read(COPIED_AT_ONCE):
        there = there and out.read(len(chunk)) == chunk
        if not there:
            out.seek(done)
            out.write(chunk)
        digest.update(chunk)
        done += len(chunk)
        moved(len(chunk))
    out.truncate(done)
    out.flush()
    os.fsync(out.fileno())
    return digest.hexdigest()


@contextlib.contextmanager
def _locked(partial: Path) -> Iterator[BinaryIO]:
    """The partial file, open and locked: two that write into it at once would leave holes."""
    busy = Refused(f"another pull writes {partial}", "Wait for it, or give another folder: --to DIR")
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with open(descriptor, "r+b") as out:
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        except OSError as error:
            if error.errno not in UNLOCKED:
                raise
        if not (partial.exists() and os.path.samestat(partial.stat(), os.fstat(out.fileno()))):
            raise busy  # it has just put its file in place
        yield out
