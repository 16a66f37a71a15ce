"""Azure: a block blob. Blocks that aren't committed stay for a week, and nobody sees them until they are."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

from ftq.files.remote.kinds.parts import Do, Sums

COPY_SECONDS = 0.2  # between two looks at a copy that goes on


class AzureParts:
    """The id of a block tells its bytes: it has their MD5, which the server compares when it takes them."""

    def __init__(self, do: Do) -> None:
        self._do = do

    def left(self, sums: Sums) -> list[int] | None:
        names = _names(sums)
        committed, waiting = self._do(_blocks)
        if committed == names:
            return None
        return [index for index, name in enumerate(names) if name not in waiting]

    def begin(self) -> None:
        """Nothing is needed."""

    def send(self, index: int, data: bytes, part: bytes) -> None:
        name = _name(index, part)
        told = {"length": len(data), "validate_content": True}
        self._do(lambda fs, path: _call(fs, path, "stage_block", name, io.BytesIO(data), **told))

    def finish(self, sums: Sums) -> None:
        from azure.storage.blob import BlobBlock

        blocks = [BlobBlock(block_id=name) for name in _names(sums)]
        self._do(lambda fs, path: _call(fs, path, "commit_block_list", blocks))


def copy(fs: Any, source: str, target: str) -> None:
    """Copy a blob, and wait until that is done."""
    fs.cp_file(source, target)
    while (status := _call(fs, target, "get_blob_properties").copy.status) == "pending":
        time.sleep(COPY_SECONDS)
    if status != "success":
        raise OSError(f"the copy ended with {status}")


def _names(sums: Sums) -> list[str]:
    return [_name(index, part) for index, part in enumerate(sums.parts)]


def _name(index: int, part: bytes) -> str:
    """As long as every other: Azure demands that."""
    return f"{index:05}{part.hex()}"


def _blocks(fs: Any, path: str) -> tuple[list[str], set[str]]:
    """The blocks that the blob is made of, and those that wait to be."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        committed, waiting = _call(fs, path, "get_block_list", "all")
    except ResourceNotFoundError:
        return [], set()
    return [block.id for block in committed], {block.id for block in waiting}


def _call(fs: Any, path: str, verb: str, *arguments: Any, **named: Any) -> Any:
    from fsspec.asyn import sync

    container, name, _ = fs.split_path(path)

    async def call() -> Any:
        async with fs.service_client.get_blob_client(container, name) as blob:
            verbs: Callable[..., Any] = getattr(blob, verb)
            return await verbs(*arguments, **named)

    return sync(fs.loop, call)
