"""The artifacts folder itself; how a file is replaced; how much room files take, and what deleting them gives back."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

UNTOUCHED = 3600  # seconds without a write
COPIED_AT_ONCE = 2**23  # bytes


def make_home(home: Path, umask: int) -> None:
    """Make the artifacts folder with the umask's mode; close one that git made. OSError if it can't be made."""
    home.mkdir(parents=True, exist_ok=True, mode=0o777 & ~umask)
    if is_fresh(home):
        with contextlib.suppress(OSError):  # somebody else's, or on a disk that keeps no modes
            home.chmod(stat.S_IMODE(home.stat().st_mode) & ~umask)


def is_fresh(home: Path) -> bool:
    """Whether the artifacts folder is as git made it: open to all, as git keeps no modes of folders."""
    try:
        return os.listdir(home) == [".gitignore"]
    except OSError:
        return False


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The name of a new file, which takes the path's place when the block ends, and goes if that fails.

    Each writer has its own name. What killed ones have left goes with a later write, or by `ftq gc`.
    """
    clear_abandoned(path.parent, f".{glob.escape(path.name)}.*.partial")
    new = beside(path)
    try:
        yield new
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def beside(path: Path) -> Path:
    """A name of this writer's own in the same folder, which says that the file isn't whole."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def clear_abandoned(folder: Path, names: str) -> None:
    """Delete what killed writers have left in the folder under such names, as far as this user may."""
    for path in filter(is_abandoned, folder.glob(names)):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def freed_by(folders: list[Path]) -> int:
    """Bytes that deleting these folders frees: a file that another run links to stays on the disk."""
    return sum(links[0].st_size for links in _by_inode(folders) if len(links) >= links[0].st_nlink)


def staying_of(folders: list[Path]) -> int:
    """Bytes of the files that stay after that, each counted once, however many of these folders link to it."""
    return sum(links[0].st_size for links in _by_inode(folders) if len(links) < links[0].st_nlink)


def _by_inode(folders: list[Path]) -> list[list[os.stat_result]]:
    links: dict[tuple[int, int], list[os.stat_result]] = {}
    for info in (info for folder in folders for info in _files(folder)):
        links.setdefault((info.st_dev, info.st_ino), []).append(info)
    return list(links.values())


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return path.stat().st_size if path.is_file() else sum(info.st_size for info in _files(path))


def stamps(folder: Path) -> list[tuple[str, int, int]]:
    """(name, bytes, time) of each file in the folder itself."""
    return [(path.name, *stamp(path)) for path in sorted(folder.iterdir()) if path.is_file()]


def stamp(path: Path) -> tuple[int, int]:
    """(bytes, time) of a file; others of them mean that it was changed."""
    info = path.stat()
    return info.st_size, info.st_mtime_ns


def digest_of(file: BinaryIO, read: Callable[[], None] = lambda: None) -> str:
    """SHA-256 of what is left to read of a file. `read` is called after each piece."""
    digest = hashlib.sha256()
    while piece := file.read(COPIED_AT_ONCE):
        digest.update(piece)
        read()
    return digest.hexdigest()


def last_written(folder: Path) -> float:
    """When the newest file below the folder was written; the folder's own time if there is none."""
    return max((info.st_mtime for info in _files(folder)), default=folder.lstat().st_mtime)


def is_abandoned(path: Path) -> bool:
    """Whether nobody has written to the file, or to what is below the folder, for so long that its writer has died.

    Its own time counts as well: a folder that is being filled may have nothing but links to old files.
    """
    try:
        return time.time() - max(last_written(path), path.lstat().st_mtime) > UNTOUCHED
    except FileNotFoundError:  # it has just been put in place, or deleted
        return False


def _files(folder: Path) -> Iterator[os.stat_result]:
    """The stat of each file below a folder, without those that can't be read or are gone by now."""
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                info = os.lstat(os.path.join(place, name))
                if stat.S_ISREG(info.st_mode):
                    yield info
