"""The runs' parts in the bucket, and this machine's copies of them: publish, fetch, forget."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ftq.files.remote import record
from ftq.files.remote.bucket import Bucket
from ftq.files.remote.manifest import Entry, Manifest, manifest_key
from ftq.files.remote.record import Record
from ftq.files.remote.transfer import Move, Upload, download, sha256_of
from ftq.files.run_dir import OUTPUTS, remove, run_dir, sync
from ftq.settings import Settings

SUBMIT = "submit"  # the part that submit makes: documents, validation, questions.json, left_out.json
SUBMITTED_FILES = ("documents", "validation", "questions.json", "left_out.json")
SUBMITTED = 1  # its attempt: a run is submitted once
BEGUN = 10  # earlier attempts whose uploads are gone on with
MODELS = (".gguf", ".safetensors", ".bin", ".pt")  # endings of what only whoever computes needs
Wanted = Callable[[str], bool]  # of a path, relative to the run's folder


def share_of(settings: Settings, patient: bool = True, database: str = "") -> Share | None:
    """None where no bucket is named: then all machines share FTQ_HOME. Whoever sends files names the database."""
    return Share(Bucket(settings.artifacts_url, patient), settings.home, database) if settings.artifacts_url else None


def publish_submitted(settings: Settings, run_id: str, database: str) -> None:
    """Have in the bucket what submit has put into the run's folder. OutOfReach if that can't be done now."""
    share = Share(Bucket(settings.artifacts_url, patient=False), settings.home, database)
    share.note(share.upload(run_id, SUBMIT, SUBMITTED, SUBMITTED_FILES).go(Move()))


class Share:
    """Threads may share it; a forked process has to make its own."""

    def __init__(self, bucket: Bucket, home: Path, database: str = "") -> None:
        """`database` is the identity of the one whose runs are sent."""
        self.bucket, self.home, self.database = bucket, home, database

    # ---- into the bucket --------------------------------------------------------------------------------

    def upload(
        self, run_id: str, part: str, attempt: int, names: Iterable[str], like: Manifest | None = None
    ) -> Upload:
        """The upload of everything that the run's folder has under these names."""
        folder = run_dir(self.home, run_id).path
        begun = [f"{part}.{earlier}" for earlier in range(attempt - 1, 0, -1)][:BEGUN]
        files = _files(folder, names)
        return Upload(self.bucket, run_id, part, attempt, files, like=like, begun=begun, database=self.database)

    def send_older(self, run_id: str, part: str, attempt: int, move: Move) -> bool:
        """Send a part that only this machine has, since it was made before there was a bucket. False if it hasn't."""
        folder = run_dir(self.home, run_id)
        names = [path.name for path in folder.outputs(part)] if part in OUTPUTS else SUBMITTED_FILES
        if record.read(folder.path, part) or not any((folder.path / name).exists() for name in names):
            return False
        self.note(self.upload(run_id, part, attempt, names).go(move))
        return True

    def note(self, manifest: Manifest) -> None:
        """Record that this machine's files are those in the bucket."""
        folder = run_dir(self.home, manifest.run).path
        with record.locked(folder):
            here = Record(manifest)
            for entry in manifest.files:
                here.note(folder, entry)
            here.write(folder)

    # ---- out of the bucket ------------------------------------------------------------------------------

    def manifest(self, run_id: str, part: str, attempt: int) -> Manifest:
        """Gone if there is none: the part was never whole, or somebody has deleted it."""
        run_dir(self.home, run_id)  # the id is data, too
        data = self.bucket.read(manifest_key(run_id, part, attempt))
        return Manifest.from_bytes(data, run_id, part, attempt)

    def fetch(
        self, run_id: str, part: str, attempt: int, wanted: Wanted = lambda path: True, move: Move | None = None
    ) -> Manifest:
        """Have the wanted files of the part in the run's folder, each whole, checked and put there by a rename.

        What is here already and checked costs nothing. Files of another attempt of this part go.
        """
        folder, move = run_dir(self.home, run_id).path, move or Move()
        here = record.read(folder, part)
        if here and here.manifest.attempt == attempt and not _missing(here, folder, wanted):
            return here.manifest
        with record.in_use(folder), record.locked(folder, lambda: _wait(move)):
            here = record.read(folder, part)
            if here is None or here.manifest.attempt != attempt:
                here = Record(self.manifest(run_id, part, attempt))
                _clear_others(here, folder)
            self._complete(here, folder, _missing(here, folder, wanted), move)
            return here.manifest

    # ---- away -------------------------------------------------------------------------------------------

    def forget_earlier(self, run_id: str, parts: str, attempt: int) -> None:
        """Delete what attempts before this one have sent of the parts, a regular expression: they don't count any more.

        Manifests go first, so that nobody takes the rest for whole.
        """
        of_part = re.compile(rf"(?:{parts})\.(\d{{1,9}})(\.json)?")
        matches = [match for name in self.bucket.names(run_id) if (match := of_part.fullmatch(name))]
        earlier = [match for match in matches if int(match[1]) < attempt]
        self.bucket.delete(*(f"{run_id}/{match[0]}" for match in sorted(earlier, key=lambda match: not match[2])))

        begun = [(one, of_part.fullmatch(one.key.split("/")[1])) for one in self.bucket.begun(run_id)]
        self.bucket.give_up(*(one for one, match in begun if match and int(match[1]) < attempt))

    def forget_run(self, run_id: str) -> None:
        run_dir(self.home, run_id)
        self.bucket.give_up(*self.bucket.begun(run_id))
        self.bucket.delete(run_id)

    # ---- inside -----------------------------------------------------------------------------------------

    def _complete(self, here: Record, folder: Path, missing: list[Entry], move: Move) -> None:
        move.total += sum(entry.size for entry in missing)
        needed = []
        for entry in missing:
            if _is_same(folder / entry.path, entry, move):  # another way than this one has brought it here
                here.note(folder, entry)
            else:
                needed.append(entry)
        beside = folder / record.FOLDER / f"{here.manifest.name}.fetched"
        try:
            download(self.bucket, here.manifest, needed, beside, move)
            for entry in needed:
                (folder / entry.path).parent.mkdir(parents=True, exist_ok=True)
                os.replace(beside / entry.path, folder / entry.path)
                here.note(folder, entry)
            for place in {(folder / entry.path).parent for entry in needed}:
                sync(place)
            if beside.exists():
                remove(beside)
        finally:
            here.write(folder)


