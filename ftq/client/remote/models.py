"""The server's finished runs as models, and their files for `ftq pull`."""

from __future__ import annotations

import io
import os
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from ftq.client.models import latest_note
from ftq.client.recording import names
from ftq.client.remote.connection import Connection
from ftq.client.remote.mirror import file_path
from ftq.client.remote.records import Records
from ftq.delivery import pull
from ftq.delivery.parts import Elsewhere, Model, Part
from ftq.delivery.pull import Pulled
from ftq.files.disk import digest_of
from ftq.settings import as_the_user
from ftq.store.records import Run, Version
from ftq.store.wire.records import decode


class RemoteModels:
    """The methods of ftq.client.models.Models that need no database at hand."""

    def __init__(self, server: Connection, records: Records) -> None:
        self._server, self._records = server, records

    def versions(self) -> list[Version]:
        return self._records.versions()

    def promote(self, wanted: str) -> tuple[Run, str | None]:
        answer = self._server.post(f"/runs/{self._records.find(wanted).id}/promote")
        return decode(Run, answer["run"]), answer["before"]

    def would_be_called(self, name: str) -> str:
        return names.renamed(self._server.get("/names/free", name=name)["name"], name)

    def other_latest(self, wanted: str, run: Run) -> str:
        return latest_note(self.versions(), wanted, run)

    def model(self, wanted: str, kind: str = "gguf") -> Model:
        run = self._records.find(wanted)
        answer = self._server.get(f"/runs/{run.id}/model", kind=kind)
        parts = tuple(self._part(run.id, part) for part in answer["parts"])
        return Model(run, answer["kind"], parts, answer["file"])

    def pull(
        self, model: Model, folder: Path | None = None, moved: Callable[[int], None] = lambda number: None
    ) -> Pulled:
        with as_the_user():
            return pull.pull(model, pull.folder_of(model) if folder is None else folder, moved)

    def _part(self, run_id: str, answer: dict[str, Any]) -> Part:
        if answer["data"] is not None:
            data = b64decode(answer["data"])
            return Part(answer["name"], len(data), data)
        source = Download(self._server, file_path(run_id, answer["path"]), answer["sha256"])
        return Part(answer["name"], answer["bytes"], source, answer["sha256"])


class Download(Elsewhere):
    """A file of the server's."""

    def __init__(self, server: Connection, path: str, sha256: str) -> None:
        self._server, self._path, self._sha256 = server, path, sha256

    def __str__(self) -> str:
        return f"{self._server.url}{self._path}"

    def open(self) -> BinaryIO:
        return io.BytesIO(b"".join(self._server.bytes(self._path)))

    def download(self, out: BinaryIO, moved: Callable[[int], None]) -> str:
        """Go on after what is there. If the whole isn't the server's file then, begin again: it was another's."""
        began = self._go_on(out, moved)
        digest = _digest(out)
        if began and digest != self._sha256:
            moved(-out.tell())
            out.seek(0)
            out.truncate()
            self._go_on(out, moved)
            digest = _digest(out)
        return digest

    def _go_on(self, out: BinaryIO, moved: Callable[[int], None]) -> int:
        """How many bytes were there."""
        began = out.seek(0, io.SEEK_END)
        moved(began)
        for piece in self._server.bytes(self._path, began):
            out.write(piece)
            moved(len(piece))
        out.flush()
        os.fsync(out.fileno())
        return began


def _digest(out: BinaryIO) -> str:
    out.seek(0)
    return digest_of(out)
