"""The watch over one attempt: it renews the lease, relays the process's reports and stops the process when asked to.

An unreachable database costs reports only; the stage goes on until the lease has run out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ftq.errors import LeaseLost, RunError, Unavailable, first_line
from ftq.settings import Settings
from ftq.store.store import RunStore
from worker.attempt.stage_process import StageProcess

log = logging.getLogger("ftq.supervisor")
LOOK_SECONDS = 0.5  # between two looks at what the user wants
CANCEL_GRACE = 8.0  # seconds that a cancelled stage has before it is killed
MILESTONES = (25, 50, 75)


@dataclass
class Outcome:
    """How a stage's process ended: `asked` is why it was asked to stop, `error` what it reported."""

    exit_code: int = 0
    asked: str | None = None
    error: RunError | None = None
    out_of_memory: bool = False


class Watch:
    """Holds the lease of `token`. `claimed_at` is the time of the claim, by time.monotonic."""

    def __init__(
        self, store: RunStore, settings: Settings, token: str, claimed_at: float, show_progress: Callable[[Any], None]
    ) -> None:
        self.store, self.token, self.show_progress = store, token, show_progress
        self.lease, self.grace = settings.lease_seconds, settings.grace_seconds
        self.outcome = Outcome()
        self.renewed = self.looked = claimed_at
        self.kill_at: float | None = None
        self.milestone = 0
        self.heard: Callable[[str, dict[str, Any]], None] = lambda event, report: None  # is told each event
        self.bound = ""  # what is said of a checkpoint's way, once it is saved on this machine
        self.aside: str | None = None  # what `ftq status` says beside the process's progress
        self.progress: dict[str, Any] = {"percent": 0.0}

    def follow(self, process: StageProcess) -> Outcome:
        """Relay the process's reports, renew the lease and obey the user, until the process has ended."""
        while process.running:
            for report in process.reports(timeout=LOOK_SECONDS / 5):
                self._relay(report)
            self._look(process)
        for report in process.last_reports():
            self._relay(report)
        self.outcome.exit_code, self.outcome.out_of_memory = process.exit_code, process.out_of_memory
        return self.outcome

    def keep_lease(self, process: StageProcess | None = None) -> None:
        """Renew the lease when it is due, and send the process, if there is one yet, a heartbeat."""
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

    def wish(self) -> str | None:
        """Why the stage should stop: cancel, pause or drain; None where it should go on."""
        wanted, draining = self.store.check(self.token)
        return wanted if wanted != "run" else "drain" if draining else None

    def doing(self, what: str | None) -> None:
        """Say what is done before the stage's process starts, or after it has ended; None says that it is done."""
        self.store.progress(self.token, {**self.progress, "doing": what})

    def insist(self, write: Callable[[], None]) -> None:
        """Do a write that must not get lost: try again while the lease lasts."""
        tried = False
        while True:
            try:
                return write()
            except LeaseLost:
                if tried and time.monotonic() - self.renewed <= self.lease:
                    return  # still our lease: the write arrived, only its answer was lost
                raise
            except Unavailable as error:
                tried = True
                if time.monotonic() - self.renewed > self.lease:
                    raise LeaseLost("the database was unreachable for longer than the lease") from error
                log.warning("database: %s", first_line(error))
                time.sleep(LOOK_SECONDS)

    def _relay(self, report: dict[str, Any]) -> None:
        event = report.pop("event")
        if event == "error":
            self.outcome.error = RunError.from_json(report)
        elif event == "progress":
            self.show_progress(report)
            self._if_reachable(lambda: self._record(report))
        elif event == "plan":
            message = report.pop("message")
            self._if_reachable(lambda: self.store.plan(self.token, message, report))
        else:
            if event == "checkpoint":
                report["message"] += self.bound
            self._if_reachable(lambda: self.store.note(self.token, event, **report))
        self.heard(event, report)

    def _record(self, progress: dict[str, Any]) -> None:
        self.progress = progress
        self.store.progress(self.token, {**progress, "doing": self.aside} if self.aside else progress)
        self._pass_milestones(progress)

    def _pass_milestones(self, progress: dict[str, Any]) -> None:
        reached = max((mark for mark in MILESTONES if progress["percent"] >= mark), default=0)
        if reached > self.milestone:
            self.milestone = reached
            step = f", step {progress['step']} of {progress['total_steps']}" if progress.get("step") else ""
            loss = f", loss {progress['loss']:.4f}" if progress.get("loss") is not None else ""
            self.store.note(self.token, "progress", f"{int(progress['percent'])} %{step}{loss}")  # more, after a resume

    def _look(self, process: StageProcess) -> None:
        """Renew the lease and obey the user, each when it is due; kill a process that hasn't stopped in time."""
        now = time.monotonic()
        try:
            self.keep_lease(process)
            if now - self.looked > LOOK_SECONDS:
                self.looked = now
                self._if_reachable(lambda: self._obey(process))
        except LeaseLost:
            process.kill()
            raise
        if self.kill_at and now > self.kill_at:
            process.kill()

    def _obey(self, process: StageProcess) -> None:
        wish, asked = self.wish(), self.outcome.asked
        if wish is None or asked == wish or (asked and wish != "cancel"):
            return  # after the first request to stop only a cancel, whose grace is shorter, changes anything
        self.outcome.asked = wish
        process.terminate()
        kill_at = time.monotonic() + (CANCEL_GRACE if wish == "cancel" else max(1.0, self.grace - 5))
        self.kill_at = min(kill_at, self.kill_at or kill_at)

    def _if_reachable(self, action: Callable[[], None]) -> None:
        """Ignore the database's errors until the lease runs out: a report may be lost, the stage goes on."""
        try:
            action()
        except LeaseLost:
            raise
        except Exception as error:
            log.warning("database: %s", first_line(error))
