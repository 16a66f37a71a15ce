"""Which kinds of bucket take an object in parts, and what was begun there and never ended."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ftq.files.remote.parts import s3
from ftq.files.remote.parts.parts import Do, Parts


@dataclass(frozen=True)
class Begun:
    """An object that isn't whole: its key, relative to the URL, the bytes that it has, the seconds since it began."""

    key: str
    bytes: int
    age: float
    upload: Any


def parts_of(scheme: str, do: Do) -> Parts | None:
    return s3.S3Parts(do) if scheme == "s3" else None


def begun(scheme: str, fs: Any, path: str, top: str) -> list[Begun]:
    """What has begun below the path; `top` is the URL's. Azure forgets it after a week, and tells nobody of it."""
    if scheme != "s3":
        return []
    now, above = time.time(), len(top.partition("/")[2])
    return [
        Begun(one["Key"][above:].lstrip("/"), s3.size(fs, path, one), now - one["Initiated"].timestamp(), one)
        for one in s3.unfinished(fs, path)
    ]


def end(fs: Any, path: str, upload: Begun) -> None:
    s3.abort(fs, path, upload.upload)
