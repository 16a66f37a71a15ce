"""The pool child's side of the standby (stages/process/standby.py): start one, hand it a stage, keep the next ready."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

from ftq.settings import Settings
from worker.attempt import stage_process
from worker.machine.hardware import free_memory

log = logging.getLogger("ftq.standby")
FREE_MEMORY = 4 * 2**30  # bytes: with less, a standby would take memory that the stages need
IDLE_SECONDS = 10.0  # a worker that has just trained exports next: the next standby shouldn't compete with the export


class Standby:
    """One process that imports everything and then waits; `serve` hands it its one stage."""

    def __init__(self, log: Path, lease_seconds: float) -> None:
        self._orders, theirs = socket.socketpair()
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        command = [f"{stage_process.PACKAGE}.process.standby", str(theirs.fileno())]
        with theirs, log.open("ab") as output:
            self._process, self._reports = stage_process.spawn(command, output, lease_seconds, theirs.fileno())
        self._kill_first(True)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def ready(self) -> bool:
        """Whether all imports are done. A standby that still imports accepts an order and starts it afterwards."""
        return self.alive and bool(select.select([self._orders], [], [], 0)[0])

    def serve(
        self, module: str, arguments: list[str], log: int, lock: int
    ) -> tuple[subprocess.Popen[bytes], int] | None:
        """Have the process run `module` with output to `log` and the shared `lock`: (process, reports). None if dead.

        A standby takes one order only: the caller drops it afterwards.
        """
        order = json.dumps({"module": module, "arguments": arguments}).encode()
        try:
            if not self.alive:
                raise BrokenPipeError
            self._kill_first(False)
            socket.send_fds(self._orders, [order], [log, lock])
        except OSError:
            self.end()
            return None
        self._orders.close()
        return self._process, self._reports

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdin
        self._process.stdin.close()
        self._orders.close()
        os.close(self._reports)

    def _kill_first(self, first: bool) -> None:
        """Set whether the kernel, when memory gets short, kills this process before any that works."""
        with contextlib.suppress(OSError):  # not on Linux, or a container that forbids it
            score = "1000" if first else Path("/proc/self/oom_score_adj").read_text(encoding="utf-8")
            Path(f"/proc/{self.pid}/oom_score_adj").write_text(score, encoding="utf-8")


class Keeper:
    """Keeps one standby ready: from the worker's start, and again once the worker has nothing to do.

    Nothing has to be closed: a standby ends by itself when this process ends, however it ends.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._standby: Standby | None = None
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def start(self, **_: Any) -> None:
        """Start a standby unless one is alive, the settings forbid it, or memory is short."""
        with self._lock:
            if not self.settings.standby or (self._standby and self._standby.alive):
                return
            if self._standby:
                self._standby.end()
                self._standby = None
            if (free := free_memory()) < FREE_MEMORY:
                log.info("no standby: %.1f GiB of memory are free, it needs %.0f", free / 2**30, FREE_MEMORY / 2**30)
                return
            self._standby = Standby(self.settings.home / "logs" / "standby.log", self.settings.lease_seconds)

    def take(self) -> Standby | None:
        """Give the standby, if there is one, to the caller."""
        with self._lock:
            standby, self._standby = self._standby, None
            return standby

    def busy(self, **_: Any) -> None:
        """Note that a task begins: no standby is started beside it."""
        if self._timer:
            self._timer.cancel()

    def idle(self, **_: Any) -> None:
        """Note that a task has ended; if none follows within IDLE_SECONDS, start the next standby."""
        self.busy()
        self._timer = threading.Timer(IDLE_SECONDS, self.start)
        self._timer.daemon = True
        self._timer.start()
