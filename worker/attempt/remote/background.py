"""What goes into the bucket while a stage's process runs: its log as it grows, and train's checkpoints.

The bucket may be out of reach meanwhile: then it gets them later, and the stage doesn't notice.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ftq.errors import FtqError, Unavailable, first_line
from ftq.files.remote import checkpoints
from ftq.files.remote.bucket import Interrupted, OutOfReach
from ftq.files.remote.logs import LogSender, seconds_between
from ftq.files.remote.share import Share
from ftq.files.remote.transfer import Move
from ftq.files.run_dir import RunDir
from worker.attempt.watch import LOOK_SECONDS, Watch
from worker.stages.train.checkpoints import SEAL

log = logging.getLogger("ftq.bucket")
AGAIN_SECONDS = 5.0  # after which checkpoints are sent again when the bucket was out of reach


class Background:
    """`with Background(...)`: the threads end with the block. The watch tells it of each checkpoint.

    The events say which of them got into the bucket, and `ftq status` that one waits for it.
    """

    def __init__(self, share: Share, folder: RunDir, stage: str, attempt: int, watch: Watch) -> None:
        run_id = folder.path.name
        self._watch, self._silence = watch, share.bucket.silence
        watch.heard, watch.bound = self._heard, ", on its way to the bucket"
        self._log = LogSender(share.bucket, run_id, stage, attempt, folder.log(stage))
        self._checkpoints = checkpoints.Sender(share, run_id, attempt, lambda path: (path / SEAL).is_file())
        self._log_lock, self._state_lock = threading.Lock(), threading.Lock()
        self._ends, self._due, self._unsent = threading.Event(), threading.Event(), False
        self._saved = self._sent = 0  # steps of the newest checkpoint here, and of that in the bucket
        self._move = Move()

    def __enter__(self) -> Background:
        threading.Thread(target=self._send_log, name="log", daemon=True).start()
        threading.Thread(target=self._send_checkpoints, name="checkpoints", daemon=True).start()
        threading.Thread(target=self._listen, name="silence", daemon=True).start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ends.set()
        self._due.set()
        self._move.stop.set()  # nobody needs it once the stage has succeeded; else `save` sends the last one
        self._watch.aside = None

    def end_log(self, seconds: float) -> None:
        """Send the rest of the log, if that can be done in so many seconds."""
        _within(seconds, self._send_rest)

    def save(self, watch: Watch, until: float) -> None:
        """Send the last checkpoint before the stage is given to another machine, if that can be done by then."""
        ended = threading.Event()

        def send() -> None:
            try:
                with self._state_lock:  # what is on its way, perhaps an older one, ends now
                    unsent = self._unsent
                if unsent:
                    self._send_state(Move())
            except Exception as error:
                log.warning("the last checkpoint isn't in the bucket: %s", first_line(error))
            ended.set()

        threading.Thread(target=send, name="last checkpoint", daemon=True).start()
        while not ended.wait(0.1) and time.monotonic() < until:
            watch.keep_lease()
        if self._sent < self._saved:
            there = f"the newest there is that at step {self._sent}" if self._sent else "it has none of this attempt"
            self._note("warning", f"the checkpoint at step {self._saved} isn't in the bucket: {there}")

    # ---- inside -----------------------------------------------------------------------------------------

    def _heard(self, event: str, report: dict[str, Any]) -> None:
        if event == "checkpoint":
            self._saved = report["step"]
            self._unsent = True
            self._due.set()

    def _listen(self) -> None:
        """Say so if the bucket answers nothing while a checkpoint is on its way: the transfer may notice it never."""
        while not self._ends.wait(LOOK_SECONDS):
            if self._sent < self._saved and (error := self._silence.look()):
                self._say_waiting(error)

    def _say_waiting(self, error: Unavailable) -> None:
        if not self._watch.aside:
            self._watch.aside = f"the checkpoint at step {self._saved} waits for the bucket"
            log.warning("%s: %s", self._watch.aside, error.message)
            self._note("warning", f"{self._watch.aside}, saved on this worker alone: {error.line}")
            self._show()

    def _say_sent(self, step: int) -> None:
        self._sent = step
        self._note("note", f"checkpoint at step {step} is in the bucket")
        if self._watch.aside:
            self._watch.aside = None
            self._show()

    def _show(self) -> None:
        """For `ftq status`, which a step that takes minutes shall not keep from it."""
        with contextlib.suppress(FtqError):
            self._watch.doing(self._watch.aside)

    def _note(self, kind: str, message: str) -> None:
        with contextlib.suppress(FtqError):  # the database is out of reach, or the lease is lost
            self._watch.store.note(self._watch.token, kind, message)

    def _send_log(self) -> None:
        began = time.monotonic()
        while not self._ends.wait(seconds_between(time.monotonic() - began)):
            _try(self._send_rest)

    def _send_rest(self) -> None:
        with self._log_lock:
            self._log.send()

    def _send_checkpoints(self) -> None:
        while True:
            self._due.wait()
            self._due.clear()
            if self._ends.is_set():
                return
            if not _try(lambda: self._send_state(self._move)):
                self._ends.wait(AGAIN_SECONDS)
                self._due.set()

    def _send_state(self, move: Move) -> None:
        with self._state_lock:
            self._unsent, step = False, self._saved
            try:
                self._checkpoints.send(move)
            except BaseException as error:
                self._unsent = True
                if isinstance(error, OutOfReach):
                    self._say_waiting(error)
                raise
            if step > self._sent:
                self._say_sent(step)


def _try(action: Callable[[], None]) -> bool:
    try:
        action()
        return True
    except Interrupted:
        return True
    except Exception as error:
        log.warning("%s", first_line(error))
        return False


def _within(seconds: float, action: Callable[[], None]) -> None:
    thread = threading.Thread(target=lambda: _try(action), daemon=True)
    thread.start()
    thread.join(seconds)
