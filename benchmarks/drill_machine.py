"""What the drill breaks: a broker and workers on an artifacts folder of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from ftq import programs
from ftq.client.client import Client
from ftq.files.run_dir import RunDir
from ftq.settings import Settings
from ftq.store.records import Run
from worker.host import broker

LEASE, GRACE = 5.0, 6.0  # seconds; the product's defaults are 60 and 60


class Worker:
    """A worker's main process and pool child are one process group; its stage's process is another."""

    def __init__(
        self,
        name: str,
        module: str,
        environment: dict[str, str],
        log: Path,
        queues: str,
        labels: str = "",
        prefix: Sequence[str] = (),
    ) -> None:
        self.name = f"{name}@{socket.gethostname()}"
        command = [*prefix, *programs.WorkerOptions(queues, name=self.name, labels=labels).argv(module)]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
            )

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        """To the main process and the pool child at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def child(self) -> int | None:
        """The pool child's process id."""
        return next(iter(children(self.process.pid, "--billiard-fork")), None)


class Machine:
    """`module` is the worker to start, `environment` what its processes get beside the drill's short times."""

    def __init__(self, home: Path, module: str, **environment: str) -> None:
        wanted = {"FTQ_HOME": str(home), "FTQ_LEASE_SECONDS": str(LEASE), "FTQ_GRACE_SECONDS": str(GRACE),
                  **environment}  # fmt: skip
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("FTQ_")} | wanted
        self.settings = Settings.from_env(self.environment)
        self.client = Client(self.settings)
        self.logs, self.module = home.parent / "logs", module
        self.logs.mkdir(parents=True, exist_ok=True)
        self.prefix: list[str] = []  # begins the command of each process: what puts it elsewhere (network.py)
        self.label = "w"  # its workers' names begin with it
        self.workers: list[Worker] = []
        self.started = 0
        self.broker: subprocess.Popen[bytes] | None = None

    def start_broker(self) -> None:
        self.broker = broker.start(self.settings)

    def stop_broker(self, number: int = signal.SIGKILL) -> None:
        if self.broker:
            self.broker.send_signal(number)
            self.broker.wait(timeout=120)

    def wipe_broker(self) -> None:
        """Its data; only while it is down."""
        shutil.rmtree(self.settings.home / "broker", ignore_errors=True)

    def redis(self) -> Any:
        """A connection to the broker that may do everything."""
        import redis

        return redis.Redis(unix_socket_path=str(self.settings.broker_socket), socket_timeout=60)

    def published(self, run: Run) -> RunDir:
        """What the run has made, for the verdict."""
        return RunDir(self.client.run_dir(run.id).path)

    def start_worker(self, queues: str = "cpu,gpu,ask", labels: str = "", name: str = "") -> Worker:
        self.started += 1
        name = name or f"{self.label}{self.started}"
        log = self.logs / f"{name}.log"
        self.workers.append(Worker(name, self.module, self.environment, log, queues, labels, self.prefix))
        return self.workers[-1]

    def start_workers(self) -> None:
        for _ in range(2):
            self.start_worker()

    def replace_the_dead(self) -> None:
        dead = [worker for worker in self.workers if not worker.alive]
        self.workers = [worker for worker in self.workers if worker.alive]
        for _ in dead:
            self.start_worker()

    def holder(self, run: Run) -> Worker | None:
        """The living worker that runs the run's stage now."""
        if run.status != "running" or run.current is None:
            return None
        return next((worker for worker in self.workers if worker.name == run.current.worker and worker.alive), None)

    def stage_pid(self, run: Run) -> int | None:
        """The process of the run's running stage, if it is there.

        Ids are used again: its command line must fit. That of a standby process doesn't name the run that it took.
        """
        started = [e for e in self.client.store.events(run.id) if e.kind == "started" and e.data]
        if not started:
            return None
        pid = int(started[-1].data["pid"])  # type: ignore[index]
        with contextlib.suppress(psutil.Error):
            command = psutil.Process(pid).cmdline()
            if str(self.client.run_dir(run.id).path) in command or any(word.endswith(".standby") for word in command):
                return pid
        return None

    def close(self) -> None:
        for worker in self.workers:
            for pid in [worker.process.pid, *_descendants(worker.process.pid)]:
                tell(pid, signal.SIGKILL)
            worker.process.wait()
        for run in self.client.all():
            tell(self.stage_pid(run), signal.SIGKILL)
        self.stop_broker()
        self.client.close()


def children(pid: int, word: str) -> list[int]:
    """The children of a process with this word on their command lines. One that ends meanwhile is none of them."""
    found = list[int]()
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if word in process.cmdline():
                    found.append(process.pid)
    return found


def _descendants(pid: int) -> list[int]:
    try:
        return [process.pid for process in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def tell(pid: int | None, number: int) -> None:
    """Send a signal to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        if pid:
            os.kill(pid, number)
