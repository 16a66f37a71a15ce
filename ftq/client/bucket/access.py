"""How a client gets at the files of runs: in the artifacts folder, or out of the bucket into it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ftq.client import view
from ftq.client.follow import Following, log_from
from ftq.errors import Refused
from ftq.files import run_dir
from ftq.files.run_dir import STAGES, RunDir
from ftq.store.records import Run
from ftq.store.store import RunStore

if TYPE_CHECKING:
    from ftq.client.bucket.files import BucketFiles


class RunFiles(Following):
    """The part of a client that reads the runs' files."""

    @property
    @abstractmethod
    def store(self) -> RunStore: ...

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

    def run_dir(self, run_id: str) -> RunDir:
        """The run's folder. Where the files are in a bucket it has those that people look at, and no model."""
        if self._bucket:
            self._bucket.fetch_small(run_id)
        return self._here(run_id)

    def report_dir(self, run: Run) -> RunDir:
        """The run's folder with all that its report tells. OutOfReach if that can't be fetched now."""
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

    def elsewhere(self, run: Run) -> Refused | None:
        """Why the model of a run that has made one can't be used from here; None if it can."""
        return None if self._bucket else view.elsewhere(run, self.settings.home)

    def no_model(self, run: Run) -> Refused:
        """What to say of a run whose model can't be asked: its files aren't here, or there are none."""
        none = Refused(f"run {run.name} has no exported model (status: {run.status})", f"`ftq status {run.name}`")
        return self.elsewhere(run) or none

    def has_log(self, run_id: str, stages: Sequence[str]) -> bool:
        if self._bucket and set(stages) <= set(STAGES):
            return self._bucket.has_log(run_id, stages)
        return any(self._here(run_id).log(stage).is_file() for stage in stages)

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
