"""One training run on several GPUs: the stage's process is rank 0 and starts the others, one for each further GPU.

They meet by torchrun's environment variables, which torch.distributed (`env://`) and the libraries on it read. Torchrun
itself isn't used: it starts each rank in a session of its own, with the inherited descriptors closed and standard input
shared (`SubprocessHandler._popen` in torch.distributed.elastic). The supervisor's kill goes to the stage's process
group and wouldn't reach such ranks. Its lock would be free while they still held their GPU's memory. And each
heartbeat would be read by one rank and missed by the rest.

Only rank 0 speaks to the supervisor, publishes and is asked to stop. The others follow its decisions (`agree`), report
nothing but an error, and live no longer than rank 0. If one of them fails, it ends rank 0, and so the stage.
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
from worker.machine import hardware, leash
from worker.stages import STOPPED

if TYPE_CHECKING:
    from worker.stages.process.main import Report

# A rank that fails causes an error in rank 0 at once; its end, which the watcher sees, may come so much later: it frees
# a GPU first, or the machine has other work.
ECHO_SECONDS = 20.0
PARTING_SECONDS = 30.0  # in which the others have to free their GPU once all is done
_NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_FOLLOWED = "FTQ_RANK_ZERO"  # the process id of rank 0, in the environment of the other ranks

_others: _Others | None = None  # in rank 0
_channel: Any = None  # the process group for decisions, made at its first use


def start(count: int, report: Report) -> None:
    """Make this process rank 0 of `count` and start the others. In one of the others, do nothing.

    Call it in the main thread (the others die with the thread that started them) and before torch is imported.
    UserError if there are fewer GPUs.
    """
    global _others
    if _is_follower():
        return
    for name in _NAMES:  # a cluster's launcher may have set these for the worker, not for its stages
        os.environ.pop(name, None)
    if count > 1:
        _check_gpus(count)
        os.environ.update(_environment(0, count, _free_port()))
        _others = _Others(count, report)


def current() -> tuple[int, int]:
    """(this process's rank, the number of ranks): (0, 1) for a training run on one GPU."""
    if _others is None and not _is_follower():
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def is_first() -> bool:
    """Whether this process is the one that reports, writes and publishes."""
    return current()[0] == 0


def follow() -> bool:
    """Whether rank 0 started this process. If so, it dies with rank 0 from now on and ignores requests to stop."""
    if not _is_follower():
        return False
    if not leash.put_on(int(os.environ[_FOLLOWED]), signal.SIGKILL):
        os._exit(STOPPED)  # rank 0 has died already
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    return True


def agree(decisions: list[bool]) -> list[bool]:
    """Return rank 0's decisions in every rank. All ranks have to call it together, with the same number of decisions.

    The broadcast uses the CPU: on the GPU, each step would wait until the GPU has caught up.
    """
    if current()[1] == 1:
        return decisions
    import torch
    import torch.distributed as dist

    values = torch.tensor(decisions, dtype=torch.uint8)
    dist.broadcast(values, src=0, group=_meet())
    return [bool(value) for value in values.tolist()]


def share(value: Any) -> Any:
    """Return rank 0's value in every rank."""
    if current()[1] == 1:
        return value
    import torch.distributed as dist

    shared = [value]
    dist.broadcast_object_list(shared, src=0, group=_meet())
    return shared[0]


def mean(value: float) -> float:
    """Return the mean over all ranks in every rank. All ranks have to call it together."""
    if current()[1] == 1:
        return value
    import torch
    import torch.distributed as dist

    total = torch.tensor([value], dtype=torch.float64)
    dist.all_reduce(total, group=_meet())
    return float(total) / current()[1]


def barrier() -> None:
    """Wait until every rank has called this."""
    if current()[1] > 1:
        import torch.distributed as dist

        dist.barrier(group=_meet())


def finish() -> None:
    """End the ranks because all is done. Rank 0 returns when the others are gone, the others end here."""
    global _channel
    if _others:
        _others.decide_end()
    dist = sys.modules.get("torch.distributed")
    if current()[1] > 1 and dist and dist.is_initialized():
        barrier()  # no rank may end before rank 0 has decided the end: that would count as a failure
        dist.destroy_process_group()
        _channel = None
    if _others:
        _others.wait()
    elif _is_follower():
        sys.stdout.flush()
        os._exit(0)  # an interpreter with torch in it takes seconds to end, and rank 0 would wait for it


def decide_end() -> bool:
    """Let rank 0 report its own failure: whatever happens to the others from now on is a consequence of it."""
    return _others is None or _others.decide_end()


def wait_for_failed_rank() -> None:
    """After an error in rank 0: if another rank failed first, its watcher reports that and this never returns."""
    if _others and _others.failed.wait(ECHO_SECONDS):
        time.sleep(ECHO_SECONDS)  # the watcher ends this process meanwhile


class _Others:
    """The processes of rank 1 and up, each with a thread of rank 0 that waits for its end."""

    def __init__(self, count: int, report: Report) -> None:
        self.report = report
        self.failed = threading.Event()
        self._lock, self._end_decided = threading.Lock(), False
        self.processes = [self._start(rank, count) for rank in range(1, count)]

    def _start(self, rank: int, count: int) -> subprocess.Popen[bytes]:
        """Start the same command line again. It inherits the supervisor's lock (close_fds=False)."""
        reports = tempfile.TemporaryFile()  # noqa: SIM115  its watcher closes it
        environment = os.environ | _environment(rank, count, os.environ["MASTER_PORT"])
        environment |= {_FOLLOWED: str(os.getpid()), "FTQ_REPORT_FD": str(reports.fileno())}
        os.set_inheritable(reports.fileno(), True)
        process = subprocess.Popen(
            [sys.executable, *sys.orig_argv[1:]], stdin=subprocess.DEVNULL, env=environment, close_fds=False
        )
        os.set_inheritable(reports.fileno(), False)
        threading.Thread(target=self._watch, args=(rank, process, reports), daemon=True).start()
        return process

    def _watch(self, rank: int, process: subprocess.Popen[bytes], reports: IO[bytes]) -> None:
        with reports:
            code = process.wait()
            error = _last_error(reports)
        if code in (0, STOPPED):
            return
        self.failed.set()
        if not self.decide_end():
            return
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        print(f"rank {rank} ended {how}, so the training run ends", file=sys.stderr, flush=True)
        if error:
            self.report.error(error)
        _end_like(code)

    def decide_end(self) -> bool:
        """Whether the caller is the first, and so decides how the stage ends."""
        with self._lock:
            first, self._end_decided = not self._end_decided, True
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
    own = hardware.own_gpus()
    if own and len(own) < count:
        message = f"gpus={count}, but this process was given {len(own)} ({','.join(own)})"
        raise UserError(message, f"Start a worker with more: `ftq worker --gpus {','.join(map(str, range(count)))}`")


def _environment(rank: int, count: int, port: str) -> dict[str, str]:
    """The variables that torch.distributed reads. All ranks are on this machine: nothing listens to the network."""
    local = {name: os.environ.get(name, "lo") for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")}
    threads = str(max(1, len(os.sched_getaffinity(0)) // count))
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
        **local,
    }


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def _meet() -> Any:
    """The process group for decisions; torch.distributed is set up first unless a library has done that."""
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


def _last_error(reports: IO[bytes]) -> FtqError | None:
    """The error that the rank reported before it ended."""
    lines = os.pread(reports.fileno(), os.fstat(reports.fileno()).st_size, 0).splitlines()
    if not lines:
        return None
    values = json.loads(lines[-1])
    error = FtqError(values["message"], values["hint"], values["about"])
    error.kind = values["kind"]
    return error


def _end_like(code: int) -> None:
    """End this process the way the other rank ended, so that the supervisor decides by the other's exit code."""
    if code == -signal.SIGTERM:
        os._exit(STOPPED)  # this process only notes a SIGTERM
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(abs(code))
