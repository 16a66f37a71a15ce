"""How a client gets at the files of runs, and rid of them: in the artifacts folder, or in the bucket."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ftq.client import view
from ftq.client.bucket import place
from ftq.client.follow import Following, log_from
from ftq.client.removal import Room
from ftq.delivery.parts import made_anew
from ftq.errors import Refused, Unavailable
from ftq.files import run_dir
from ftq.files.remote.bucket import MOVED
from ftq.files.run_dir import STAGES, RunDir
from ftq.store.records import Run
from ftq.store.store import RunStore

if TYPE_CHECKING:
    from ftq.client.bucket.files import BucketFiles
    from ftq.doorbell.bell import Doorbell


class RunFiles(Following):
    """The part of a client that reads the runs' files, and deletes them."""

    @property
    @abstractmethod
    def store(self) -> RunStore: ...

    @property
    @abstractmethod
    def _doorbell(self) -> Doorbell: ...

    @property
    def log_seconds(self) -> float:  # type: ignore[override]
        return 2.0 if self.settings.artifacts_url else 0.3

    @cached_property
    def _bucket(self) -> BucketFiles | None:
        """The files of machines that share no folder; None where all share the artifacts folder."""
        if not self.settings.artifacts_url:
            return None
        from ftq.client.bucket.files import BucketFiles

        return BucketFiles(self.settings, self.store)

    @cached_property
    def room(self) -> Room:
        """What runs take on the disk, and deleting it.

        UserError if the broker's workers use another database: its runs would look deleted here.
        """
        self._doorbell.check()
        if self._bucket:
            from ftq.client.bucket.room import BucketRoom

            return BucketRoom(self.store, self.settings, self._bucket)
        return Room(self.store, self.settings)

    def run_dir(self, run_id: str) -> RunDir:
        """The run's folder. Where the files are in a bucket it has those that people look at, and no model."""
        if self._bucket:
            self._bucket.fetch_small(run_id)
        return self._here(run_id)

    def report_dir(self, run: Run) -> RunDir:
        """The run's folder with all that its report tells. OutOfReach if that can't be fetched now, Refused if it is in
        another bucket.
        """
        self.check_bucket(run)
        if self._bucket:
            self._bucket.fetch_told(run)
        return self._here(run.id)

    def home_of(self, *runs: Run) -> Path:
        """The artifacts folder, with what a view of these runs reads in place."""
        if self._bucket:
            self._bucket.fetch_viewed(*runs)
        return self.settings.home

    def check_reach(self) -> None:
        """OutOfReach if a file may not be in the folder of `run_dir` because it can't be fetched now."""
        if self._bucket:
            self._bucket.check_reach()

    def holds(self, run: Run, name: str) -> bool:
        """Whether there is a file of this name that the run's export has made."""
        return self._bucket.holds(run, name) if self._bucket else (self._here(run.id).path / name).is_file()

    def file_of(self, run: Run, name: str) -> Path:
        """A file that the run's export has made, fetched if it isn't on this machine."""
        return self._bucket.fetch_file(run, name) if self._bucket else self._here(run.id).path / name

    def bytes_of(self, run: Run, name: str) -> int | None:
        """The size of such a file; None if there is none."""
        if self._bucket:
            return {one.path: one.bytes for one in run.stage("export").artifacts or []}.get(name)
        path = self._here(run.id).path / name
        return path.stat().st_size if path.is_file() else None

    def quantizations(self, run: Run) -> list[str]:
        """Of the run's models that can be asked."""
        return self._bucket.quantizations(run) if self._bucket else self._here(run.id).quantizations()

    def check_bucket(self, run: Run) -> None:
        """Refused where the run's files are in another bucket than the one that is named here, if any is."""
        if error := self._other_bucket(run, "export"):
            raise error

    def urls(self, *runs: Run) -> dict[str, str]:
        """{run id: the bucket that has what isn't on this machine}; empty URLs where all machines share a folder."""
        ours, places = self.settings.artifacts_url, dict[str, str]()
        with contextlib.suppress(Unavailable):
            live = [one.facts.get("bucket") for one in self.store.workers() if one.is_live]
            if not ours or ours not in live:  # else what was copied there from another bucket counts
                places = place.places_of(self.store, runs)
        return {run.id: places.get(run.id) or ours for run in runs}

    def elsewhere(self, run: Run, made_by: str = "export") -> Refused | None:
        """Why the model of a run that has made one can't be used from here; None if it can."""
        error = None if self._bucket else view.elsewhere(run, self.settings.home, made_by)
        with contextlib.suppress(Unavailable):
            error = self._other_bucket(run, made_by) or error
        return error

    def _other_bucket(self, run: Run, made_by: str) -> Refused | None:
        """What to say where the run's files are in another bucket, and what the stage has made isn't here."""

        def has(run: Run) -> bool:
            if self._bucket:
                return self._bucket.has(run)
            is_made = run.stage(made_by).status == "succeeded"
            return is_made and view.elsewhere(run, self.settings.home, made_by) is None

        return place.elsewhere(self.store, self.settings.artifacts_url, [run], has).get(run.id)

    def no_model(self, run: Run) -> Refused:
        """What to say of a run whose model can't be asked: its files aren't here, or there are none."""
        is_made, (why, then) = run.stage("export").status == "succeeded", run.standing
        none = Refused(f"run {run.name} has no exported model{' yet' * run.goes_on}: {why}", then)
        if is_made:
            none = Refused(f"run {run.name} has no exported model any more", made_anew(run, self._here(run.id)))
        if self._bucket and is_made:
            none = Refused(f"the model of {run.name} isn't in {self.settings.artifacts_url} any more", MOVED)
        return self.elsewhere(run) or self.lost(run) or none

    def lost(self, run: Run) -> Refused | None:
        """What to say of a run whose models were made here and then deleted; None if one is there."""
        folder = self._here(run.id)
        made = any(one.kind == "gguf" for one in run.stage("export").artifacts or [])
        if self._bucket or not made or run.stage("export").status != "succeeded" or folder.quantizations():
            return None
        return Refused(f"run {run.name} has no exported model any more: it was deleted", made_anew(run, folder))

    def unlike_last(self, run: Run) -> str:
        """A note where the run, just submitted, has gone to another bucket than the one before it; else empty."""
        odd = place.other_than_last(self.store, self.settings.artifacts_url, run.id)
        return f"{odd[0]}: if that wasn't meant, `ftq rm {run.name}`, {odd[1]}, and submit again" if odd else ""

    def has_log(self, run_id: str, stages: Sequence[str]) -> bool:
        """Whether a stage has one. Refused where they are in another bucket."""
        is_here = any(self._here(run_id).log(stage).is_file() for stage in stages)
        if not set(stages) <= set(STAGES):  # that of questions is only where they were answered
            return is_here
        if self._bucket or not is_here:
            self.check_bucket(self.store.get(run_id))
        return self._bucket.has_log(run_id, stages) if self._bucket else is_here

    def logs(self, run: Run) -> list[str]:
        """The stages that have a log. A bucket isn't asked for that: a stage that has begun has one."""
        if self._bucket:
            return [stage.name for stage in run.stages if stage.started_at and not stage.cached]
        return [stage for stage in STAGES if self._here(run.id).log(stage).is_file()]

    def log_bytes(self, run_id: str, stage: str) -> int | None:
        """How long a stage's log is; None where there is none."""
        if self._bucket:
            return self._bucket.log_bytes(run_id, stage)
        path = self._here(run_id).log(stage)
        return path.stat().st_size if path.is_file() else None

    @property
    def is_far(self) -> bool:
        """Whether the workers' files aren't in this machine's artifacts folder."""
        return self._bucket is not None

    def log_from(self, run_id: str, stage: str, offset: int) -> Iterator[bytes]:
        if self._bucket and stage in STAGES:  # that of questions is only where they were answered
            return self._bucket.log_from(run_id, stage, offset)
        return log_from(self._here(run_id), stage, offset)

    def _here(self, run_id: str) -> RunDir:
        return run_dir.run_dir(self.settings.home, run_id)
