"""What one attempt of a stage takes from the bucket, and what it gives: two calls round the stage.

Without a bucket every call returns at once: all machines share the artifacts folder.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from ftq.errors import FtqError
from ftq.files.remote import checkpoints, record, share
from ftq.files.remote.bucket import Gone
from ftq.files.remote.limit import trim_at_times
from ftq.files.remote.manifest import Manifest
from ftq.files.remote.share import Share, needed_by_people
from ftq.files.remote.transfer import Move
from ftq.files.run_dir import STAGES, RunDir, run_dir, write_json
from ftq.settings import Settings
from ftq.store.records import Run
from ftq.store.store import RunStore
from worker.attempt.remote.background import Background
from worker.attempt.remote.moving import Moving
from worker.attempt.watch import Outcome, Watch

# What of the earlier parts a stage doesn't read, by the beginnings of the names.
UNREAD = {
    "prepare": (),
    "train": ("documents/", "validation/"),
    "export": ("documents/", "validation/"),
    "infer": ("documents/", "validation/", "merged/", "epochs/"),
    "evaluate": ("documents/", "validation/", "merged/", "epochs/"),
}
SUBMIT_AGAIN = "If FTQ_ARTIFACTS_URL was another one where it was submitted, correct that. Then: `ftq submit`."
SAVE_SECONDS, LOG_SECONDS = 10.0, 5.0


class Missing(FtqError):
    """What the stage needs isn't in the bucket any more."""

    kind = "user"


