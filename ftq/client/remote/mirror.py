"""The files of the server's runs that commands read, kept here: $FTQ_CACHE/remote/<server>/<run id>/.

A file is fetched once for each time that its stage has ended.
"""

from __future__ import annotations

import contextlib
import os
import re
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from ftq.client.remote.connection import Connection
from ftq.client.removal import cannot_write
from ftq.client.view import VIEWED
from ftq.errors import NotFound, Unavailable
from ftq.files import disk
from ftq.files.run_dir import run_dir
from ftq.settings import cache_dir
from ftq.store.records import Run


class Mirror:
    def __init__(self, server: Connection) -> None:
        self._server = server
        readable = re.sub(r"[^A-Za-z0-9.-]+", "-", server.url.partition("://")[2]).strip("-.")
        self.home = cache_dir() / "remote" / f"{readable[:60]}-{sha256(server.url.encode()).hexdigest()[:8]}"

    def fetch_viewed(self, run: Run) -> None:
        """Have what a view of the run reads, unless the server's bucket is out of reach."""
        for stage in run.stages:
            if name := VIEWED.get(stage.name):
                path = run_dir(self.home, run.id).path / name
                if stage.status != "succeeded":
                    path.unlink(missing_ok=True)
                else:
                    with contextlib.suppress(Unavailable):
                        self.fetch(run.id, name, stage.finished_at or 0.0)

    def fetch(self, run_id: str, name: str, stamp: float) -> bool:
        """Have one file, as it is since `stamp`; False if the run hasn't got it."""
        path = run_dir(self.home, run_id).path / name
        with contextlib.suppress(OSError):
            if path.stat().st_mtime_ns == _nanoseconds(stamp):
                return True
        pieces = self._server.bytes(file_path(run_id, name))
        try:
            self.make(path.parent)
            with disk.replacing(path) as new:
                with new.open("wb") as file:
                    file.writelines(pieces)
                os.utime(new, ns=(_nanoseconds(stamp),) * 2)
        except NotFound:
            path.unlink(missing_ok=True)
            return False
        except OSError as error:
            raise cannot_write(self.home, error) from None
        return True

    def make(self, folder: Path) -> None:
        """Make a folder below the mirror's, which is closed to others."""
        disk.make_home(self.home, 0o077)
        folder.mkdir(parents=True, exist_ok=True)


def file_path(run_id: str, name: str) -> str:
    return f"/runs/{run_id}/files/{quote(name)}"


def _nanoseconds(stamp: float) -> int:
    return int(stamp * 1000) * 1_000_000  # whole milliseconds: what every disk keeps
