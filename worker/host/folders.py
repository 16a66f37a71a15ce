"""The folders that a worker writes, each tried when it starts: a stage would fail in it after hours, without a word."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from pathlib import Path

from ftq.errors import Unavailable, printable
from ftq.files.abilities import no_lock, refusal
from ftq.settings import Settings, cache_dir, hub_cache

SHARED = "Mount a writable tmpfs there (docker run --shm-size=1g; shm_size: 1g in compose)."
LOCAL = "Set FTQ_HOME to a folder on a local disk."


def try_all(settings: Settings) -> None:
    """Unavailable names the folder without which nothing works; what only some runs need is said."""
    _need(settings.home, "the artifacts folder", "Correct its owner and mode, or set FTQ_HOME to another.")
    _need(settings.home / "logs", "the logs' folder", "Correct its owner and mode.")
    if why := no_lock(settings.home):
        raise Unavailable(f"no file in the artifacts folder {settings.home} can be locked ({why})", LOCAL)
    _need(Path(temporary()), "the folder for temporary files", "Set TMPDIR to a folder of yours.")
    if why := _no_semaphore():
        raise Unavailable(f"no semaphore can be made in /dev/shm ({why})", SHARED)
    for folder, name in ((cache_dir(), "FTQ_CACHE"), (hub_cache(), "HF_HOME")):
        if why := _why(folder):
            print(printable(f"{folder} can't be written ({why}): set {name} to a folder of yours."), file=sys.stderr)


def _no_semaphore() -> str:
    """Why the worker's pool can't be made; empty if it can."""
    try:
        multiprocessing.get_context("fork").Lock()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def temporary() -> str:
    """Where temporary files go. Unavailable where there is no place."""
    try:
        return tempfile.gettempdir()
    except OSError as error:
        raise Unavailable(error.strerror or str(error), "Set TMPDIR to a folder of yours that has room.") from None


def _need(folder: Path, what: str, hint: str) -> None:
    if why := _why(folder):
        raise Unavailable(f"{what} {folder} can't be written ({why})", hint)


def _why(folder: Path) -> str:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return error.strerror or os.strerror(error.errno or 0)
    return refusal(folder)
