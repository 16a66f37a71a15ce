"""What every stage's process shares: its command line, its reports, and knowing when to stop.

A stage is `python -m worker.stages.<stage> RUN_DIR [--set key=value]...`: a function of a directory. By hand it reports
to the terminal and publishes what it made. Under the supervisor it writes its reports as JSON lines to the pipe
FTQ_REPORT_FD and leaves publishing to the supervisor, which knows whether it still holds the lease. Its standard input
is then the supervisor's heartbeat: if it ends, or is silent for a lease, nobody waits for this process any more. A
training run on several GPUs has a process for each GPU, and only the first does all this (ranks.py).
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ftq.errors import FtqError, OutOfMemory, RunError, UserError, is_disk_full, printable, utf8
from ftq.files.run_dir import RunDir, remove
from ftq.plan.plan import Handover
from ftq.settings import protect_files
from ftq.spec.options import RunSpec, parse, parse_assignment
from ftq.start import settle
from worker.stages import STOPPED
from worker.stages.process import ranks
from worker.stages.process.quiet import quiet

REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
TOLD = ("note", "warning")  # events that the log has too
OWNER = (
    "On the worker's machine, correct its owner and mode, or name another folder (FTQ_HOME, FTQ_CACHE, HF_HOME); "
    "then `ftq retry RUN`."
)
AGAIN = "`ftq logs RUN` has the details; `ftq retry RUN` tries again."
ORPHAN_GRACE = 10.0  # seconds a stage has to save a checkpoint after its supervisor died


class Report:
    """Sends JSON lines to the supervisor, or readable lines to the terminal when there is none.

    In a rank above 0 it sends only the error, and to rank 0 (`only_errors`).
    """

    def __init__(self, fd: int | None = None, only_errors: bool = False) -> None:
        self._pipe = os.fdopen(fd, "w", buffering=1, encoding="utf-8") if fd is not None else None
        self._only_errors = only_errors
        self.stop_requested = False

    def progress(
        self,
        percent: float,
        *,
        step: int | None = None,
        total_steps: int | None = None,
        loss: float | None = None,
        tokens_per_second: float | None = None,
        eta_seconds: float | None = None,
        doing: str | None = None,
    ) -> None:
        """Report how far this stage is: `percent` of its own work, 0 to 100. `doing` says what it does, in words."""
        values = {
            "percent": round(percent, 1),
            "step": step,
            "total_steps": total_steps,
            "loss": loss,
            "tokens_per_second": tokens_per_second,
            "eta_seconds": eta_seconds,
            "doing": doing,
        }
        self._send("progress", values)

    def event(self, kind: str, message: str, **data: Any) -> None:
        """Add to the run's event log: `kind` is `checkpoint`, `resumed`, `note` or `warning`.

        Notes and warnings stand in the stage's own log too: who reads what a stage did looks there.
        """
        if kind in TOLD and self._pipe is not None and not self._only_errors:
            print(f"{kind}: {printable(utf8(message))}", flush=True)
        self._send(kind, {"message": message, **data})

    def plan(self, message: str, **values: Any) -> None:
        """Report how this stage is going to work, or what it measured: kept with the stage."""
        self._send("plan", {"message": message, **values})

    def error(self, error: FtqError) -> None:
        self._send("error", asdict(RunError.of(error)))

    def stop_on_sigterm(self) -> None:
        """Let SIGTERM only set `stop_requested` from now on; without this call it ends the process."""
        if self._only_errors:
            return  # only rank 0 is asked to stop, and it tells the others
        signal.signal(signal.SIGTERM, self._note_stop)

    def _note_stop(self, *_: Any) -> None:
        self.stop_requested = True

    def _send(self, event: str, values: dict[str, Any]) -> None:
        if self._only_errors and event != "error":
            return
        if self._pipe is None:
            text = " ".join(f"{key}={value}" for key, value in values.items() if value not in (None, ""))
            print(f"{event}: {text}", file=sys.stderr, flush=True)
            return
        with contextlib.suppress(OSError):  # the supervisor is gone: the watchdog ends this process
            self._pipe.write(json.dumps({"event": event, **values}) + "\n")


Stage = Callable[[RunDir, Path, RunSpec, Report], None]


def main(name: str, stage: Stage) -> None:
    """Run `stage(run, out, spec, report)`, which writes everything it makes into the folder `out`."""
    parser = argparse.ArgumentParser(prog=f"python -m worker.stages.{name}")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--attempt", type=int, default=0, help="number of this attempt (default 0: by hand)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another value of an option")
    arguments = parser.parse_args()
    settle()
    protect_files()
    quiet()
    follows = ranks.follow()
    fd = os.environ.get("FTQ_REPORT_FD")
    report = Report(int(fd) if fd else None, only_errors=follows)
    if fd:
        os.set_inheritable(int(fd), False)  # only this process itself may report
    if fd and not follows:
        _watch_supervisor(float(os.environ["FTQ_LEASE_SECONDS"]))
    run = RunDir(arguments.run_dir)

    def work() -> int:
        changes = Handover.read(run).changes if name == "train" else {}
        if changes:
            print("changed for lack of memory:", ", ".join(f"{key}={value}" for key, value in changes.items()))
        spec = parse({**run.read_run()["spec"], **changes, **dict(map(parse_assignment, arguments.set))})
        return _make(stage, run, run.partial(name, arguments.attempt), spec, report, publish=None if fd else name)

    sys.exit(_guarded(work, report))


def _make(stage: Stage, run: RunDir, out: Path, spec: RunSpec, report: Report, publish: str | None) -> int:
    if ranks.current()[0] == 0:
        remove(out)
        out.mkdir(parents=True)
    stage(run, out, spec, report)
    ranks.finish()
    if report.stop_requested:
        return STOPPED
    if publish:
        run.publish(publish, out)
    return 0


def _guarded(work: Callable[[], int], report: Report) -> int:
    try:
        return work()
    except FtqError as error:
        failure = error
    except OSError as error:
        traceback.print_exc()
        failure = _explain_os_error(error)
    except Exception as error:
        traceback.print_exc()
        ranks.wait_for_failed_rank()
        failure = _explain(error)
    ranks.decide_end()
    report.error(failure)
    return 1


def _explain_os_error(error: OSError) -> FtqError:
    if is_disk_full(error):
        where = error.filename or "artifacts folder"
        return UserError(f"the disk is full ({where})", "Make room, then `ftq retry RUN`.")
    if error.errno in REFUSED and error.filename:
        return UserError(f"{os.fsdecode(error.filename)}: {error.strerror}", OWNER)
    return FtqError(f"{type(error).__name__}: {error}", AGAIN)


def _explain(error: Exception) -> FtqError:
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or "out of memory" in text.lower():
        return OutOfMemory(text.splitlines()[0], "A smaller batch_size or max_seq_length, or 4 bit, needs less.")
    return FtqError(text.splitlines()[0][:500], AGAIN)


def _watch_supervisor(lease_seconds: float) -> None:
    """End this process when the supervisor's heartbeat on standard input ends or pauses for a lease."""
    last_beat = time.monotonic()

    def listen() -> None:
        nonlocal last_beat
        while os.read(0, 64):
            last_beat = time.monotonic()
        os.kill(os.getpid(), signal.SIGTERM)  # the train stage saves a checkpoint now
        time.sleep(ORPHAN_GRACE)
        os._exit(STOPPED)

    def expire() -> None:
        while time.monotonic() - last_beat < lease_seconds:
            time.sleep(0.2)
        os._exit(STOPPED)

    for target in (listen, expire):
        threading.Thread(target=target, daemon=True).start()
