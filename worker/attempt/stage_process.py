"""A stage's process: started in a session of its own, heard through a pipe, kept alive by a heartbeat."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from ftq.errors import Lost
from ftq.files.log_head import head
from ftq.servers import BUCKET_SECRETS, LLM_SECRETS, NOT_FOR_STAGES
from ftq.words import LineBuffer
from worker.machine.hardware import computing, out_of_memory_kills

if TYPE_CHECKING:
    from worker.attempt.keeper import Standby

PACKAGE = "worker.stages"  # tests name a package of stages that take no time
LOCK_WAIT = 15.0  # seconds to wait for an earlier attempt's process that is still ending on this machine
STILL_THERE = "`ps -ef | grep worker.stages` on that machine shows it; `kill -9` ends it."


class StageProcess:
    """`with StageProcess(...) as process`: the process and its descriptors are gone at the end of the block."""

    def __init__(
        self,
        stage: str,
        arguments: list[str],
        log: Path,
        lease_seconds: float,
        folder: Path,
        while_waiting: Callable[[], None] = lambda: None,
        take_standby: Callable[[], Standby | None] = lambda: None,
    ) -> None:
        """Start the process, or hand the stage to a standby that is alive. Lost if an earlier process doesn't end.

        `while_waiting` is called again and again while an earlier attempt's process is still ending.
        """
        self._lock = os.open(lock_of(folder, stage), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _wait_for(self._lock, stage, while_waiting)
            self._kills_before = out_of_memory_kills()
            module = f"{PACKAGE}.{stage}"
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as output:
                output.write(head(stage, arguments[1:]))
                output.flush()
                standby = take_standby()
                served = standby.serve(module, arguments, output.fileno(), self._lock) if standby else None
                self._process, self._pipe = served or spawn([module, *arguments], output, lease_seconds, self._lock)
        except BaseException:
            os.close(self._lock)
            raise
        self.stood_by = served is not None
        self._lines = LineBuffer()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int:
        return self._process.wait()

    @property
    def out_of_memory(self) -> bool:
        """Whether the kernel has killed a process in this container for lack of memory since the start."""
        return out_of_memory_kills() > self._kills_before

    def reports(self, timeout: float) -> list[dict[str, Any]]:
        """The reports that came in, after at most `timeout` seconds."""
        if not select.select([self._pipe], [], [], timeout)[0]:
            return []
        chunk = os.read(self._pipe, 65536)
        if not chunk:
            time.sleep(timeout)  # the pipe is closed, the process is about to end: don't spin
        return [json.loads(line) for line in self._lines.take(chunk) if line]

    def last_reports(self) -> list[dict[str, Any]]:
        """What is left in the pipe after the process has ended."""
        lines = list[bytes]()
        while select.select([self._pipe], [], [], 0)[0] and (chunk := os.read(self._pipe, 65536)):
            lines += self._lines.take(chunk)
        return [json.loads(line) for line in lines if line]

    def beat(self) -> None:
        """Tell the process that its supervisor is alive and holds the lease."""
        with contextlib.suppress(BrokenPipeError):
            assert self._process.stdin
            self._process.stdin.write(b".")
            self._process.stdin.flush()

    def terminate(self) -> None:
        """Ask the process to stop: train saves a checkpoint, every other stage just ends."""
        self._process.terminate()

    def kill(self) -> None:
        """End the process and everything it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def __enter__(self) -> StageProcess:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            assert self._process.stdin
            self._process.stdin.close()
        os.close(self._pipe)
        os.close(self._lock)


def lock_of(folder: Path, stage: str) -> Path:
    """The file that the stage's process, and what it starts, keep locked until they are dead."""
    return folder / f".{stage}.lock"


def spawn(
    command: list[str], output: IO[bytes], lease_seconds: float, descriptor: int
) -> tuple[subprocess.Popen[bytes], int]:
    """Start `python -m COMMAND` as a stage's process: (the process, the reading end of the pipe of its reports).

    The process inherits `descriptor`; its standard input is the heartbeat.
    """
    read_end, write_end = os.pipe()
    withheld = NOT_FOR_STAGES + (() if command[0].endswith(".prepare") else LLM_SECRETS)
    withheld += BUCKET_SECRETS if os.environ.get("FTQ_ARTIFACTS_URL") else ()
    inherited = {name: value for name, value in os.environ.items() if name not in withheld}
    environment = inherited | computing()
    environment |= {
        "FTQ_REPORT_FD": str(write_end),
        "FTQ_LEASE_SECONDS": str(lease_seconds),
        "PYTHONUNBUFFERED": "1",
    }
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=environment,
            pass_fds=(write_end, descriptor),
            start_new_session=True,
        )
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)
    return process, read_end


def _wait_for(lock: int, stage: str, while_waiting: Callable[[], None]) -> None:
    """Take the lock that the stage's process inherits: it is free once its last holder is dead, its GPU memory freed.

    Raises Lost if that takes longer than LOCK_WAIT: beside another process the stage would find little memory.
    """
    until = time.monotonic() + LOCK_WAIT
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise Lost(
                    f"{socket.gethostname()}: the process of an earlier attempt of {stage} was asked to stop and "
                    f"was still there {LOCK_WAIT:.0f} s later",
                    STILL_THERE,
                ) from None
            time.sleep(0.1)
            while_waiting()
