"""The supervisor: claim -> spawn the stage's process -> renew the lease, relay progress, obey -> finish or fail.

It runs in Celery's pool child and never loads a model. Whatever the stage's process does (ends, crashes, is killed,
runs out of memory), the supervisor turns it into one guarded write to the store.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from celery import Celery

from ftq import queue
from ftq.errors import FtqError, LeaseLost, Lost, Unavailable, first_line
from ftq.files.run_dir import RunDir, remove, run_dir, sync, sync_tree
from ftq.plan import calibration
from ftq.plan.plan import Handover
from ftq.settings import Settings
from ftq.store.store import Run, RunStore
from worker.attempt import cache, policy
from worker.attempt.keeper import Keeper, Standby
from worker.attempt.stage_process import StageProcess
from worker.machine import hardware

log = logging.getLogger("ftq.supervisor")
LOOK_SECONDS = 0.5  # how often the user's wishes are looked up
CANCEL_GRACE = 8.0  # seconds a cancelled stage has before it is killed
MILESTONES = (25, 50, 75)


@dataclass
class Outcome:
    """How a stage's process ended: `asked` is why it was told to stop, `error` what it reported."""

    exit_code: int = 0
    asked: str | None = None
    error: dict[str, str] | None = None
    out_of_memory: bool = False


