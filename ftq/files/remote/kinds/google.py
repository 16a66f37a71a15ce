"""Google: each part is an object beside the whole one, until the server joins them to it."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from ftq.files.remote.kinds.parts import Do, Sums

JOINED = 32  # objects that one request joins at most
ENDING = ".partial"  # of a name that no list of the bucket shows
MARK = "ftq-parts"  # metadata of an object that was joined: it has no MD5


class GoogleParts:
    def __init__(self, do: Do) -> None:
        self._do = do

    def left(self, sums: Sums) -> list[int] | None:
        if self._do(_mark_of) == sums.joined:
            return None
        there = self._do(lambda fs, path: {name: info.get("md5Hash") for name, info in _beside(fs, path).items()})
        return [
            index for index, part in enumerate(sums.parts) if there.get(_name(index)) != base64.b64encode(part).decode()
        ]

    def begin(self) -> None:
        """Nothing is needed."""

    def send(self, index: int, data: bytes, part: bytes) -> None:
        self._do(lambda fs, path: fs.pipe_file(f"{path}.{_name(index)}", data))

    def finish(self, sums: Sums) -> None:
        """Join 32 to one, and those again, until the last request makes the object."""
        names, level = [_name(index) for index in range(len(sums.parts))], 1
        while len(names) > JOINED:
            groups = [names[start : start + JOINED] for start in range(0, len(names), JOINED)]
            names = [f"{level}-{_name(index)}" for index in range(len(groups))]
            for name, group in zip(names, groups, strict=True):
                self._join(group, f".{name}", {})
            level += 1
        self._join(names, "", {MARK: sums.joined})
        self._do(lambda fs, path: [fs.rm_file(f"{path}.{name}") for name in _beside(fs, path)])

    def _join(self, names: Iterable[str], ending: str, metadata: dict[str, str]) -> None:
        def join(fs: Any, path: str) -> None:
            bucket, key, _ = fs.split_path(path)
            sources = [{"name": f"{key}.{name}"} for name in names]
            whole = {"name": f"{key}{ending}", "bucket": bucket, "metadata": metadata}
            order = {"kind": "storage#composeRequest", "sourceObjects": sources, "destination": whole}
            fs.call("POST", "b/{}/o/{}/compose", bucket, f"{key}{ending}", json=order)

        self._do(join)


def unfinished(fs: Any, path: str) -> dict[str, dict[str, Any]]:
    """{path: what is known of it} of the parts below the path."""
    return {name: info for name, info in fs.find(path, detail=True).items() if name.endswith(ENDING)}


def age(info: dict[str, Any]) -> float:
    """Seconds since it was sent."""
    made = info.get("ctime") or datetime.fromisoformat(info["timeCreated"])
    return (datetime.now(UTC) - made).total_seconds()


def _name(index: int) -> str:
    return f"{index:05}{ENDING}"


def _mark_of(fs: Any, path: str) -> str:
    """Empty where there is no such object, or one that wasn't joined."""
    try:
        return str(fs.info(path).get("metadata", {}).get(MARK, ""))
    except FileNotFoundError:
        return ""


def _beside(fs: Any, path: str) -> dict[str, dict[str, Any]]:
    """{name: what is known of it} of the object's parts."""
    folder, _, name = path.rpartition("/")
    there = fs.find(folder, prefix=f"{name}.", detail=True)
    parts = {str(one).rpartition("/")[2].removeprefix(f"{name}."): info for one, info in there.items()}
    return {part: info for part, info in parts.items() if part.endswith(ENDING)}
