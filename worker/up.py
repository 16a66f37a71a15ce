"""`ftq up`: the whole of ftq on one machine, in the foreground. Ctrl-C stops all of it cleanly.

A broker (unless FTQ_BROKER_URL names one), a worker for each GPU (or for each two, --gpus-per-worker 2) and one for
the CPU's stages (without a GPU, one worker for both), and Flower.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ftq.errors import FtqError, UserError
from ftq.runs import RunStore
from ftq.settings import Settings, protect_files, without_password
from worker import broker, flower_login, hardware

READY_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1


def main() -> None:
    arguments = argparse.ArgumentParser(prog="ftq up")
    arguments.add_argument("--port", type=int, default=5555, help="Flower's port on 127.0.0.1 (default 5555)")
    arguments.add_argument("--no-flower", action="store_true", help="without Flower")
    arguments.add_argument("--gpus-per-worker", type=int, default=1, help="GPUs for each worker (default 1)")
    given = arguments.parse_args()
    try:
        protect_files()
        groups = groups_of(hardware.given(), given.gpus_per_worker)
        sys.exit(Up(Settings.from_env(), None if given.no_flower else given.port, groups).run())
    except FtqError as error:
        sys.exit(f"Error: {error.message}\n{error.hint}".rstrip())


class Up:
    """Starts the parts, watches over them, stops them in the order that loses nothing."""

    def __init__(self, settings: Settings, port: int | None, gpus: list[list[str]]) -> None:
        """`gpus`: those of each worker that gets any, as CUDA_VISIBLE_DEVICES names them."""
        self.settings, self.port, self.gpus = settings, port, gpus
        self.logs = settings.home / "logs"
        self.workers: dict[str, tuple[list[str], dict[str, str], subprocess.Popen[bytes]]] = {}
        self.flower: subprocess.Popen[bytes] | None = None
        self.broker: subprocess.Popen[bytes] | None = None
        self.stopping = False

    def run(self) -> int:
        self.logs.mkdir(parents=True, exist_ok=True)
        lock = self._lock()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        try:
            self._start()
            while not self.stopping:
                time.sleep(0.2)
                self._restart_the_dead()
        finally:
            self._stop_all()
            os.close(lock)
        return 0

    def _start(self) -> None:
        store = RunStore(self.settings.database_url)
        if self.settings.embedded:
            self.broker = broker.start(self.settings)
            say(f"broker    {self.settings.broker_socket}")
        else:
            say(f"broker    {without_password(self.settings.broker_url)}")
        for chosen in self.gpus:
            self._start_worker(f"gpu{'+'.join(chosen)}", "gpu", hardware.visible(chosen))
        self._start_worker("cpu" if self.gpus else "all", "cpu" if self.gpus else "cpu,gpu", {})
        if self.port:
            self._start_flower(self.port)
        self._wait_until_ready(store)
        say("Everything is up. In another terminal: ftq submit --model smollm2-135m")
        say("Ctrl-C stops it; what is running is handed back to the queue and goes on next time.")

    def _start_worker(self, name: str, queues: str, environment: dict[str, str]) -> None:
        full = f"{name}-{os.getpid()}@{socket.gethostname()}"
        command = [sys.executable, "-m", "worker.run", "--queues", queues, "--name", full]
        self.workers[full] = (command, environment, self._spawn(command, f"worker-{name}.log", environment))

    def _start_flower(self, port: int) -> None:
        if not _is_free(port):
            say(f"Flower    left out: port {port} is taken (another one: ftq up --port {port + 1})")
            return
        environment = self._flower_environment()
        flower_login.read(environment)  # a login that can't be read: said here, not in Flower's log
        config = Path(__file__).with_name("flowerconfig.py")
        options = [f"--conf={config}", "--address=127.0.0.1", f"--port={port}"]
        command = [sys.executable, "-m", "celery", "-A", "worker.app", "flower", *options]
        self.flower = self._spawn(command, "flower.log", environment)
        say(f"Flower    http://127.0.0.1:{port}  (login: {environment.get('FTQ_FLOWER_AUTH_FILE', 'FTQ_FLOWER_AUTH')})")

    def _flower_environment(self) -> dict[str, str]:
        """A login of its own, as every account of a machine can reach 127.0.0.1; whoever has it may also Terminate."""
        wanted = {name: os.environ[name] for name in os.environ if name.startswith("FTQ_FLOWER_")}
        if not {"FTQ_FLOWER_AUTH", "FTQ_FLOWER_AUTH_FILE"} & set(wanted):
            wanted["FTQ_FLOWER_AUTH_FILE"] = str(self.settings.home / "flower" / "login")
            flower_login.make(Path(wanted["FTQ_FLOWER_AUTH_FILE"]))
        return {"FTQ_FLOWER_CONTROL": "1", **wanted}

    def _wait_until_ready(self, store: RunStore) -> None:
        until = time.monotonic() + READY_SECONDS
        while not self.stopping and time.monotonic() < until:
            if {"cpu", "gpu"} <= store.live_queues():
                say(f"worker    {', '.join(name.partition('-')[0] for name in self.workers)}  (logs: {self.logs})")
                return
            time.sleep(0.1)
        if not self.stopping:
            raise FtqError(f"no worker was ready within {READY_SECONDS:.0f} s", f"Their logs are in {self.logs}")

    def _restart_the_dead(self) -> None:
        for name, (command, environment, process) in list(self.workers.items()):
            if process.poll() is not None:
                say(f"worker {name} ended with exit code {process.returncode}: started again")
                time.sleep(1)
                log = f"worker-{name.partition('-')[0]}.log"
                self.workers[name] = (command, environment, self._spawn(command, log, environment))

    def _stop(self, *_: Any) -> None:
        if self.stopping:
            return
        self.stopping = True
        say("stopping: a running stage saves what it has and goes back to the queue")

    def _stop_all(self) -> None:
        """Workers first: they hand their runs back through the broker. The broker last."""
        workers = [process for _, _, process in self.workers.values()]
        _end(workers, self.settings.grace_seconds + 10)
        _end([self.flower] if self.flower else [], 10)
        _end([self.broker] if self.broker else [], 10)
        say("stopped")

    def _spawn(
        self, command: list[str], log: str, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        with (self.logs / log).open("ab") as output:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=os.environ | (environment or {}),
                start_new_session=True, preexec_fn=_die_with_parent,
            )  # fmt: skip

    def _lock(self) -> int:
        """One `ftq up` for a folder: two would each start a broker."""
        lock = os.open(self.settings.home / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FtqError(
                f"ftq is already up for {self.settings.home}", "Use it, or set FTQ_HOME to another folder."
            ) from None
        return lock


def groups_of(gpus: list[str], size: int) -> list[list[str]]:
    """The GPUs of each worker; the last may get fewer. UserError for a group that no worker could fill."""
    if size > max(1, len(gpus)):
        raise UserError(f"--gpus-per-worker {size}: this machine has {len(gpus)}", "Leave it out for one each.")
    return [gpus[start : start + size] for start in range(0, len(gpus), size)]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _end(processes: list[subprocess.Popen[bytes]], seconds: float) -> None:
    for process in processes:
        process.terminate()
    until = time.monotonic() + seconds
    for process in processes:
        try:
            process.wait(timeout=max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _die_with_parent() -> None:
    """A killed `ftq up` leaves no worker behind (Linux; elsewhere a no-op)."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    except (AttributeError, OSError):
        return


if __name__ == "__main__":
    main()
