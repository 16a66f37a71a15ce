"""`ftq up`: the whole of ftq on one machine, in the foreground. Ctrl-C stops all of it cleanly.

A broker (unless FTQ_BROKER_URL names one), a worker for each GPU (or for each two, --gpus-per-worker 2), one for the
CPU's stages (without a GPU, one worker for both), one for questions, Flower, and with --serve the gateway.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ftq import programs
from ftq.client.recording.record import make_home
from ftq.doorbell import owner
from ftq.errors import FtqError, UserError, printable, unusable
from ftq.files.run_dir import put_text
from ftq.notify.addresses import addresses
from ftq.servers import without_password
from ftq.settings import Settings, protect_files
from ftq.store.records import ASK, served_by
from ftq.store.store import RunStore
from worker.flower import login
from worker.host import appliance, broker
from worker.host.folders import try_all
from worker.machine import hardware
from worker.machine.leash import leashed

READY_SECONDS = 180.0  # a busy machine imports for long
SOON, LATE, SOUND = 1.0, 60.0, 60.0  # waits before a dead part is started again; a part that lived so long was sound
WORKER = programs.WorkerOptions.module  # tests put a worker here whose stages take no time


def main() -> None:
    try:
        options = programs.UpOptions.from_arguments(sys.argv[1:])
        protect_files()
        addresses()  # one that can't be used: said here, not in the workers' logs
        groups = groups_of(hardware.own_gpus(), options.gpus_per_worker)
        port = options.port if options.flower else None
        serve_port = options.serve_port if options.serve else None
        sys.exit(Up(Settings.from_env(), port, groups, options.log_to_stderr, serve_port).run())
    except FtqError as error:
        programs.end(error)
    except OSError as error:
        programs.end(unusable(error))


@dataclass
class Part:
    """A process of `ftq up`, and how to start it again when it ends by itself."""

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    process: subprocess.Popen[bytes]
    started: float
    wait: float = SOON  # before the next start: doubled each time that it ends soon
    again: float | None = None  # when that is


class Up:
    """Starts the parts, watches over them, stops them in the order that loses nothing."""

    def __init__(
        self,
        settings: Settings,
        port: int | None,
        gpus: list[list[str]],
        log_to_stderr: bool,
        serve_port: int | None = None,
    ) -> None:
        """`gpus`: those of each worker that gets any, as CUDA_VISIBLE_DEVICES names them.

        Without a `port` there is no Flower, without a `serve_port` no gateway.
        """
        self.settings, self.port, self.gpus, self.log_to_stderr = settings, port, gpus, log_to_stderr
        self.logs = settings.home / "logs"
        self.serve_port = serve_port
        self.workers: list[Part] = []
        self.flower: Part | None = None
        self.gateway: Part | None = None
        self.broker: Part | None = None
        self.stopping = False

    def run(self) -> int:
        make_home(self.settings)
        try_all(self.settings)
        lock = self._lock()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the last: its terminal was closed
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as `nohup ftq up` wants it
                signal.signal(number, self._stop)
        try:
            self._start()
            while not self.stopping:
                time.sleep(0.2)
                self._restart_the_dead()
        finally:
            self._stop_all()
            if lock is not None:
                os.close(lock)
        return 0

    def _start(self) -> None:
        store = RunStore(self.settings.database_url)
        if self.settings.embedded:
            broker.stop(self.settings)
            self.broker = self._start_part("broker", lambda: broker.spawn(self.settings))
            broker.wait(self.settings, self.broker.process)
            say(f"broker    {self.settings.broker_socket}")
        else:
            refusal = broker.refusal(self.settings)
            state = f"  {refusal} now; `ftq doctor` says more" if refusal else ""
            say(f"broker    {without_password(self.settings.broker_url)}{state}")
        owner.check(self.settings, lambda: store)
        for chosen in self.gpus:
            self._start_worker(f"gpu{'+'.join(chosen)}", "gpu", hardware.visible(chosen))
        if self.gpus:
            self._start_worker("cpu", "cpu", hardware.visible([]))
        else:
            self._start_worker("all", "cpu,gpu", {})
        self._start_worker(ASK, ASK, hardware.visible([]))  # a question waits for no stage
        if self.port:
            self._start_flower(self.port)
        if self.serve_port:
            self._start_gateway(self.serve_port, store)
        self._wait_until_ready(store)
        if self.stopping:
            return
        say("Everything is up. In another terminal: ftq submit --model smollm2-135m")
        say("Ctrl-C stops it; what is running is handed back to the queue and goes on next time.")
        appliance.start(self.settings, os.environ, say)

    def _start_worker(self, name: str, queues: str, environment: dict[str, str]) -> None:
        full = f"{name}-{os.getpid()}@{socket.gethostname()}"
        command = programs.WorkerOptions(queues, name=full).argv(WORKER)
        self.workers.append(self._start_part(full, lambda: self._spawn(command, f"worker-{name}.log", environment)))

    def _start_flower(self, port: int) -> None:
        if why := _refusal(port):
            other = max(port + 1, 5555) if port < 65535 else 5555
            say(f"Flower    left out: port {port}: {why} (another one: ftq up --port {other})")
            return
        environment = self._flower_environment()
        login.read(environment)  # a login that can't be read: said here, not in Flower's log
        config = Path(__file__).parent.parent / "flower" / "config.py"
        options = [f"--conf={config}", "--address=127.0.0.1", f"--port={port}"]
        command = [sys.executable, "-m", "celery", "-A", "worker.app", "flower", *options]
        self.flower = self._start_part("Flower", lambda: self._spawn(command, "flower.log", environment))
        address = f"http://127.0.0.1:{port}"
        file = programs.flower_address(self.settings.home)
        file.parent.mkdir(exist_ok=True)
        put_text(file, f"{address}\n")
        say(f"Flower    {address}  (login: {environment.get('FTQ_FLOWER_AUTH_FILE', 'FTQ_FLOWER_AUTH')})")

    def _start_gateway(self, port: int, store: RunStore) -> None:
        if why := _refusal(port):
            say(f"serve     left out: port {port}: {why} (another one: ftq up --serve-port {port % 65535 + 1})")
            return
        command = programs.ServeOptions(port=port).argv()
        new = store.keys.first()  # said here, not in the log
        self.gateway = self._start_part("serve", lambda: self._spawn(command, "serve.log", {}))
        say(f"serve     http://127.0.0.1:{port}/v1" + (f"  (key, shown this once: {new.secret})" if new else ""))
        say(f"page      http://127.0.0.1:{port}/  (for people, who log in with a key)")

    def _flower_environment(self) -> dict[str, str]:
        """A login of its own, as every account of a machine can reach 127.0.0.1; whoever has it may also Terminate."""
        wanted = {name: os.environ[name] for name in os.environ if name.startswith("FTQ_FLOWER_")}
        if not {"FTQ_FLOWER_AUTH", "FTQ_FLOWER_AUTH_FILE"} & set(wanted):
            wanted["FTQ_FLOWER_AUTH_FILE"] = str(self.settings.home / "flower" / "login")
            login.make(Path(wanted["FTQ_FLOWER_AUTH_FILE"]))
        return {"FTQ_FLOWER_CONTROL": "1", **wanted}

    def _wait_until_ready(self, store: RunStore) -> None:
        until = time.monotonic() + READY_SECONDS
        while not self.stopping and time.monotonic() < until:
            live = [one for one in store.workers() if one.is_live]
            if {"cpu", "gpu", ASK} <= served_by(live):
                where = "below" if self.log_to_stderr else self.logs
                say(f"worker    {', '.join(one.name.partition('-')[0] for one in self.workers)}  (logs: {where})")
                if waits := next((one.waits for one in live if one.waits), ""):
                    say(f"          They wait for their bucket: {waits}")
                return
            if all(one.process.poll() is not None for one in self.workers):
                raise FtqError("all workers ended while they started", f"Their logs are in {self.logs}")
            time.sleep(0.1)
        if not self.stopping:
            raise FtqError(f"no worker was ready within {READY_SECONDS:.0f} s", f"Their logs are in {self.logs}")

    def _start_part(self, name: str, start: Callable[[], subprocess.Popen[bytes]]) -> Part:
        return Part(name, start, start(), time.monotonic())

    def _restart_the_dead(self) -> None:
        now = time.monotonic()
        for part in filter(None, [self.broker, *self.workers, self.flower, self.gateway]):
            if part.process.poll() is None:
                continue
            if part.again is None:
                part.wait = SOON if now - part.started > SOUND else min(2 * part.wait, LATE)
                part.again = now + part.wait
                say(f"{part.name} ended with exit code {part.process.returncode}: starts again in {part.wait:.0f} s")
            elif now >= part.again:
                part.started, part.again = now, None
                try:
                    part.process = part.start()
                except (FtqError, OSError) as error:  # a full disk: tried again like one that ended
                    say(f"{part.name} can't be started: {error}")

    def _stop(self, *_: Any) -> None:
        if self.stopping:
            return
        self.stopping = True
        say("stopping: a running stage saves what it has and goes back to the queue")

    def _stop_all(self) -> None:
        """Workers first: they hand their runs back through the broker. The broker last."""
        _end([worker.process for worker in self.workers], self.settings.grace_seconds + 10)
        _end([part.process for part in (self.flower, self.gateway) if part], 10)
        if self.flower:
            programs.flower_address(self.settings.home).unlink(missing_ok=True)
        _end([self.broker.process] if self.broker else [], 10)
        if self.workers or self.broker:
            say("stopped")

    def _spawn(self, command: list[str], log: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with self._log(log) as output:
            return subprocess.Popen(
                leashed(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | environment,
                start_new_session=True,
            )

    def _log(self, name: str) -> IO[bytes]:
        """Where a part's output goes: its file, or this process's own standard error, which a container keeps."""
        return os.fdopen(os.dup(2), "wb") if self.log_to_stderr else (self.logs / name).open("ab")

    def _lock(self) -> int | None:
        """One `ftq up` for a folder: two would each start a broker. With a broker elsewhere they may be several."""
        if not self.settings.embedded:
            return None
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
    with contextlib.suppress(OSError):  # a closed terminal: what is to be done is done without it
        # In one write, as print's isn't: the workers may write to the same place.
        sys.stderr.write(f"{printable(text)}\n")
        sys.stderr.flush()


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


def _refusal(port: int) -> str:
    """Why nobody can listen on the port of 127.0.0.1; empty if one can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return (error.strerror or str(error)).lower()
    return ""


if __name__ == "__main__":
    main()
