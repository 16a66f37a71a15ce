"""What goes into the bucket while a stage's process runs: its log as it grows, and train's checkpoints.

The bucket may be out of reach meanwhile: then it gets them later, and the stage doesn't notice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType

from ftq.errors import first_line
from ftq.files.remote import checkpoints
from ftq.files.remote.bucket import Interrupted
from ftq.files.remote.logs import LogSender, seconds_between
from ftq.files.remote.share import Share
from ftq.files.remote.transfer import Move
from ftq.files.run_dir import RunDir
from worker.attempt.watch import Watch
from worker.stages.train.checkpoints import SEAL

log = logging.getLogger("ftq.bucket")
AGAIN_SECONDS = 5.0  # after which checkpoints are sent again when the bucket was out of reach


class Background:
    """`with Background(...)`: the threads end with the block. `heard` is told the kind of each report."""

    def __init__(self, share: Share, folder: RunDir, stage: str, attempt: int) -> None:
        run_id = folder.path.name
        self._log = LogSender(share.bucket, run_id, stage, attempt, folder.log(stage))
        self._checkpoints = checkpoints.Sender(share, run_id, attempt, lambda path: (path / SEAL).is_file())
        self._log_lock, self._state_lock = threading.Lock(), threading.Lock()
        self._ends, self._due, self._unsent = threading.Event(), threading.Event(), False
        self._move = Move()

    def __enter__(self) -> Background:
        threading.Thread(target=self._send_log, name="log", daemon=True).start()
        threading.Thread(target=self._send_checkpoints, name="checkpoints", daemon=True).start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ends.set()
        self._due.set()
        self._move.stop.set()  # nobody needs it once the stage has succeeded; else `save` sends the last one

    def heard(self, event: str) -> None:
        if event == "checkpoint":
            self._unsent = True
            self._due.set()

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

    # ---- inside -----------------------------------------------------------------------------------------

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
            self._unsent = False
            try:
                self._checkpoints.send(move)
            except BaseException:
                self._unsent = True
                raise


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
