"""The runs' files for a client that shares no folder with the workers. What is here already costs nothing."""

from __future__ import annotations

import contextlib
import operator
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ftq.client import submit
from ftq.client.bucket.place import advise
from ftq.client.view import VIEWED
from ftq.errors import NotFound, Refused, Unavailable
from ftq.files.artifact import gguf_name, quantization_of
from ftq.files.remote import record, share
from ftq.files.remote.bucket import Bucket, Gone, OutOfReach
from ftq.files.remote.logs import Logs
from ftq.files.remote.manifest import manifest_key
from ftq.files.remote.share import Share, needed_by_people
from ftq.files.run_dir import STAGES, run_dir
from ftq.settings import Settings
from ftq.store.records import Run
from ftq.store.store import RunStore

AGAIN_SECONDS = 30.0  # a bucket that was out of reach isn't asked meanwhile: what is here is shown
MAKERS = {"gguf": "export", "merged": "export", "adapter": "train"}  # kind of model -> the stage that makes it


class BucketFiles:
    def __init__(self, settings: Settings, store: RunStore) -> None:
        self._home, self._store = settings.home, store
        url = settings.artifacts_url
        bucket = Bucket(url, patient=False, advise=lambda error: advise(error, store, url))
        self.share = Share(bucket, settings.home)
        self._logs, self._asked_again_at = Logs(self.share.bucket), 0.0
        self._away: OutOfReach | None = None  # what was told of it, until it is asked again

    # ---- to look at -------------------------------------------------------------------------------------

    def fetch_viewed(self, *runs: Run) -> None:
        """Have what a view of the runs reads, unless the bucket is out of reach."""
        for run in runs:
            for stage, name in VIEWED.items():
                self._try(run, stage, partial(operator.eq, name))

    def fetch_small(self, run_id: str) -> None:
        """Have everything of a run that people look at, unless the bucket is out of reach."""
        with contextlib.suppress(NotFound, Unavailable):
            run = self._store.get(run_id)
            for stage in run.stages:
                self._try(run, stage.name, needed_by_people)
            self._fetch_logs(run)

    def fetch_told(self, run: Run) -> None:
        """Have everything that the run's page tells. OutOfReach: a page that leaves something out is wrong."""
        (run_dir(self._home, run.id).path / record.FOLDER).mkdir(parents=True, exist_ok=True)
        for stage in run.stages:
            if stage.status == "succeeded" and not self._is_older(run, stage.name):
                with contextlib.suppress(Gone):
                    self.share.fetch(run.id, stage.name, stage.attempt, needed_by_people)

    def fetch_reports(self, spec: dict[str, Any], documents_hash: str | None) -> None:
        """Have what earlier runs tell of these documents, and of the tokens of this model."""
        runs = self._store.all(submit.RUNS)
        submit.fetch_reports(
            runs, spec, documents_hash, lambda run, names: self._try(run, "prepare", names.__contains__)
        )

    # ---- to use -----------------------------------------------------------------------------------------

    def fetch_file(self, run: Run, name: str) -> Path:
        """One file that the export has made, fetched if it isn't here. Gone, or OutOfReach."""
        if self._is_older(run, "export"):
            return run_dir(self._home, run.id).path / name
        self.share.fetch(run.id, "export", run.stage("export").attempt, lambda path: path == name)
        return run_dir(self._home, run.id).path / name

    def fetch_model(self, run: Run, kind: str) -> None:
        """Have what `pull` takes out: gguf, gguf:q8_0, adapter or merged. Refused if the bucket hasn't got it."""
        kind, _, quant = kind.partition(":")
        stage = run.stage(MAKERS.get(kind, "export"))
        if stage.status != "succeeded" or self._is_older(run, stage.name):
            return  # whoever collects the files says so
        self.fetch_small(run.id)
        names = self.quantizations(run) if kind == "gguf" else []
        if kind == "gguf":
            wanted = quant or next((one for one in run.spec.get("quantizations", []) if one in names), "")
            if quant and quant not in names:
                raise Refused(f"run {run.name} has no {quant}, it has {', '.join(names) or 'no model'}")
            names = [gguf_name(wanted or one) for one in names[:1]]
        chosen = tuple(names) or (f"{kind}/",)
        try:
            self.share.fetch(run.id, stage.name, stage.attempt, lambda path: path.startswith(chosen))
            if kind == "adapter" and run.stage("export").status == "succeeded":
                self.fetch_file(run, "adapter.gguf")
        except Gone as error:
            raise Refused(f"run {run.name} has no {kind} any more: {error.message}", error.hint) from None

    def quantizations(self, run: Run) -> list[str]:
        """Of the models that can be asked, in the order of their names."""
        export = run.stage("export")
        if export.status != "succeeded":
            return []
        if self._is_older(run, "export"):
            return run_dir(self._home, run.id).quantizations()
        names = self.share.bucket.names(f"{run.id}/export.{export.attempt}")
        return [quantization for name in names if (quantization := quantization_of(name))]

    def holds(self, run: Run, name: str) -> bool:
        """Whether the export has made a file of this name, and nobody has deleted it."""
        export = run.stage("export")
        if self._is_older(run, "export"):
            return (run_dir(self._home, run.id).path / name).is_file()
        return export.status == "succeeded" and name in self.share.bucket.names(f"{run.id}/export.{export.attempt}")

    def has(self, run: Run) -> bool:
        """Whether the bucket has what the run was submitted with. False if that can't be known now."""
        submitted = manifest_key(run.id, share.SUBMIT, share.SUBMITTED)
        with contextlib.suppress(Unavailable):
            return submitted in [f"{run.id}/{name}" for name in self.share.bucket.names(run.id)]
        return False

    def delete_models(self, run: Run) -> None:
        """Delete the model's files; what was measured stays."""
        keys = list[str]()
        for stage in ("train", "export"):
            for key in self.share.bucket.sizes(f"{run.id}/{stage}.{run.stage(stage).attempt}"):
                path = key.split("/", 2)[2]
                if path.endswith(".gguf") or "/" in path:
                    keys.append(key)
        self.share.bucket.delete(*keys)

    def check_reach(self) -> None:
        """OutOfReach if something isn't here because the bucket is out of reach, not because the run hasn't got it."""
        if self._away and self._is_away:
            raise self._away.anew()

    # ---- logs -------------------------------------------------------------------------------------------

    def has_log(self, run_id: str, stages: Sequence[str]) -> bool:
        return self._logs.has(run_id, tuple(stages))

    def log_bytes(self, run_id: str, stage: str) -> int | None:
        return self._logs.length(run_id, stage)

    def log_from(self, run_id: str, stage: str, offset: int) -> Iterator[bytes]:
        yield from self._logs.read(run_id, stage, offset)

    # ---- inside -----------------------------------------------------------------------------------------

    def _fetch_logs(self, run: Run) -> None:
        """Have the logs of the stages as far as they have come; those of a stage that runs here are its own."""
        folder = run_dir(self._home, run.id)
        if self._is_away:
            return
        try:
            for stage in STAGES:
                if record.ran_here(folder.path, stage) or not self._logs.has(run.id, (stage,)):
                    continue
                with record.locked(folder.path):
                    folder.log(stage).parent.mkdir(parents=True, exist_ok=True)
                    with folder.log(stage).open("ab") as log:
                        for piece in self._logs.read(run.id, stage, log.tell()):
                            log.write(piece)
        except OutOfReach as error:
            self._note_away(error)

    @property
    def _is_away(self) -> bool:
        return time.monotonic() < self._asked_again_at

    def _note_away(self, error: OutOfReach) -> None:
        self._away, self._asked_again_at = error, time.monotonic() + AGAIN_SECONDS

    def _is_older(self, run: Run, stage: str) -> bool:
        """Whether the stage's files are here alone: the run is from before there was a bucket."""
        folder = run_dir(self._home, run.id)
        return record.read(folder.path, stage) is None and bool(folder.outputs(stage))

    def _try(self, run: Run, name: str, wanted: share.Wanted) -> bool:
        stage = next((one for one in run.stages if one.name == name), None)
        if stage is None or stage.status != "succeeded" or self._is_away:
            return False
        if self._is_older(run, name):
            return True
        try:
            self.share.fetch(run.id, name, stage.attempt, wanted)
            return True
        except OutOfReach as error:
            self._note_away(error)
        except Gone:
            pass
        return False
