"""The supervisor: claim -> spawn the stage's process -> renew the lease, relay progress, obey -> finish or fail.

It runs in Celery's pool child and never loads a model. Whatever the stage's process does (ends, crashes, is killed,
runs out of memory), the supervisor turns it into one guarded write to the store.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery

from ftq import queue
from ftq.errors import FtqError, LeaseLost, Lost, RunError, Unavailable
from ftq.examples.report import base_revision
from ftq.files.remote.share import Share
from ftq.files.run_dir import STAGES, RunDir, read_jsonl, remove, run_dir, sync, sync_tree
from ftq.plan import calibration
from ftq.plan.plan import Handover
from ftq.settings import Settings
from ftq.store.records import Run, queue_of
from ftq.store.store import RunStore
from ftq.trace import spans
from worker import sigterm
from worker.attempt import cache, holders, policy, promotion, traced
from worker.attempt.keeper import Keeper, Standby
from worker.attempt.remote.exchange import Exchange, Missing
from worker.attempt.remote.moving import Stopped
from worker.attempt.stage_process import StageProcess
from worker.attempt.watch import Outcome, Watch
from worker.machine import hardware

log = logging.getLogger("ftq.supervisor")


class Supervisor:
    """`show_progress` gets every progress report (for Flower); `keeper` has a standby process for training.

    `share` is the bucket of machines that share no folder.
    """

    def __init__(
        self,
        app: Celery,
        settings: Settings,
        store: RunStore,
        worker: str,
        show_progress: Callable[[Any], None],
        keeper: Keeper | None = None,
        share: Share | None = None,
    ) -> None:
        self.app, self.settings, self.store, self.share = app, settings, store, share
        self.worker, self.show_progress, self.keeper = worker, show_progress, keeper

    def run(self, run_id: str, stage: str, attempt: int) -> bool:
        """Do one attempt of a stage. Returns whether the run goes on to its next stage now."""
        began, began_at = time.monotonic(), spans.now()
        settings = self.settings
        token = self.store.claim(run_id, stage, attempt, self.worker, settings.lease_seconds, settings.owner_limit)
        if token is None:
            log.warning("%s.%s.%s can't be claimed now: message dropped", run_id, stage, attempt)
            return False
        threading.Thread(target=self._let_others_in, args=(run_id, stage), daemon=True).start()
        with holders.holding(settings.home, holders.Holder(run_id, stage, attempt, self.worker, token)):
            goes_on = self._claimed(run_id, stage, attempt, token, began)
        traced.attempt(self.store, run_id, stage, attempt, self.worker, began_at)
        if settings.owner_limit and not (goes_on and stage != STAGES[-1]):
            threading.Thread(target=self._let_owner_go_on, args=(run_id,), daemon=True).start()
        return goes_on

    def _claimed(self, run_id: str, stage: str, attempt: int, token: str, began: float) -> bool:
        """Do the attempt that has been claimed, and give it back whatever happens."""
        try:
            with sigterm.noted():  # it stops nothing: a worker that stops, or terminates this task, tells the database
                return self._attempt(
                    self.store.get(run_id),
                    stage,
                    attempt,
                    Watch(self.store, self.settings, token, began, self.show_progress),
                )
        except LeaseLost:
            log.warning("%s.%s.%s lost its lease: stopped, nothing published", run_id, stage, attempt)
            with contextlib.suppress(Unavailable):
                self.store.say_lease_lost(run_id, stage, attempt, self.worker)
            return False
        except Lost as error:
            log.warning("%s.%s.%s: %s", run_id, stage, attempt, error)
            self._give_back(token, error.line)
            return False
        except Exception as error:  # a full disk, an unreachable database, a bug of ours: the run must not get stuck
            log.exception("%s.%s.%s", run_id, stage, attempt)
            self._give_back(
                token,
                f"the supervisor failed ({type(error).__name__}: {error}); the log of {self.worker} has the details",
            )
            return False

    def _let_others_in(self, run_id: str, stage: str) -> None:
        """Send the run whose owner's turn it is once more, to the queue's front. It waits for no broker: a thread."""
        try:
            if following := self.store.next_in_turn(run_id, stage, self.settings.owner_limit):
                queue.send(self.app, following, in_turn=True)
        except Exception as error:  # then they are taken in the order in which they came
            log.info("no turn was given: %s", error)

    def _let_owner_go_on(self, run_id: str) -> None:
        """Send the run of the same owner that FTQ_OWNER_LIMIT lets begin now: its message has been turned away."""
        try:
            if following := self.store.next_of_owner(run_id, self.settings.owner_limit):
                queue.send(self.app, following)
        except Exception as error:  # then a reconciler sends it
            log.info("no run of the same owner was sent: %s", error)

    def _attempt(self, run: Run, stage: str, attempt: int, watch: Watch) -> bool:
        watch.insist(watch.renew)  # a process that was frozen since its claim ends here: another may have the stage
        exchange = Exchange(
            self.share,
            self.settings,
            self.store,
            watch,
            lambda: self.store.is_replaced(self.worker, queue_of(stage, run.spec)),
        )
        try:
            with exchange.using(run):
                outcome = self._make(run, stage, attempt, watch, exchange)
        except Stopped as stop:
            outcome = Outcome(asked=stop.asked)
        except Missing as error:
            outcome = Outcome(exit_code=1, error=RunError.of(error))
        if outcome is None:
            return True
        watch.insist(lambda: self._settle(run, stage, watch.token, outcome, exchange.end_log))
        if next_attempt := self.store.due(run.id):
            queue.send(self.app, next_attempt)
        return False

    def _make(self, run: Run, stage: str, attempt: int, watch: Watch, exchange: Exchange) -> Outcome | None:
        """Take the stage's files from the cache, or run its process. How it ended; None if its files are published."""
        folder = run_dir(self.settings.home, run.id)
        partial = folder.partial(stage, attempt)
        folder.clear_partials(stage, attempt)
        exchange.fetch_submitted(run)
        key = cache.key(run, stage, folder)
        fresh_from = run.stage(stage).fresh_from
        home, keep = self.settings.home, watch.keep_lease  # without hard links, copying may take longer than a lease

        def warn(text: str) -> None:
            watch.insist(lambda: self.store.note(watch.token, "warning", text))

        if key and not fresh_from:
            exchange.fetch_cached(run, stage, key)
            if cache.take(self.store, home, run, stage, key, partial, keep, warn):
                if stage == "train":
                    self._tell_training(key, RunDir(partial), watch)
                self._publish(folder, stage, attempt, watch, exchange, key, cached=True)
                return None
        exchange.fetch_inputs(run, stage)
        if stage == "train" and fresh_from:
            folder.forget_checkpoints(before=fresh_from)
            (folder.checkpoints / str(attempt)).mkdir(parents=True, exist_ok=True)  # marks the plan as this attempt's
        if stage == "train":
            self._hand_over(run, folder)
        with exchange.accompanying(folder, stage, attempt):
            outcome = self._execute(run, folder, stage, attempt, watch)
        if outcome.exit_code == 0 and not outcome.error:
            self._publish(folder, stage, attempt, watch, exchange, key, cached=False)
            return None
        remove(partial)
        exchange.save(outcome)
        return outcome

    def _tell_training(self, key: str, taken: RunDir, watch: Watch) -> None:
        """Note how the training run was computed whose files are taken, and what it came to.

        What was measured belongs to that one alone, and what an attempt before this one measured to another plan.
        """
        source = self.store.find_cached("train", key)
        plan = self.store.get(source).stage("train").plan if source else None
        values = {name: value for name, value in (plan or {}).items() if name != "message"} | {"measured": None}
        watch.insist(lambda: self.store.plan(watch.token, "", values))
        if lines := list(read_jsonl(taken.metrics)) if taken.metrics.is_file() else []:
            reached = {"percent": 100.0, "step": lines[-1].get("step"), "total_steps": values.get("steps")}
            watch.progress = {**reached, "loss": lines[-1].get("train_loss")}  # which stays while its files are sent
            watch.insist(lambda: self.store.progress(watch.token, watch.progress))

    def _hand_over(self, run: Run, folder: RunDir) -> None:
        """Write train.json: the options changed so far, the corrections for this card, the plan so far."""
        card = hardware.facts(self.settings.memory_gb)["gpu"]
        records = self.store.plans_on(card, run.spec["model"])
        model = run.spec["model"]
        starts = calibration.starts(records, self.worker, model, run.documents_hash)
        corrections = calibration.corrections(records, self.worker, model)
        changes = run.stage("train").changes or {}
        Handover(changes, corrections, Handover.read(folder).plan, starts).write(folder)

    def _execute(self, run: Run, folder: RunDir, stage: str, attempt: int, watch: Watch) -> Outcome:
        """Run the stage's process to its end and renew the lease meanwhile."""
        with StageProcess(
            stage,
            [str(folder.path), "--attempt", str(attempt)],
            folder.log(stage),
            self.settings.lease_seconds,
            folder.path,
            watch.keep_lease,
            lambda: self._standby(stage, run.spec),
        ) as process:
            message = f"process {process.pid} started{', with its libraries loaded before' if process.stood_by else ''}"
            watch.insist(lambda: self.store.note(watch.token, "started", message, pid=process.pid))
            return watch.follow(process)

    def _standby(self, stage: str, spec: dict[str, Any]) -> Standby | None:
        """The standby process, if there is one and it can run this stage."""
        standby = self.keeper.take() if self.keeper and stage == "train" else None
        if standby is None:
            return None
        # Unsloth changes TRL when it is imported, and several ranks have to be set up before torch is imported.
        if spec["engine"] == "trl" or int(spec.get("gpus", 1)) > 1:
            standby.end()
            return None
        return standby

    def _publish(
        self,
        folder: RunDir,
        stage: str,
        attempt: int,
        watch: Watch,
        exchange: Exchange,
        key: str | None,
        *,
        cached: bool,
    ) -> None:
        partial, in_place, trained = folder.partial(stage, attempt), False, 0
        sync_tree(partial, watch.keep_lease)  # before `hold`, during which nobody else can write to SQLite

        def put_in_place() -> None:
            nonlocal in_place, trained
            trained = self.store.get(folder.path.name).stage("train").attempt
            own_folder = self.share is not None
            with self.store.hold(watch.token, self.settings.lease_seconds, own_folder):  # LeaseLost ends it here
                if not in_place:  # done already if the database became unreachable only at the end of this block
                    folder.put_in_place(stage, partial)
                    in_place = True

        def finish() -> None:
            revision = base_revision(folder.dataset) if stage == "prepare" else None
            may_have_downloaded = stage == "prepare" and not cached  # then the model's commit is known only now
            run = self.store.get(folder.path.name)
            final_key = cache.key(run, stage, revision=revision) if may_have_downloaded else key
            judge = promotion.judge(self.settings.home, folder)
            self.store.succeed(watch.token, final_key, artifacts, cached, judge, revision)

        watch.insist(put_in_place)
        sync(folder.path)
        remove(partial)
        artifacts = folder.artifacts(stage)
        exchange.publish(folder, stage, attempt)
        watch.insist(finish)
        exchange.tidy(folder, stage, attempt, trained)
        if stage == "export":
            with contextlib.suppress(OSError):
                folder.forget_checkpoints(before=trained + 1)  # the adapter is exported: nothing needs them any more

    def _settle(self, run: Run, stage: str, token: str, outcome: Outcome, end_log: Callable[[], None]) -> None:
        """Hand back a stage that was asked to stop or was lost; after a failure adapt, retry or fail it by its kind."""
        if outcome.asked:
            end_log()
            self.store.release(token, *policy.STOPS[outcome.asked])
            return
        error = policy.explain(stage, outcome.exit_code, outcome.error, outcome.out_of_memory)
        if error.kind == "lost":
            end_log()
            self.store.lose(token, error.message)
            return
        current, by_kernel = self.store.get(run.id).stage(stage), outcome.error is None
        decision = policy.decide(stage, error, run.spec, current, self.settings.max_attempts, by_kernel=by_kernel)
        if decision.retry:
            counts = decision.changes is None  # an adapted attempt isn't a useless one
            self.store.release(token, "retried", decision.reason, changes=decision.changes, counts=counts)
        else:
            _end_log(run_dir(self.settings.home, run.id).log(stage), decision.error.of_run(run.name, ""))
            end_log()
            self.store.fail(token, decision.error)

    def _give_back(self, token: str, reason: str) -> None:
        """Give the stage back as lost: the reconciler sends it again, later or to another machine."""
        with contextlib.suppress(FtqError):
            self.store.lose(token, reason)


def _end_log(log: Path, error: RunError) -> None:
    """Write the error at the end of the stage's log, which is where people look for it."""
    with contextlib.suppress(OSError), log.open("a", encoding="utf-8", errors="backslashreplace") as output:
        output.write(f"--- failed ({error.kind}): {error.text}\n")
