"""A disk that keeps only what was synced: what a power cut would leave of a folder.

The strictest disk that POSIX allows: a file holds what it held at its last fsync, and a folder's list of names is that
of its own last fsync.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Inode = tuple[int, int]


class Disk:
    """Watches every fsync and rename of this process from now on; what lies in `root` by now is on the disk."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.contents: dict[Inode, bytes] = {}
        self.names: dict[Inode, dict[str, Inode]] = {}
        self.too_early: list[str] = []  # what was renamed before it was on the disk
        for place, _, files in os.walk(root):
            for path in [place, *(os.path.join(place, name) for name in files)]:
                self._keep(path)
        monkeypatch.setattr(os, "fsync", lambda descriptor: self._keep(os.readlink(f"/proc/self/fd/{descriptor}")))
        for name in ("rename", "replace"):
            monkeypatch.setattr(os, name, self._watched(getattr(os, name)))

    def after_power_cut(self) -> dict[str, str]:
        """{path: text} of the files below `root` that are there when the power is back."""
        return dict(self._files(_inode(self.root), ""))

    def _files(self, folder: Inode, above: str) -> Iterator[tuple[str, str]]:
        """A new folder that was never synced is shown as an empty file."""
        for name, inode in self.names[folder].items():
            if inode in self.names:
                yield from self._files(inode, f"{above}{name}/")
            else:
                yield above + name, self.contents.get(inode, b"").decode()

    def _keep(self, path: str) -> None:
        inode = _inode(path)
        self.names.pop(inode, None)  # its number may have been another's
        if os.path.isdir(path):
            self.names[inode] = {entry.name: _inode(entry.path) for entry in os.scandir(path)}
        elif os.path.isfile(path):
            self.contents[inode] = Path(path).read_bytes()

    def _watched(self, rename: Callable[..., None]) -> Callable[..., None]:
        def watched(source: Any, target: Any) -> None:
            paths = [os.path.join(place, name) for place, _, names in os.walk(source) for name in names] or [source]
            for path in filter(os.path.isfile, paths):
                if self.contents.get(_inode(path)) != Path(path).read_bytes():
                    self.too_early.append(os.path.basename(path))
            rename(source, target)

        return watched


def _inode(path: str | Path) -> Inode:
    info = os.lstat(path)
    return info.st_dev, info.st_ino
