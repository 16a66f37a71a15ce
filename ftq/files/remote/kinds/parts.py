"""What every kind of bucket does for an object in parts, and the checksums that tell which parts it has."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

PART = 2**24  # bytes: a file above this size goes up in parts, the larger ones in larger parts
MOST = 10_000  # parts that an object may have on S3
MIB = 2**20
Value = TypeVar("Value")


class Do(Protocol):
    """Calls an action with the file system and the object's path. Gone, or OutOfReach."""

    def __call__(self, action: Callable[[Any, str], Value]) -> Value: ...


class Parts(Protocol):
    """One object on its way into the bucket. Threads may share it."""

    def left(self, sums: Sums) -> list[int] | None:
        """The indexes of the parts that the bucket hasn't got with these bytes; None if the whole object is there."""

    def begin(self) -> None:
        """Have something to send parts to. An upload that `left` has seen is gone on with."""

    def send(self, index: int, data: bytes, part: bytes) -> None:
        """Send one part, whose MD5 is `part`."""

    def finish(self, sums: Sums) -> None:
        """Make the object of its parts. Gone if somebody else has ended the upload."""


@dataclass(frozen=True)
class Sums:
    """`parts` are MD5s: that is what the servers tell of a part. What counts in the end is the manifest's SHA-256."""

    size: int
    sha256: str
    part: int
    parts: tuple[bytes, ...]

    @classmethod
    def of(cls, file: Path, read: Callable[[], None]) -> Sums:
        """Read the file once. `read` is called after each part."""
        size, whole, parts = file.stat().st_size, hashlib.sha256(), list[bytes]()
        length = _length(size)
        with file.open("rb") as source:
            while piece := source.read(min(length, size)):  # a buffer of so many bytes: a small file needs no large one
                whole.update(piece)
                parts.append(md5(piece))
                read()
        return cls(size, whole.hexdigest(), length, tuple(parts))

    @property
    def joined(self) -> str:
        """What S3 calls an object that went up in these parts, its ETag."""
        return f"{md5(b''.join(self.parts)).hex()}-{len(self.parts)}"

    def length(self, index: int) -> int:
        """Bytes of one part."""
        return min(self.part, self.size - index * self.part)


def md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _length(size: int) -> int:
    """Bytes of a part: a function of the file's size alone, so that a later attempt cuts it at the same places."""
    return max(PART, -(-size // (MOST * MIB)) * MIB)
