"""The folders that a worker writes, each tried when it starts: a stage would fail in it after hours, without a word."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from ftq.errors import Unavailable, printable
from ftq.files.abilities import no_lock, refusal
from ftq.settings import Settings, cache_dir, hub_cache

LOCAL = "Set FTQ_HOME to a folder on a local disk."


def try_all(settings: Settings) -> None:
    """Unavailable names the folder without which nothing works; what only some runs need is said."""
    _need(settings.home, "the artifacts folder", "Correct its owner and mode, or set FTQ_HOME to another.")
    _need(settings.home / "logs", "the logs' folder", "Correct its owner and mode.")
    if why := no_lock(settings.home):
        raise Unavailable(f"no file in the artifacts folder {settings.home} can be locked ({why})", LOCAL)
    _need(Path(temporary()), "the folder for temporary files", "Set TMPDIR to a folder of yours.")
    for folder, name in ((cache_dir(), "FTQ_CACHE"), (hub_cache(), "HF_HOME")):
        if why := _why(folder):
            print(printable(f"{folder} can't be written ({why}): set {name} to a folder of yours."), file=sys.stderr)


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
