"""A run's files and its row are put in place, whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ftq.client import removal
from ftq.client.bucket.place import advise, other_bucket
from ftq.client.recording.names import family_of, free_name, numbered
from ftq.errors import NameTaken, Unavailable, UserError
from ftq.files import disk, run_dir
from ftq.files.remote.bucket import Bucket, OutOfReach
from ftq.files.run_dir import RunDir
from ftq.files.snapshot import Snapshot, snapshot
from ftq.settings import Settings
from ftq.store.records import Run
from ftq.store.store import RunStore

EARLIER = 20  # runs that are looked at for the same folder


@dataclass(frozen=True)
class Asker:
    """Who asks for a run (a user, or the id of a key), the id that it shall have, and where its files are.

    `files` has the paths that are read instead of those of the spec, which are another machine's. What that machine has
    left out of the documents is `left_out`; None where the documents are read here. `counted`: they are bytes that the
    key stores, and not its files once more.
    """

    owner: str
    run_id: str
    files: Mapping[str, str] = field(default_factory=dict)
    left_out: Sequence[tuple[str, str]] | None = None
    counted: bool = True


def record(
    settings: Settings, store: RunStore, spec: dict[str, Any], name: str | None, asker: Asker
) -> tuple[Run, Snapshot]:
    """(the run, its files and its row in place; the documents that it took).

    The runs of one `name` are a family; each but the first gets the next free name, such as handbook-2. Without a name
    it is that of the model. `check_bucket` comes first.
    """
    make_home(settings)
    while True:
        try:
            return _record(settings, store, spec, name, asker)
        except NameTaken:  # another submit took the free name at the same moment: take the next
            if store.jobs.run(asker.run_id):
                raise


def record_once(
    settings: Settings,
    store: RunStore,
    spec: dict[str, Any],
    family: str,
    run_id: str,
    owner: str,
    said: Mapping[str, str],
) -> Run:
    """The run of this id, made unless it is there: whoever calls it a second time, after a crash too, gets the same.

    Its name is the next of the family: handbook-1, handbook-2... `owner` is the id of the key that asks for it.
    The spec keeps what is `said` of its files, for their paths are gone once they are read.
    """
    make_home(settings)
    check_bucket(settings, store)
    asker = Asker(owner, run_id, {option: spec[option] for option in said}, (), counted=False)
    spec = {**spec, **said}
    final = run_dir.run_dir(settings.home, run_id)
    while (run := recorded(settings, store, run_id)) is None:
        try:
            if final.submitting.exists():  # who put the files there has died since, or is about to record them
                run = _record_row(settings, store, final, family, owner)
            else:
                run, _ = _record(settings, store, spec, None, asker, family)
            break
        except NameTaken:
            pass  # another submit took the name, or made this very run, at the same moment
        except OutOfReach:
            raise
        except Unavailable:  # another has put its files there first: they are recorded now, or can be
            if not final.submitting.exists() and store.jobs.run(run_id) is None:
                raise
    return run


def recorded(settings: Settings, store: RunStore, run_id: str) -> Run | None:
    """The run of this id; None if there is none. A submit that died after that has left its mark, which goes."""
    if run := store.jobs.run(run_id):
        run_dir.remove(run_dir.run_dir(settings.home, run_id).submitting)
    return run


def make_home(settings: Settings) -> None:
    """Make the artifacts folder, closed to other users: nobody else reads what lies below, whatever its mode."""
    home = settings.home
    try:
        disk.make_home(home, settings.umask)
    except OSError as error:
        raise Unavailable(
            f"the artifacts folder {home} can't be made ({error.strerror})", "Set FTQ_HOME to another."
        ) from None


def check_bucket(settings: Settings, store: RunStore | None) -> None:
    """UserError if the workers use another bucket; OutOfReach, within five seconds, if this one can't be used now.

    Without a database there are no workers.
    """
    if differs := other_bucket(store.workers() if store else [], settings.artifacts_url):
        raise UserError(*differs)
    if settings.artifacts_url:
        url = settings.artifacts_url
        Bucket(url, advise=lambda error: advise(error, store, url)).probe(write=True)


def _record(
    settings: Settings, store: RunStore, spec: dict[str, Any], wanted: str | None, asker: Asker, family: str = ""
) -> tuple[Run, Snapshot]:
    home, run_id, read = settings.home, asker.run_id, {**spec, **asker.files}
    family = wanted or family or family_of(spec["model"])
    name = free_name(store, family) if wanted else numbered(family, store.names(family), 1)
    final, partial = run_dir.run_dir(home, run_id), RunDir(disk.beside(home / run_id))
    in_place = False
    try:
        partial.documents.mkdir(parents=True)
        documents = snapshot(Path(read["documents"]), partial.documents, home, _earlier(home, store, spec))
        stored = documents.bytes
        if read.get("validation"):
            held_out = snapshot(Path(read["validation"]), partial.validation, home)
            documents, stored = with_validation(documents, held_out), stored + held_out.bytes
        run_dir.write_json(
            partial.run_json, {"id": run_id, "name": name, "spec": spec, "documents_hash": documents.hash}
        )
        if read.get("questions_file"):
            from ftq.evaluation import own

            run_dir.write_json(partial.own_questions, own.to_json(own.read(Path(read["questions_file"]))))
        if left_out := documents.left_out if asker.left_out is None else asker.left_out:
            run_dir.write_json(partial.left_out, left_out)
        partial.submitting.touch()
        run_dir.sync_tree(partial.path)
        partial.path.rename(final.path)
        in_place = True
        run_dir.sync(home)
        _send(settings, store, run_id)
        counted = stored if asker.counted else 0
        place = settings.artifacts_url
        run = store.create(run_id, name, spec, documents.hash, family, asker.owner, counted, place)
        run_dir.remove(final.submitting)
        return run, documents
    except BaseException as error:
        if in_place and not removal.is_recorded(store, run_id):  # an answer can be lost after the commit
            with suppress(FileNotFoundError):
                final.path.rename(partial.path)  # at once: half deleted, it would be taken for one to be recorded
        run_dir.remove(partial.path)
        if isinstance(error, OSError):
            raise removal.cannot_write(home, error) from None
        raise


def _earlier(home: Path, store: RunStore, spec: dict[str, Any]) -> Path | None:
    """The documents of the last run of the same folder: most of them will be the same."""
    same = (run for run in store.all(EARLIER) if run.spec.get("documents") == spec["documents"])
    return next((run_dir.run_dir(home, run.id).documents for run in same), None)


def _send(settings: Settings, store: RunStore, run_id: str) -> None:
    """Have in the bucket what the run is made of, before anybody knows of the run."""
    if settings.artifacts_url:
        from ftq.files.remote.share import publish_submitted

        publish_submitted(settings, run_id, store.identity)


def _record_row(settings: Settings, store: RunStore, folder: RunDir, family: str, owner: str) -> Run:
    """Record the run whose files are in place, by the name that they have unless another run has taken it since."""
    told, taken = folder.read_run(), store.names(family)
    name = told["name"]
    if name in taken:  # before the row: from then on a worker reads the file, and nobody would finish it
        name = numbered(family, taken, 1)
        run_dir.write_json(folder.run_json, {**told, "name": name})
    _send(settings, store, folder.path.name)
    place = settings.artifacts_url
    run = store.create(folder.path.name, name, told["spec"], told["documents_hash"], family, owner, bucket=place)
    run_dir.remove(folder.submitting)
    return run


def with_validation(documents: Snapshot, held_out: Snapshot) -> Snapshot:
    """The snapshot of both folders: what is measured on is part of what a run is made of."""
    together = hashlib.sha256(f"{documents.hash} {held_out.hash}".encode()).hexdigest()
    skipped = [*documents.skipped, *held_out.skipped]
    return replace(documents, hash=together, skipped=skipped)
