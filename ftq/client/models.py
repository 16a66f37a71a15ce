"""What finished runs are as models: versions with names and numbers, of which one is `latest`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ftq.client.bucket import place
from ftq.client.recording import names
from ftq.errors import Refused
from ftq.files.run_dir import remove, run_dir
from ftq.settings import as_the_user
from ftq.store.records import Run, Version
from ftq.store.store import RunStore

if TYPE_CHECKING:
    from ftq.client.bucket.files import BucketFiles
    from ftq.delivery.parts import Model
    from ftq.delivery.pull import Pulled
    from ftq.delivery.push import Pushed

Elsewhere = Callable[[Run, str], Refused | None]  # (run, stage): why what the stage has made can't be used from here


class Models:
    def __init__(self, store: RunStore, home: Path, bucket: BucketFiles | None, elsewhere: Elsewhere) -> None:
        """`bucket` has the files where the machines share no folder; `elsewhere` is that of a client."""
        self.store, self.home, self._bucket, self._elsewhere = store, home, bucket, elsewhere

    def versions(self) -> list[Version]:
        """Every version of every name, the newest first; `gone` says why one isn't there any more."""
        return self.store.versions()

    def promote(self, wanted: str) -> tuple[Run, str | None]:
        """Make a version its name's `latest`: (its run, the version that was it before)."""
        return self.store.promote(self.store.find(wanted).id)

    def delete(self, run: Run) -> None:
        """Delete the model's files and end its version; the run stays with what it has measured. Refused if it runs."""
        if not run.is_finished:
            raise Refused(f"run {run.name} is {run.status}", f"`ftq cancel {run.name}` first.")
        url = self._bucket.share.bucket.url if self._bucket else ""
        place.check_removal(self.store, url, run, self._bucket.has if self._bucket else lambda run: False)
        self.store.retire(run.id, "deleted")
        if self._bucket:
            self._bucket.delete_models(run)
        folder = run_dir(self.home, run.id)
        for path in [*folder.outputs("train"), *folder.outputs("export")]:
            if path.suffix == ".gguf" or path.is_dir():
                remove(path)

    def would_be_called(self, name: str) -> str:
        """What submit would note about a name that a run has; empty if it is free."""
        return names.renamed(names.free_name(self.store, name), name)

    def other_latest(self, wanted: str, run: Run) -> str:
        """A note for who asks for `handbook`, gets the run of that name and may expect handbook:latest.

        The rule: what has a `:` is a version; anything else is an id, a run's own name, or the beginning of an id.
        """
        return latest_note(self.versions(), wanted, run)

    def model(self, wanted: str, kind: str = "gguf") -> Model:
        """What `pull` and `push` take out of a run: gguf, gguf:q8_0, adapter or merged. Refused if it isn't there."""
        from ftq.delivery.parts import KIND_OF, collect

        run = self.store.find(wanted)
        if error := self._elsewhere(run, KIND_OF.get(kind.partition(":")[0], "export")):
            raise error
        if self._bucket:
            self._bucket.fetch_model(run, kind)
        return collect(run, run_dir(self.home, run.id), kind)

    def pull(
        self, model: Model, folder: Path | None = None, moved: Callable[[int], None] = lambda number: None
    ) -> Pulled:
        """Copy a model's files into a folder, checked; the same call goes on where an earlier one was stopped.

        They are as open to others as what the user's own programs write.
        """
        from ftq.delivery import pull

        place = pull.folder_of(model) if folder is None else folder
        if place.resolve().is_relative_to(self.home.resolve()):
            raise Refused(f"{place} is in the artifacts folder, where only ftq puts files", "Give another: --to DIR")
        with as_the_user():
            return pull.pull(model, place, moved)

    def push(self, model: Model, repository: str, *, private: bool, update: bool, progress: bool = False) -> Pushed:
        """Upload a model's files to the hub, as one commit. What the hub has got already isn't sent again."""
        from ftq.delivery.push import push

        return push(model, repository, private=private, update=update, progress=progress)


def latest_note(versions: list[Version], wanted: str, run: Run) -> str:
    """What `other_latest` says, of these versions."""
    latest = next((one for one in versions if one.is_latest and one.family == wanted), None)
    if latest is None or latest.run_id == run.id:
        return ""
    return f"{wanted} is the run of that name ({run.version_name or run.id}); {wanted}:latest is {latest.name}"