class Exchange:
    """`is_replaced` says whether another worker could take the stage, where this one waits for the bucket."""

    def __init__(
        self,
        bucket: Share | None,
        settings: Settings,
        store: RunStore,
        watch: Watch,
        is_replaced: Callable[[], bool] = lambda: False,
    ) -> None:
        self.share, self.settings, self.store = bucket, settings, store
        self.watch, self.moving = watch, Moving(watch, bucket.bucket.silence if bucket else None, is_replaced)
        self._like: Manifest | None = None
        self._background: Background | None = None

    @contextlib.contextmanager
    def using(self, run: Run) -> Iterator[None]:
        """Keep the run's files on this machine while the block runs; other runs' may go, where it has too many."""
        if self.share is None:
            yield
            return
        with record.in_use(run_dir(self.settings.home, run.id).path):
            threading.Thread(target=trim_at_times, args=(self.settings,), name="limit", daemon=True).start()
            yield

    def fetch_submitted(self, run: Run) -> None:
        """Have run.json and the user's questions: what the stage's key is made of."""
        if self.share:
            self._fetch(run, share.SUBMIT, share.SUBMITTED, lambda path: "/" not in path)
            folder = run_dir(self.settings.home, run.id)
            told = {"id": run.id, "name": run.name, "spec": run.spec, "documents_hash": run.documents_hash}
            if not folder.run_json.is_file() or folder.read_run() != told:
                write_json(folder.run_json, told)

    def fetch_inputs(self, run: Run, stage: str) -> None:
        """Have what the stage reads. Missing if somebody has deleted it from the bucket."""
        if self.share:
            self._fetch(run, share.SUBMIT, share.SUBMITTED, _read_by(stage))
            for earlier in run.stages[: STAGES.index(stage)]:
                self._fetch(run, earlier.name, earlier.attempt, _read_by(stage))
            if stage == "train":
                self._fetch_checkpoints(self.share, run)

    def fetch_cached(self, run: Run, stage: str, key: str) -> None:
        """Have the files of the run whose stage has this key; if they are gone there is nothing to take.

        They are fetched although `publish` copies them on the server's side: the next stage reads them here.
        """
        source = self.store.find_cached(stage, key) if self.share else None
        if self.share and source:
            part = self.share
            attempt = self.store.get(source).stage(stage).attempt
            if stage == "evaluate":
                self.fetch_inputs(run, stage)  # its page is made anew, of all that the run has
            with contextlib.suppress(Gone):
                self._like = self.moving.insist(
                    f"fetching {stage} of {source}", lambda move: part.fetch(source, stage, attempt, move=move)
                )

    @contextlib.contextmanager
    def accompanying(self, folder: RunDir, stage: str, attempt: int) -> Iterator[None]:
        """Send the stage's log and checkpoints while the block runs its process."""
        if self.share is None:
            yield
            return
        record.note_that_it_runs(folder.path, stage)
        if stage == "train":
            checkpoints.note_attempt(folder, attempt)
        self._background = Background(self.share, folder, stage, attempt, self.watch)
        with self._background:
            yield

    def save(self, outcome: Outcome) -> None:
        """Send the last checkpoint before the stage is given back, if the time that it has to end suffices."""
        if self._background and outcome.asked != "cancel":
            soon = time.monotonic() + SAVE_SECONDS
            self._background.save(self.watch, self.watch.kill_at or soon)

    def end_log(self) -> None:
        """Send the rest of the log, if that can be done now."""
        if self._background:
            self._background.end_log(min(LOG_SECONDS, self.watch.lease / 4))

    def publish(self, folder: RunDir, stage: str, attempt: int) -> None:
        """Have in the bucket what the stage has put in place, the manifest last. The database says if it counts."""
        if self.share:
            names = [path.name for path in folder.outputs(stage)]
            upload = self.share.upload(folder.path.name, stage, attempt, names, like=self._like)
            bucket = self.share

            def send(move: Move) -> None:
                bucket.note(upload.go(move))

            self.moving.insist(f"sending {stage}", send, finishes=True)
            self.end_log()
            if stage == STAGES[-1]:
                self._fetch_latest(self.share, folder.path.name)

    def tidy(self, folder: RunDir, stage: str, attempt: int, trained: int) -> None:
        """Delete what nobody needs any more: the stage's earlier attempts, and after the export the checkpoints.

        The next stage doesn't wait for it. What stays, for the bucket was out of reach, goes with the run.
        """
        bucket = self.share

        def delete() -> None:
            assert bucket
            with contextlib.suppress(FtqError):
                if attempt > 1:
                    bucket.forget_earlier(folder.path.name, stage, attempt)
                if stage == "export":
                    checkpoints.forget(bucket, folder.path.name, before=trained + 1)

        if bucket and (attempt > 1 or stage == "export"):
            threading.Thread(target=delete, name="tidy", daemon=True).start()

    def _fetch_latest(self, bucket: Share, run_id: str) -> None:
        """Have the scores of the run's `latest`, which promote=better compares with, if they can be had now."""

        def fetch(move: Move) -> None:
            with contextlib.suppress(FtqError):
                run = self.store.get(run_id)
                if run.spec.get("promote") == "better":
                    latest = self.store.find(f"{run.family}:latest")
                    bucket.fetch(latest.id, "evaluate", latest.stage("evaluate").attempt, needed_by_people, move)

        self.moving.insist("fetching the scores of latest", fetch, finishes=True)

    def _fetch_checkpoints(self, bucket: Share, run: Run) -> None:
        train = run.stage("train")

        def fetch(move: Move) -> int | None:
            return checkpoints.fetch(bucket, run.id, train.fresh_from, train.attempt, move)

        if train.attempt > 1:
            self.moving.insist("fetching checkpoints", fetch)

    def _fetch(self, run: Run, part: str, attempt: int, wanted: Callable[[str], bool]) -> None:
        bucket = self.share
        assert bucket

        def fetch(move: Move) -> None:
            try:
                bucket.fetch(run.id, part, attempt, wanted, move)
            except Gone:
                if not bucket.send_older(run.id, part, attempt, move):
                    raise

        try:
            self.moving.insist(f"fetching {part}", fetch)
        except Gone as error:
            maker = part if part in STAGES else ""
            again = f"`ftq retry RUN --from {maker}` makes it anew." if maker else SUBMIT_AGAIN
            theirs, ours = self.store.buckets([run.id]).get(run.id), bucket.bucket.url
            if theirs not in (None, "", ours):
                again = (
                    f"It went to {theirs}, and this worker has FTQ_ARTIFACTS_URL={ours}: correct that. `ftq retry RUN`"
                )
            raise Missing(f"{error.message}: what {part} has made is gone from the bucket", again) from None


def _read_by(stage: str) -> Callable[[str], bool]:
    return lambda path: not path.startswith(UNREAD[stage])
