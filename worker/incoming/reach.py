"""Whether this worker reaches its bucket, and may put files there. Else it takes no stage: others may do the work.

A bucket that is full, or may only be read, answers every other question. So a few bytes are put there once a minute,
and deleted. An upload that failed tells less: it comes after hours of work, in another process, and may be its size's
or its key's fault alone.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from functools import cached_property

from ftq.files.remote.bucket import Bucket, OutOfReach
from ftq.files.remote.kinds.errors import endpoint
from ftq.files.remote.kinds.silence import MOVING

log = logging.getLogger("ftq.bucket")
CALM_SECONDS, AWAY_SECONDS = 15.0, 5.0  # between two looks at a bucket that answers, and at one that doesn't
PUTS = 4  # one of so many looks puts something there: many servers count such requests
ANSWER_SECONDS = MOVING[1]  # nobody waits for the answer, and the line may be full


class Reach:
    """Asks the bucket, if there is one, again and again. `changed` is called whenever it goes, or is there again.

    `error` is why it can't be used; None while it can. `known`: it was asked at least once.
    """

    def __init__(
        self, url: str, changed: Callable[[], object], advise: Callable[[OutOfReach], OutOfReach] = lambda error: error
    ) -> None:
        self._url, self._changed, self._advise = url, changed, advise
        self.error: OutOfReach | None = None
        self.known = not url
        self._endpoint = ""
        self._looks = 0
        self._stopping = threading.Event()

    def start(self) -> None:
        if self._url:
            threading.Thread(target=self._loop, name="reach", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def facts(self) -> dict[str, object]:
        """What others are told: through which server the bucket was really reached, and why it is waited for."""
        waits = {"waits": self.error.message, "waits_fix": self.error.hint} if self.error else {}
        return {"bucket": self._url, "endpoint": self._endpoint, **waits}

    def look(self) -> None:
        """Ask it once. One answer that gets lost is no loss: it is asked anew then, by a new connection."""
        self._looks += 1
        before, error = self.error, self._ask()
        if error and not before:
            log.warning("%s: no stage is taken until it %s. %s", error.message, _does(error), error.hint)
        if before and not error:
            log.warning("the bucket %s again: stages are taken", _does(before))
        self._endpoint = self._endpoint if error else endpoint(self._url)
        is_new, self.error, self.known = not self.known or bool(error) != bool(before), error, True
        if is_new:
            self._changed()

    def _ask(self) -> OutOfReach | None:
        """One that wasn't there has to take a file too: its keys may be others now."""
        if self.known and not self.error:
            with contextlib.suppress(OutOfReach):
                self._bucket.ask(ANSWER_SECONDS, write=self._looks % PUTS == 0)
                return None
        try:
            self._bucket.probe(write=True, seconds=ANSWER_SECONDS)
        except OutOfReach as error:
            return error
        return None

    @cached_property
    def _bucket(self) -> Bucket:
        return Bucket(self._url, advise=self._advise)

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except Exception:  # of a library: it is asked again
                log.exception("the bucket")
            self._stopping.wait(AWAY_SECONDS if self.error else CALM_SECONDS)


def _does(error: OutOfReach) -> str:
    return "takes files" if error.gives else "answers"
