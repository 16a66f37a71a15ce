"""The gateway's files: bytes in the artifacts folder, rows in the database. As `gateway_of(request).files`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ftq.errors import FtqError
from ftq.files import uploads
from ftq.files.uploads import Writer
from ftq.store.gateway.files import File
from ftq.store.gateway.keys import Key
from ftq.store.store import RunStore


class Storage:
    """Every method is synchronous: in an async endpoint call it by run_in_threadpool."""

    def __init__(self, store: RunStore, home: Path) -> None:
        self.store, self.home = store, home

    def add(
        self, file_id: str, owner: str, filename: str, purpose: str, data: bytes, run_id: str | None = None
    ) -> File:
        """Store bytes as a file of the key whose id is `owner`. A second call returns the file that is there."""
        with self.writing(file_id) as writer:
            writer.write(data)
            writer.finish()
            file = File(file_id, owner, filename, purpose, writer.bytes, writer.sha256, run_id=run_id)
            return self.store.files.add(file)

    def find(self, file_id: str, caller: Key) -> File | None:
        """The file; None if there is none, it has expired, or it is another's and the caller is no admin."""
        return self.store.files.find(file_id, sees(caller))

    def of_run(self, run_id: str) -> list[File]:
        """A run's result files, the oldest first, whoever asks."""
        return self.store.files.of_run(run_id)

    def path(self, file: File) -> Path:
        """Where its bytes are; for reading only."""
        return uploads.path_of(self.home, file.id)

    def delete(self, file: File) -> None:
        with uploads.removing(self.home, file.id):
            self.store.files.delete(file.id)

    @contextlib.contextmanager
    def writing(self, file_id: str) -> Iterator[Writer]:
        """A writer for a file whose row is written in the block; a block that fails leaves neither."""
        writer = Writer(self.home, file_id)
        try:
            with writer:
                yield writer
        except BaseException:
            if writer.partial.exists():
                self._settle(writer.partial)
            raise

    def sweep(self) -> None:
        """Delete what has expired, and what killed processes have left."""
        for file in self.store.files.expired():
            self.delete(file)
        for part in self.store.uploads.expired_parts():
            self.delete_part(part)
        for partial in uploads.stopped(self.home):
            self._settle(partial)

    def delete_part(self, part_id: str) -> None:
        with uploads.removing(self.home, part_id):
            self.store.uploads.delete_part(part_id)

    def _settle(self, partial: Path) -> None:
        with contextlib.suppress(FtqError):  # a database that is gone: the next sweep
            uploads.settle(partial, self.store.files.recorded)


def sees(caller: Key) -> str | None:
    """The owner whose files, jobs and models a key sees; None for an admin's, which sees all."""
    return None if caller.admin else caller.id
