"""The limit of this machine's copies (FTQ_CACHE_GB): the least recently used go, and only what the bucket has."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from ftq.files.disk import size_of
from ftq.files.remote import record
from ftq.files.remote.record import FOLDER
from ftq.files.run_dir import STAGES, remove
from ftq.settings import Settings

log = logging.getLogger("ftq.bucket")
# What no part has, and may go all the same once the stage beside it is in the bucket.
TEMPORARY = {"questions.partial.jsonl": "prepare", "checkpoints": "train", "report.html": "evaluate"}
TRIM_SECONDS = 60.0
_trimmed_at = -TRIM_SECONDS
STAYS = (FOLDER, "logs")  # the log of questions is nowhere else
DROPPED = ".dropped"  # what a record's name ends in while its files are deleted


def bytes_of(settings: Settings) -> int:
    """The most that the copies may take: FTQ_CACHE_GB, else half of the disk."""
    if settings.cache_gb:
        return int(settings.cache_gb * 1e9)
    try:
        return shutil.disk_usage(settings.home).total // 2
    except OSError:
        return 2**62


def trim_at_times(settings: Settings) -> None:
    """Trim, unless this process has done it just now: it looks at every file."""
    global _trimmed_at
    if time.monotonic() - _trimmed_at > TRIM_SECONDS:
        _trimmed_at = time.monotonic()
        trim(settings)


def trim(settings: Settings) -> list[str]:
    """Delete copies until the rest is within the limit, as far as that is allowed. The ids of their runs."""
    folders = sorted(filter(_is_copy, settings.home.glob("[!.]*")), key=record.used_at)
    sizes = {folder: size_of(folder) for folder in folders}
    over, gone = sum(sizes.values()) - bytes_of(settings), list[str]()
    for folder in folders:
        if over <= 0:
            break
        if drop(folder):
            over -= sizes[folder]
            gone.append(folder.name)
    if gone:
        log.info("copies of %d runs deleted here, the bucket has them: %s", len(gone), ", ".join(gone))
    return gone


def _is_copy(folder: Path) -> bool:
    with contextlib.suppress(OSError):  # deleted meanwhile
        return any(path.suffix in (".json", DROPPED) for path in (folder / FOLDER).iterdir())
    return False


def drop(folder: Path) -> bool:
    """Delete this machine's copy of a run. False if it is in use, or holds what the bucket hasn't got."""
    with contextlib.suppress(OSError), record.unused(folder) as free:
        if not free or (folder / ".submitting").exists():
            return False
        for path in (folder / FOLDER).glob(f"*{DROPPED}"):  # whoever dropped it was killed
            newer = path.with_suffix(".json")
            path.rename(path if newer.exists() else newer)
        if not _is_in_bucket(folder):
            return False
        for path in (folder / FOLDER).glob("*.json"):  # first: nobody shall believe that the files are here
            path.rename(path.with_suffix(DROPPED))
        for path in [*(folder / FOLDER).glob("trained.*"), *folder.iterdir()]:
            if path.name not in STAYS:
                remove(path)
        for path in (folder / FOLDER).glob(f"*{DROPPED}"):
            remove(path)
        return True
    return False


def _is_in_bucket(folder: Path) -> bool:
    """Whether each file is one that was checked to be in the bucket, or one that nothing needs."""
    records = {part: here for part in ("submit", *STAGES) if (here := record.read(folder, part))}
    known = dict[str, bool]()
    for here in records.values():
        for entry in here.manifest.files:
            known[entry.path] = here.has(folder, entry)
    return all(known.get(name) or TEMPORARY.get(name.partition("/")[0]) in records for name in _names(folder))


def _names(folder: Path) -> Iterator[str]:
    """The files whose loss could matter."""
    for place, folders, names in os.walk(folder):
        if Path(place) == folder:
            folders[:] = [name for name in folders if name not in STAYS]
        for name in names:
            path = (Path(place) / name).relative_to(folder).as_posix()
            if path != "run.json" and not path.endswith(".lock"):
                yield path
