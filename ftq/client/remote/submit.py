"""A submit through a server: the documents are read and checked here, copied once, and sent as they were copied."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from ftq.client.recording.names import new_id
from ftq.client.recording.record import with_validation
from ftq.client.remote.connection import Connection
from ftq.client.remote.mirror import Mirror
from ftq.client.removal import cannot_write
from ftq.client.submit import Submitted
from ftq.errors import FtqError, NotFound, Refused, Unavailable
from ftq.files import disk
from ftq.files.snapshot import Snapshot, snapshot
from ftq.store.records import Run
from ftq.store.wire.records import decode

SENT_AT_ONCE = 2**18  # bytes
PATIENCE = 10.0  # seconds in which a server that went away while documents were sent is asked what it has got
QUESTIONS = "questions.json"


def check_model(spec: dict[str, Any], url: str) -> None:
    """Refused for a model that is a folder of this machine."""
    if os.path.isabs(spec["model"]):
        raise Refused(
            f"--model {spec['model']} is a folder of this machine, and models aren't sent: {url} doesn't see it",
            "Name a model of the catalogue (`ftq models`) or of the hub, where `hf upload` puts it. Or copy it to the "
            f"server: an admin's key names its folder there on the page, {url}/submit.",
        )


def send(server: Connection, mirror: Mirror, spec: dict[str, Any], name: str | None, warnings: list[str]) -> Submitted:
    """Send a checked run. Whatever breaks off, there is one run or none."""
    run_id = new_id()
    with _copied(mirror, spec) as (folder, documents):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        sizes = [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files]
        told = {
            "id": run_id,
            "name": name,
            "spec": spec,
            "documents_hash": documents.hash,
            "left_out": documents.left_out,
            "files": sizes,
        }
        head = json.dumps(told).encode() + b"\n"
        try:
            answer = server.send("/runs", _body(head, files), len(head) + sum(size for _, size in sizes))
            run, notes = decode(Run, answer["run"]), list(answer["notes"])
        except Unavailable as error:
            run, notes = _made_all_the_same(server, run_id, error), []
    return Submitted(run, documents.files, documents.skipped + warnings + notes, documents.others)


@contextmanager
def _copied(mirror: Mirror, spec: dict[str, Any]) -> Iterator[tuple[Path, Snapshot]]:
    """(a folder with what is sent, the documents): a document that changes meanwhile is sent as it was."""
    try:
        mirror.make(mirror.home)
        disk.clear_abandoned(mirror.home, ".submit.*.partial")
        folder = Path(mkdtemp(prefix=".submit.", suffix=".partial", dir=mirror.home))
    except OSError as error:
        raise cannot_write(mirror.home, error) from None
    try:
        documents = snapshot(Path(spec["documents"]), folder / "documents", mirror.home)
        if spec["validation"]:
            held_out = snapshot(Path(spec["validation"]), folder / "validation", mirror.home)
            documents = with_validation(documents, held_out)
        if spec["questions_file"]:
            shutil.copyfile(spec["questions_file"], folder / QUESTIONS)
        yield folder, documents
    except OSError as error:
        raise cannot_write(mirror.home, error) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _body(head: bytes, files: list[Path]) -> Iterator[bytes]:
    """What is sent. Small files go together: each piece costs a message and the server a turn."""
    waiting, size = [head], len(head)
    for path in files:
        with path.open("rb") as file:
            while piece := file.read(SENT_AT_ONCE):
                waiting.append(piece)
                size += len(piece)
                if size >= SENT_AT_ONCE:
                    yield b"".join(waiting)
                    waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def _made_all_the_same(server: Connection, run_id: str, error: Unavailable) -> Run:
    """The run, if only the server's answer got lost; else the error."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return decode(Run, server.get(f"/runs/{run_id}"))
        except NotFound:
            hint = "Nothing was recorded: give the same command again."
            raise Unavailable(f"{error.message.rstrip('.')}, before the documents were sent", hint) from None
        except FtqError:
            if time.monotonic() >= until:
                hint = "`ftq status` says whether it was recorded, once the server answers. Else submit again."
                raise Unavailable(f"{error.message.rstrip('.')} while the documents were sent", hint) from None
        time.sleep(0.5)
