"""One training on several GPUs: the stage's process is rank 0 and starts the others, one for each further GPU.

They meet by the environment that torch.distributed reads (`env://`), under torchrun's names, so every library finds
what it knows. Why not torchrun itself: it starts each rank in a session of its own, with the inherited descriptors
closed and standard input shared (`SubprocessHandler._popen` in torch.distributed.elastic). The supervisor's kill goes
to the stage's process group and wouldn't reach them; its lock would be free while they still held their GPU's memory;
and each beat of its heart would be read by one of them and missed by the rest.

Rank 0 alone speaks to the supervisor, publishes and is told to stop. The others follow its decisions (`agree`), say
nothing but how they failed, and live no longer than it does. One that fails ends rank 0, and so the stage.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO, TYPE_CHECKING, Any

from ftq.errors import FtqError, UserError
from worker.host import leash
from worker.machine import hardware
from worker.stages import STOPPED

if TYPE_CHECKING:
    from worker.stages.process.main import Report

ECHO_SECONDS = 3.0  # a rank's end is seen by its watcher within that of the error that it causes in rank 0
PARTING_SECONDS = 30.0  # what the others have to give back their GPU once all is done
_NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_FOLLOWED = "FTQ_RANK_ZERO"  # the process id of rank 0, in the environment of those that it started

_others: _Others | None = None  # in rank 0
_channel: Any = None  # the process group for decisions, made at its first use


def start(count: int, report: Report) -> None:
    """Make this process rank 0 of `count`, the others started; in one of those, nothing.

    To be called in the main thread (the others die with the thread that started them) and before torch is imported.
    UserError where there are fewer GPUs.
    """
    global _others
    if _is_follower():
        return
    for name in _NAMES:  # what a cluster's launcher left for the worker isn't for its stages
        os.environ.pop(name, None)
    if count > 1:
        _check_gpus(count)
        os.environ.update(_environment(0, count, _free_port()))
        _others = _Others(count, report)


def current() -> tuple[int, int]:
    """(this process's rank, the number of ranks): (0, 1) for a training on one GPU."""
    if _others is None and not _is_follower():
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def is_first() -> bool:
    """Whether this process is the one that reports, writes and publishes."""
    return current()[0] == 0


def follow() -> bool:
    """Whether this process is one that rank 0 started; if so it now dies with it, and leaves stopping to it."""
    if not _is_follower():
        return False
    if not leash.put_on(int(os.environ[_FOLLOWED]), signal.SIGKILL):
        os._exit(STOPPED)  # rank 0 died before it could be followed
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    return True


def agree(decisions: list[bool]) -> list[bool]:
    """Rank 0's decisions, in every rank. Each rank has to call it at the same moments with as many decisions.

    They go through the CPU: a broadcast on the GPU would make each step wait until the GPU has caught up.
    """
    if current()[1] == 1:
        return decisions
    import torch
    import torch.distributed as dist

    told = torch.tensor(decisions, dtype=torch.uint8)
    dist.broadcast(told, src=0, group=_meet())
    return [bool(value) for value in told.tolist()]


def share(value: Any) -> Any:
    """Rank 0's value, in every rank."""
    if current()[1] == 1:
        return value
    import torch.distributed as dist

    shared = [value]
    dist.broadcast_object_list(shared, src=0, group=_meet())
    return shared[0]


def barrier() -> None:
    """Wait here until every rank has come."""
    if current()[1] > 1:
        import torch.distributed as dist

        dist.barrier(group=_meet())


def finish() -> None:
    """All is done: part from each other. Rank 0 returns when the others are gone, the others end here."""
    global _channel
    if _others:
        _others.part()
    dist = sys.modules.get("torch.distributed")
    if current()[1] > 1 and dist and dist.is_initialized():
        barrier()  # nobody may leave while rank 0 would still call that a failure
        dist.destroy_process_group()
        _channel = None
    if _others:
        _others.wait()
    elif _is_follower():
        sys.stdout.flush()
        os._exit(0)  # an interpreter with torch in it takes seconds to end, and rank 0 waits


def part() -> bool:
    """Rank 0 is about to say how it failed: whatever befalls the others from now on is a consequence."""
    return _others is None or _others.part()


def hear_others() -> None:
    """An error in rank 0 may be the echo of another's end. If so, its watcher says that and this never returns."""
    if _others and _others.failed.wait(ECHO_SECONDS):
        time.sleep(ECHO_SECONDS)  # the watcher ends this process meanwhile


class _Others:
    """The processes of rank 1 and up, each with a thread of rank 0 that waits for its end."""

    def __init__(self, count: int, report: Report) -> None:
        self.report = report
        self.failed = threading.Event()
        self._lock, self._parted = threading.Lock(), False
        self.processes = [self._start(rank, count) for rank in range(1, count)]

    def _start(self, rank: int, count: int) -> subprocess.Popen[bytes]:
        """The same command line again. The lock that the supervisor handed down goes along (close_fds=False)."""
        said = tempfile.TemporaryFile()  # noqa: SIM115  its watcher closes it
        environment = os.environ | _environment(rank, count, os.environ["MASTER_PORT"])
        environment |= {_FOLLOWED: str(os.getpid()), "FTQ_REPORT_FD": str(said.fileno())}
        os.set_inheritable(said.fileno(), True)
        process = subprocess.Popen(
            [sys.executable, *sys.orig_argv[1:]], stdin=subprocess.DEVNULL, env=environment, close_fds=False
        )
        os.set_inheritable(said.fileno(), False)
        threading.Thread(target=self._watch, args=(rank, process, said), daemon=True).start()
        return process

    def _watch(self, rank: int, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        with said:
            code = process.wait()
            error = _last_error(said)
        if code in (0, STOPPED):
            return
        self.failed.set()
        if not self.part():
            return
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        print(f"rank {rank} ended {how}, so the training ends", file=sys.stderr, flush=True)
        if error:
            self.report.error(error)
        _end_like(code)

    def part(self) -> bool:
        """Whether the caller is the first to say how this ends."""
        with self._lock:
            first, self._parted = not self._parted, True
        return first

    def wait(self) -> None:
        for process in self.processes:
            try:
                process.wait(PARTING_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _is_follower() -> bool:
    return _FOLLOWED in os.environ


def _check_gpus(count: int) -> None:
    found = hardware.own_gpus()
    if found and len(found) < count:
        message = f"gpus={count}, but this process was given {len(found)} ({','.join(found)})"
        raise UserError(message, f"Start a worker with more: `ftq worker --gpus {','.join(map(str, range(count)))}`")


def _environment(rank: int, count: int, port: str) -> dict[str, str]:
    """What torch.distributed and the libraries on it read. All ranks are here: nothing listens to the network."""
    local = {name: os.environ.get(name, "lo") for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")}
    threads = str(max(1, len(os.sched_getaffinity(0)) // count))
    return {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **local,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
    }  # fmt: skip


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def _meet() -> Any:
    """The process group for decisions; torch.distributed is set up first where no library has done that yet."""
    global _channel
    if _channel is None:
        import torch
        import torch.distributed as dist

        if not dist.is_initialized():
            if torch.cuda.is_available():
                torch.cuda.set_device(current()[0])
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        _channel = dist.new_group(backend="gloo")
    return _channel


def _last_error(said: IO[bytes]) -> FtqError | None:
    """What the rank reported before it ended."""
    lines = os.pread(said.fileno(), os.fstat(said.fileno()).st_size, 0).splitlines()
    if not lines:
        return None
    values = json.loads(lines[-1])
    error = FtqError(values["message"], values["hint"])
    error.kind = values["kind"]
    return error


def _end_like(code: int) -> None:
    """End this process as the other rank ended, so that the supervisor draws the same conclusion."""
    if code == -signal.SIGTERM:
        os._exit(STOPPED)  # this process only notes a SIGTERM
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(abs(code))
