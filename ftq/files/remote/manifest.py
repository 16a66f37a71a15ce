"""What a part holds: its files with sizes and checksums. A name in a manifest is data, never a path."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from ftq.errors import FtqError

PART = re.compile(r"[a-z0-9-]{1,40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """`path` is relative to the run's folder, with `/`. `within` is the part that has its bytes, if not this."""

    path: str
    size: int
    sha256: str
    within: str = ""


@dataclass(frozen=True)
class Manifest:
    """`database` is the identity of the one that knows the run; empty where an earlier version has written it."""

    run: str
    part: str
    attempt: int
    files: tuple[Entry, ...]
    database: str = ""

    @property
    def name(self) -> str:
        return f"{self.part}.{self.attempt}"

    def key(self, entry: Entry) -> str:
        """Where the entry's bytes are."""
        return f"{self.run}/{entry.within or self.name}/{entry.path}"

    def entry(self, path: str) -> Entry | None:
        return next((entry for entry in self.files if entry.path == path), None)

    def to_bytes(self) -> bytes:
        value = {**_without_empty(asdict(self)), "files": [_without_empty(asdict(entry)) for entry in self.files]}
        return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, run: str, part: str, attempt: int) -> Manifest:
        """FtqError for what isn't the manifest of this part, or has a name that leads out of the run's folder."""
        try:
            value = json.loads(data)
            files = tuple(_entry(one) for one in value["files"])
            if (value["run"], value["part"], value["attempt"]) != (run, part, attempt):
                raise ValueError("it is another part's")
            if len({entry.path for entry in files}) != len(files):
                raise ValueError("a name is in it twice")
            return cls(run, part, attempt, files, str(value.get("database", "")))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            name = f"{manifest_key(run, part, attempt)}"
            raise FtqError(f"{name} in the bucket is no manifest: {error}", "Something else has written it.") from None


def manifest_key(run: str, part: str, attempt: int) -> str:
    return f"{run}/{part}.{attempt}.json"


def is_safe(path: str) -> bool:
    """Whether a name stays below the folder that it is put into."""
    pieces = path.split("/")
    hidden = pieces[0].startswith(".")  # the run's own marks
    return not (hidden or "\0" in path or any(piece in ("", ".", "..") for piece in pieces))


def _entry(value: dict[str, Any]) -> Entry:
    entry = Entry(value["path"], value["size"], value["sha256"], value.get("within", ""))
    if not (isinstance(entry.path, str) and is_safe(entry.path)):
        raise ValueError(f"{entry.path!r} leads out of the run's folder")
    if not (type(entry.size) is int and entry.size >= 0 and _SHA256.fullmatch(entry.sha256)):
        raise ValueError(f"{entry.path!r} has no size or no checksum")
    if entry.within and not re.fullmatch(rf"{PART.pattern}\.\d{{1,9}}", entry.within):
        raise ValueError(f"{entry.within!r} is no part")
    return entry


def _without_empty(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value != ""}