class Supervisor:
    """`show_progress` gets every progress report, for whoever watches (Flower); `keeper` has a process for training."""

    def __init__(
        self, app: Celery, settings: Settings, store: RunStore, worker: str, show_progress: Callable[[Any], None],
        keeper: Keeper | None = None,
    ) -> None:  # fmt: skip
        self.app, self.settings, self.store = app, settings, store
        self.worker, self.show_progress, self.keeper = worker, show_progress, keeper
        self.terminated_at: float | None = None  # when SIGTERM came to this pool child

    def run(self, run_id: str, stage: str, attempt: int) -> bool:
        """Do one attempt of a stage; whether the run goes on to its next stage now."""
        began = time.monotonic()
        token = self.store.claim(run_id, stage, attempt, self.worker, self.settings.lease_seconds)
        if token is None:
            log.warning("%s.%s.%s isn't there to be taken: message dropped", run_id, stage, attempt)
            return False
        try:
            with self._sigterm_noted():
                return self._attempt(self.store.get(run_id), stage, attempt, _Watch(self, token, began))
        except LeaseLost:
            log.warning("%s.%s.%s lost its lease: stopped, nothing published", run_id, stage, attempt)
            with contextlib.suppress(Unavailable):
                self.store.say_lease_lost(run_id, stage, attempt, self.worker)
            return False
        except Lost as error:
            log.warning("%s.%s.%s: %s", run_id, stage, attempt, error)
            self._give_back(token, f"{error.message}. {error.hint}")
            return False
        except Exception as error:  # a full disk, a database that was away too long, a bug of ours: never a stuck run
            log.exception("%s.%s.%s", run_id, stage, attempt)
            self._give_back(token, f"the supervisor failed ({type(error).__name__}: {error}); the log of {self.worker} "
                                   "has the details")  # fmt: skip
            return False

    @contextlib.contextmanager
    def _sigterm_noted(self) -> Iterator[None]:
        """Celery's handler would raise SystemExit wherever we are. The signal itself means nothing here: a worker that
        was told to stop, or that was told to terminate this task, says so in the database."""

        def note(*_: Any) -> None:
            self.terminated_at = self.terminated_at or time.monotonic()

        if threading.current_thread() is not threading.main_thread():  # a threads pool has no such signal
            yield
            return
        before = signal.signal(signal.SIGTERM, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _attempt(self, run: Run, stage: str, attempt: int, watch: _Watch) -> bool:
        folder = run_dir(self.settings.home, run.id)
        partial = folder.partial(stage, attempt)
        watch.insist(watch.renew)  # whoever was frozen since its claim stops here: others may be at work in that folder
        folder.clear_partials(stage, attempt)
        key = cache.key(run, stage)
        fresh_from = run.stage(stage).fresh_from
        home, keep = self.settings.home, watch.keep_lease  # copying, where there are no hard links, may take long
        if key and not fresh_from and cache.take(self.store, home, run, stage, key, partial, keep):
            self._publish(folder, stage, attempt, watch, key, cached=True)
            return True
        if stage == "train" and fresh_from:
            folder.forget_checkpoints(before=fresh_from)
            (folder.checkpoints / str(attempt)).mkdir(parents=True, exist_ok=True)  # from now on the plan is its own
        if stage == "train":
            self._hand_over(run, folder)
        outcome = self._execute(run, folder, stage, attempt, watch)
        if outcome.exit_code == 0 and not outcome.error:
            self._publish(folder, stage, attempt, watch, key, cached=False)
            return True
        remove(partial)
        watch.insist(lambda: self._settle(run, stage, watch.token, outcome))
        if next_attempt := self.store.due(run.id):
            queue.send(self.app, next_attempt)
        return False

    def _hand_over(self, run: Run, folder: RunDir) -> None:
        """Write train.json: the options changed so far, the corrections for this card, the plan that is kept."""
        card = hardware.facts(self.settings.memory_gb)["gpu"]
        corrections = calibration.corrections(self.store.plans_on(card, run.spec["model"]))
        Handover(run.stage("train").changes or {}, corrections, Handover.read(folder).plan).write(folder)

    def _execute(self, run: Run, folder: RunDir, stage: str, attempt: int, watch: _Watch) -> Outcome:
        """Run the stage's process to its end, the lease renewed all the while."""
        arguments, outcome = [str(folder.path), "--attempt", str(attempt)], Outcome()
        with StageProcess(
            stage, arguments, folder.log(stage), self.settings.lease_seconds, folder.path, watch.keep_lease,
            lambda: self._standby(stage, run.spec),
        ) as process:  # fmt: skip
            how = f"standby process {process.pid} took it" if process.stood_by else f"process {process.pid} started"
            watch.insist(lambda: self.store.note(watch.token, "started", how, pid=process.pid))
            while process.running:
                for report in process.reports(timeout=LOOK_SECONDS / 5):
                    watch.relay(report, outcome)
                watch.look(process, outcome)
            for report in process.last_reports():
                watch.relay(report, outcome)
            outcome.exit_code, outcome.out_of_memory = process.exit_code, process.out_of_memory
        return outcome

    def _standby(self, stage: str, spec: dict[str, Any]) -> Standby | None:
        """The waiting process, if there is one and it fits."""
        standby = self.keeper.take() if self.keeper and stage == "train" else None
        if standby is None:
            return None
        # Unsloth, once imported, changes TRL; and several ranks have to be set up before torch is imported
        if spec["engine"] == "trl" or int(spec.get("gpus", 1)) > 1:
            standby.end()
            return None
        return standby

    def _publish(
        self, folder: RunDir, stage: str, attempt: int, watch: _Watch, key: str | None, *, cached: bool
    ) -> None:
        partial, in_place, trained = folder.partial(stage, attempt), False, 0
        sync_tree(partial, watch.keep_lease)  # before the hold, which lets nobody else write to SQLite

        def put_in_place() -> None:
            nonlocal in_place, trained
            trained = self.store.get(folder.path.name).stage("train").attempt
            with self.store.hold(watch.token, self.settings.lease_seconds):  # whoever lost the lease stops here
                if not in_place:  # the database may go away at this block's end, too
                    folder.put_in_place(stage, partial)
                    in_place = True

        def finish() -> None:
            downloaded = stage == "prepare" and not cached  # perhaps: now the model's commit is known
            known = cache.key(self.store.get(folder.path.name), stage) if downloaded else key
            self.store.succeed(watch.token, known, artifacts, cached)

        watch.insist(put_in_place)
        sync(folder.path)
        remove(partial)
        artifacts = folder.artifacts(stage)
        watch.insist(finish)
        if stage == "export":
            with contextlib.suppress(OSError):
                folder.forget_checkpoints(before=trained + 1)  # the adapter was read: they have done their work

    def _settle(self, run: Run, stage: str, token: str, outcome: Outcome) -> None:
        """Hand back what was told to stop or was lost; adapt, retry or fail the rest by the kind of its failure."""
        if outcome.asked:
            self.store.release(token, *policy.STOPS[outcome.asked])
            return
        error = policy.explain(run.id, stage, outcome.exit_code, outcome.error, outcome.out_of_memory)
        if error["kind"] == "lost":
            self.store.lose(token, error["message"])
            return
        current, by_kernel = self.store.get(run.id).stage(stage), outcome.error is None
        decision = policy.decide(stage, error, run.spec, current, self.settings.max_attempts, by_kernel=by_kernel)
        if decision.retry:
            counts = decision.changes is None  # an adaptation is no attempt that brought nothing
            self.store.release(token, "retried", decision.reason, changes=decision.changes, counts=counts)
        else:
            self.store.fail(token, decision.error)

    def _give_back(self, token: str, reason: str) -> None:
        """What this machine can't do now goes on later, or on another one: the reconciler sends it."""
        with contextlib.suppress(FtqError):
            self.store.lose(token, reason)


class _Watch:
    """What the supervisor does from its claim on: renew the lease; and while the stage's process runs, relay, obey."""

    def __init__(self, supervisor: Supervisor, token: str, claimed_at: float) -> None:
        self.supervisor, self.store, self.token = supervisor, supervisor.store, token
        self.lease, self.grace = supervisor.settings.lease_seconds, supervisor.settings.grace_seconds
        self.show_progress = supervisor.show_progress
        self.renewed = self.looked = claimed_at
        self.kill_at: float | None = None
        self.milestone = 0

    def relay(self, report: dict[str, Any], outcome: Outcome) -> None:
        event = report.pop("event")
        if event == "error":
            outcome.error = report
        elif event == "progress":
            self.show_progress(report)
            self._if_reachable(lambda: self._record(report))
        elif event == "plan":
            message = report.pop("message")
            self._if_reachable(lambda: self.store.plan(self.token, message, report))
        else:
            self._if_reachable(lambda: self.store.note(self.token, event, **report))

    def look(self, process: StageProcess, outcome: Outcome) -> None:
        """Renew the lease and see what the user wants, each when it is due; kill what had its time to stop."""
        now = time.monotonic()
        try:
            self.keep_lease(process)
            if now - self.looked > LOOK_SECONDS:
                self.looked = now
                self._if_reachable(lambda: self._obey(process, outcome))
        except LeaseLost:
            process.kill()
            raise
        if self.kill_at and now > self.kill_at:
            process.kill()

    def keep_lease(self, process: StageProcess | None = None) -> None:
        """Renew the lease when it is due, and tell the process if it is there yet."""
        if time.monotonic() - self.renewed > self.lease / 4:
            self._if_reachable(lambda: self.renew(process))
        if time.monotonic() - self.renewed > self.lease:
            raise LeaseLost("the lease couldn't be renewed in time")

    def renew(self, process: StageProcess | None = None) -> None:
        began = time.monotonic()
        self.store.renew(self.token, self.lease)
        if process:
            process.beat()
        self.renewed = began

    def _record(self, progress: dict[str, Any]) -> None:
        self.store.progress(self.token, progress)
        self._pass_milestones(progress)

    def _if_reachable(self, action: Callable[[], None]) -> None:
        """A database that is away for a moment costs a report, not the stage; the lease says how long a moment is."""
        try:
            action()
        except LeaseLost:
            raise
        except Exception as error:
            log.warning("database: %s", first_line(error))

    def insist(self, write: Callable[[], None]) -> None:
        """A write without which the attempt's work is lost: again and again while the lease lasts."""
        tried = False
        while True:
            try:
                return write()
            except LeaseLost:
                if tried and time.monotonic() - self.renewed <= self.lease:
                    return  # nobody else could have the stage yet: it was written, and only the answer was lost
                raise
            except Unavailable as error:
                tried = True
                if time.monotonic() - self.renewed > self.lease:
                    raise LeaseLost("the database was away for longer than the lease") from error
                log.warning("database: %s", first_line(error))
                time.sleep(LOOK_SECONDS)

    def _obey(self, process: StageProcess, outcome: Outcome) -> None:
        wanted, draining = self.store.check(self.token)
        wish = wanted if wanted != "run" else "drain" if draining else None
        if wish is None or outcome.asked == wish or (outcome.asked and wish != "cancel"):
            return  # once asked to stop only a cancel, which has less patience, changes anything
        outcome.asked = wish
        process.terminate()
        kill_at = time.monotonic() + (CANCEL_GRACE if wish == "cancel" else max(1.0, self.grace - 5))
        self.kill_at = min(kill_at, self.kill_at or kill_at)

    def _pass_milestones(self, progress: dict[str, Any]) -> None:
        reached = max((mark for mark in MILESTONES if progress["percent"] >= mark), default=0)
        if reached > self.milestone:
            self.milestone = reached
            step = f", step {progress['step']} of {progress['total_steps']}" if progress.get("step") else ""
            loss = f", loss {progress['loss']:.4f}" if progress.get("loss") is not None else ""
            self.store.note(self.token, "progress", f"{reached} %{step}{loss}")