def needed_by_people(path: str) -> bool:
    """Whether people and their programs look at the file: no model, no document, no page that is made anew."""
    if path == "report.html":
        return False
    return not path.endswith(MODELS) and not path.startswith(("documents/", "validation/", "merged/", "adapter/"))


def _files(folder: Path, names: Iterable[str]) -> Mapping[str, Path]:
    files = dict[str, Path]()
    for name in names:
        top = folder / name
        below = [Path(place, one) for place, _, there in os.walk(top) for one in there] if top.is_dir() else [top]
        files |= {path.relative_to(folder).as_posix(): path for path in below if path.is_file()}
    return files


def _missing(here: Record, folder: Path, wanted: Wanted) -> list[Entry]:
    return [entry for entry in here.manifest.files if wanted(entry.path) and not here.has(folder, entry)]


def _clear_others(here: Record, folder: Path) -> None:
    """Remove what another attempt of the part has left: beside the new files, it would be taken for one of them."""
    listed = {entry.path for entry in here.manifest.files}
    for top in [path for pattern in OUTPUTS.get(here.manifest.part, ()) for path in folder.glob(pattern)]:
        for path in [top] if not top.is_dir() else [path for path in top.rglob("*") if path.is_file()]:
            if path.relative_to(folder).as_posix() not in listed:
                remove(path)


def _is_same(path: Path, entry: Entry, move: Move) -> bool:
    return path.is_file() and path.stat().st_size == entry.size and sha256_of(path, move) == entry.sha256


def _wait(move: Move) -> None:
    move.go_on()
    time.sleep(record.LOCK_SECONDS)
