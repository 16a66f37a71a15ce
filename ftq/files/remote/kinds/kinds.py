"""Which kinds of bucket take an object in parts, and what was begun there and never ended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ftq.files.remote.kinds import azure, google, s3
from ftq.files.remote.kinds.parts import Do, Parts

LOCAL = "file"


@dataclass(frozen=True)
class Begun:
    """An object that isn't whole: its key, relative to the URL, the bytes that it has, the seconds since it began."""

    key: str
    bytes: int
    age: float
    upload: Any


@dataclass(frozen=True)
class Object:
    """A whole object: its bytes, and when it was written, by the server's clock."""

    bytes: int
    changed_at: float


def kind_of(scheme: str) -> str:
    """s3, gs, az or file; some have two names."""
    return {"gcs": "gs", "abfs": "az"}.get(scheme, scheme)


def takes_name(kind: str, path: str) -> bool:
    """Azure's library loses the `?` of `?#` when it lists."""
    return kind != "az" or "?#" not in path


def parts_of(kind: str, do: Do) -> Parts | None:
    known: dict[str, Callable[[Do], Parts]] = {"s3": s3.S3Parts, "gs": google.GoogleParts, "az": azure.AzureParts}
    return known[kind](do) if kind in known else None


def object_of(info: dict[str, Any]) -> Object:
    """What a list says of an object. Each library has a word of its own for its time."""
    at = next((info[name] for name in ("LastModified", "last_modified", "mtime", "updated") if info.get(name)), None)
    at = datetime.fromisoformat(at) if isinstance(at, str) else at
    changed = time.time() if at is None else at.timestamp() if isinstance(at, datetime) else float(at)
    return Object(int(info["size"] or 0), changed)


def begun(kind: str, fs: Any, path: str, top: str) -> list[Begun]:
    """What has begun below the path; `top` is the URL's. Azure forgets it after a week, and tells nobody of it."""
    if kind == "gs":
        parts = google.unfinished(fs, path).items()
        return [Begun(name[len(top) + 1 :], int(info["size"]), google.age(info), name) for name, info in parts]
    if kind != "s3":
        return []
    now, above = time.time(), len(top.partition("/")[2])
    return [
        Begun(one["Key"][above:].lstrip("/"), s3.size(fs, path, one), now - one["Initiated"].timestamp(), one)
        for one in s3.unfinished(fs, path)
    ]


def end(fs: Any, path: str, upload: Begun) -> None:
    if isinstance(upload.upload, str):
        with contextlib.suppress(FileNotFoundError):
            fs.rm_file(upload.upload)
    else:
        s3.abort(fs, path, upload.upload)


def copy(kind: str, fs: Any, source: str, target: str) -> None:
    if kind == "az":
        azure.copy(fs, source, target)
    else:
        fs.cp_file(source, target)
