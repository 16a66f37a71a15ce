"""Whether anything comes of what a bucket is asked: a server that hangs is told apart from a line that is thin.

No library tells how many bytes of a large part are on their way. So a bucket that has answered nothing for a while is
asked something small, beside the rest: to take a few bytes, where files are to be put there. A cluster whose disks are
full lists and gives all that it has, and never answers who writes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from ftq.files.remote.kinds.errors import OutOfReach

SILENT_SECONDS, PROBE_SECONDS = 1.0, 2.5  # without an answer; in which something small has to be answered then
MOVING = (4.0, 10.0)  # the same two while files are on their way: they may fill a thin line
AGAIN_SECONDS = 10.0  # after which it is asked once more


class Silence:
    """Of one bucket, for all threads that use it.

    `ask` raises OutOfReach unless something small is answered in time, or taken if its second argument says so.

    `error` is what it raised last; None since something was answered. `answered_at` is a time of time.monotonic.
    """

    def __init__(self, ask: Callable[[float, bool], None]) -> None:
        self._ask = ask
        self._counting, self._asking = threading.Lock(), threading.Lock()
        self._open, self._files, self._puts, self._since, self._again_at = 0, 0, 0, 0.0, 0.0
        self.answered_at = 0.0
        self.error: OutOfReach | None = None

    @contextlib.contextmanager
    def during(self, moves_file: bool, puts: bool = False) -> Iterator[None]:
        """The block asks the bucket something, or moves a file, which may be large. `puts`: into the bucket."""
        with self._counting:
            self._open += 1
            self._files += moves_file
            self._puts += puts
            if self._open == 1:
                self._since = time.monotonic()
        try:
            yield
            self.answered_at = self._since = time.monotonic()
            self.error = None
        finally:
            with self._counting:
                self._open -= 1
                self._files -= moves_file
                self._puts -= puts

    def check(self, puts: bool = False) -> None:
        """OutOfReach if nothing comes of what is asked, nor of something small. May wait for that; one thread asks."""
        if self._is_long:
            with self._asking:
                if time.monotonic() >= self._again_at:
                    self._ask_now()
            self._raise(puts)

    def look(self) -> OutOfReach | None:
        """What `check` would raise, as far as that is known by now: it is asked in a thread."""
        if not self._is_long:
            return None
        if time.monotonic() >= self._again_at and not self._asking.locked():
            threading.Thread(target=self._check, name="silence", daemon=True).start()
        return self.error

    def refuse(self, puts: bool = False) -> None:
        """OutOfReach at once while the bucket is known to be silent. After a while one thread tries whether it is.

        One that only takes nothing is refused to who `puts`.
        """
        if self.error and time.monotonic() >= self._again_at and self._asking.acquire(blocking=False):
            try:
                self._ask_now()
            finally:
                self._asking.release()
        self._raise(puts)

    @property
    def _is_long(self) -> bool:
        return self._open > 0 and time.monotonic() - self._since > self._limits[0]

    @property
    def _limits(self) -> tuple[float, float]:
        return MOVING if self._files else (SILENT_SECONDS, PROBE_SECONDS)

    def _check(self) -> None:
        with contextlib.suppress(OutOfReach):
            self.check()

    def _ask_now(self) -> None:
        began = time.monotonic()
        try:
            self._ask(self._limits[1], self._puts > 0)
            self.error = None
        except OutOfReach as error:
            self.error = error if self.answered_at < began else None  # something else was answered meanwhile
        self._again_at = time.monotonic() + AGAIN_SECONDS

    def _raise(self, puts: bool) -> None:
        if (error := self.error) and (puts or not error.gives):
            raise error.anew()
