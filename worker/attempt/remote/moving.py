"""Waiting for the bucket: files move in a thread while the lease is renewed, again and again as long as it is ours."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from ftq.errors import LeaseLost, Unavailable
from ftq.files.remote.bucket import Interrupted, OutOfReach
from ftq.files.remote.kinds.silence import Silence
from ftq.files.remote.transfer import Move
from ftq.words import size
from worker.attempt.watch import LOOK_SECONDS, Watch

log = logging.getLogger("ftq.bucket")
Value = TypeVar("Value")
FIRST_WAIT, LONGEST_WAIT = 1.0, 15.0  # seconds between two tries
OTHERS_SECONDS = 5.0  # between two looks whether another worker reaches the bucket
SAY_SECONDS = 5.0  # between two reports of how far it is
CALM_SECONDS = 20.0  # without trouble, after which the bucket is there again


class Stopped(Exception):
    """The attempt doesn't go on: `asked` is cancel, pause or drain, or bucket where another worker reaches it."""

    def __init__(self, asked: str) -> None:
        super().__init__(asked)
        self.asked = asked


class Moving:
    """Moves files for the attempt of a watch. LeaseLost, or Stopped, end it; what was moved by then stays.

    `silence` is that of the bucket, if there is one. `is_replaced` says whether another worker could take the stage.
    """

    def __init__(self, watch: Watch, silence: Silence | None, is_replaced: Callable[[], bool] = lambda: False) -> None:
        self.watch, self._silence, self._is_replaced = watch, silence, is_replaced
        self._said = self._looked = self._compared = 0.0
        self._waits_since = self._trouble_at = 0.0  # 0 while nothing is wrong with the bucket
        self._asked_at: float | None = None

    def insist(self, what: str, move: Callable[[Move], Value], *, finishes: bool = False) -> Value:
        """Do it until it is done. A bucket that is out of reach is waited for, and the events say so.

        `finishes`: a pause, or a worker that stops, lets it go on for the grace that a stage has to save; and no other
        worker has what is to be sent.
        """
        began, pause = time.monotonic(), FIRST_WAIT
        while True:
            try:
                value = self._once(what, move, finishes)
                break
            except OutOfReach as error:
                self._say_waiting(what, error)
                self._wait(pause, finishes)
                pause = min(LONGEST_WAIT, 2 * pause)
        self._say_there()
        if self._said > began:
            self._show(None)
        return value

    def _once(self, what: str, action: Callable[[Move], Value], finishes: bool) -> Value:
        job = _Job(action)
        try:
            while not job.ended.wait(LOOK_SECONDS / 5):
                self._look(finishes)
                self._listen(what)
                if job.move.total and not self._waits_since and time.monotonic() - self._said > SAY_SECONDS:
                    self._show(f"{what}: {size(min(job.move.done, job.move.total))} of {size(job.move.total)}")
        finally:
            job.move.stop.set()
        return job.result()

    def _listen(self, what: str) -> None:
        """Say so if the bucket answers nothing any more: the transfer itself notices that after minutes, or never."""
        if self._silence is None:
            return
        if error := self._silence.look():
            self._say_waiting(what, error)
        elif self._waits_since and self._silence.answered_at > self._trouble_at + CALM_SECONDS:
            self._say_there()

    def _say_waiting(self, what: str, error: Unavailable) -> None:
        self._trouble_at = time.monotonic()
        if not self._waits_since:
            self._waits_since = self._trouble_at
            log.warning("%s waits: %s", what, error.message)
            self._note("waiting", f"waits for the bucket, {what}: {error.line}")
            self._show(f"waits for the bucket ({what})")

    def _say_there(self) -> None:
        if self._waits_since:
            self._note("note", f"the bucket is there again after {time.monotonic() - self._waits_since:.0f} s")
            self._waits_since = 0.0

    def _wait(self, seconds: float, finishes: bool) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._look(finishes)
            time.sleep(LOOK_SECONDS / 5)

    def _look(self, finishes: bool) -> None:
        """Renew the lease, and obey, each when it is due."""
        now = time.monotonic()
        self.watch.keep_lease()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        asked = None
        with contextlib.suppress(Unavailable):  # the next look may reach the database again
            asked = self.watch.wish()
            self._leave_to_others(now, finishes)
        if asked is None:
            return
        self._asked_at = self._asked_at or now
        if asked == "cancel" or not finishes or now - self._asked_at > max(1.0, self.watch.grace - 5):
            raise Stopped(asked)

    def _leave_to_others(self, now: float, finishes: bool) -> None:
        """Stop before the stage has begun, where waiting would only keep others from it."""
        if finishes or not self._waits_since or now - self._compared < OTHERS_SECONDS:
            return
        self._compared = now
        if self._is_replaced():
            raise Stopped("bucket")

    def _note(self, kind: str, message: str) -> None:
        with contextlib.suppress(Unavailable):
            self.watch.store.note(self.watch.token, kind, message)

    def _show(self, doing: str | None) -> None:
        """Where the attempt is, for `ftq status`; how far the stage itself has come stays."""
        self._said = time.monotonic()
        with contextlib.suppress(Unavailable):
            self.watch.doing(doing)


class _Job(Generic[Value]):
    """An action in a thread that nobody has to wait for."""

    def __init__(self, action: Callable[[Move], Value]) -> None:
        self.move, self.ended = Move(), threading.Event()
        self._action = action
        self._value: list[Value] = []
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="bucket", daemon=True).start()

    def result(self) -> Value:
        if self._error:
            raise self._error
        return self._value[0]

    def _run(self) -> None:
        try:
            self._value.append(self._action(self.move))
        except Interrupted:
            self._error = LeaseLost("nobody waits for the bucket any more")
        except BaseException as error:
            self._error = error
        finally:
            self.ended.set()
