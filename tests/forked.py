"""Stages forked from a process that has torch and TRL in it: they begin at once instead of after ten seconds.

Only the start differs from `python -m worker.stages.train ...`: it is a process of its own, with the session, folder,
environment and descriptors that it was given, and runs the module as `__main__`. The process that it is forked from
only imports: threads that have computed don't survive a fork.
"""

from __future__ import annotations

import atexit
import fcntl
import functools
import inspect
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parent.parent
ORDER_BYTES = 2**17  # arguments and an environment
WAITING = 1000  # descriptors stand above this number until they take their own
PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")


def run(command: list[str], stack: str = "plain", **options: Any) -> subprocess.CompletedProcess[str]:
    """subprocess.run with captured text, the process forked from the one that has imported `stack`."""
    with Forked(command, stack=stack, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
        said, complained = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, said, complained)


START = subprocess.Popen  # tests put `Forked` in its place


class Forked(subprocess.Popen[Any]):
    """subprocess.Popen, but `python -m MODULE` or `-c CODE` is forked from a process that has imported `stack`.

    "plain" is what the engine `trl` and the export import, "unsloth" what every other training does.
    """

    _end: int | None = None  # where the exit code comes

    def __init__(self, *given: Any, stack: str = "plain", **named: Any) -> None:
        self._stack = stack
        super().__init__(*given, **named)

    def _execute_child(self, *given: Any) -> None:
        call = inspect.signature(super()._execute_child).bind(*given).arguments
        if call["args"][0] != sys.executable or call["args"][1] not in ("-m", "-c"):
            return super()._execute_child(*given)
        streams = [call[name] if call[name] != -1 else number
                   for number, name in enumerate(("p2cread", "c2pwrite", "errwrite"))]  # fmt: skip
        passed = sorted(call["pass_fds"])
        order = {"arguments": call["args"], "numbers": [0, 1, 2, *passed], "session": call["start_new_session"],
                 "folder": os.fspath(call["cwd"] or os.getcwd()),
                 "environment": dict(os.environ if call["env"] is None else call["env"])}  # fmt: skip
        try:
            self.pid, self._end = _source(self._stack).fork(order, [*streams, *passed])
        finally:
            self._close_pipe_fds(*(call[name] for name in PIPES))
        self._child_created = True
        return None

    def _internal_poll(self, *given: Any, **named: Any) -> int | None:
        return super()._internal_poll(*given, **named) if self._end is None else self._ended(0)

    def _wait(self, timeout: float | None) -> int:
        if self._end is None:
            return super()._wait(timeout)
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._end], [], [], timeout)[0]:
            self.returncode = int(os.read(self._end, 20))
            os.close(self._end)
        return self.returncode


@functools.cache
def _source(stack: str) -> _Source:
    source = _Source(stack)
    atexit.register(source.close)
    return source


class _Source:
    """The process that has imported `stack`; it ends with this one."""

    def __init__(self, stack: str) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = START(
                [sys.executable, "-m", "tests.forked", str(theirs.fileno()), stack], pass_fds=[theirs.fileno()],
                cwd=ROOT, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip

    def fork(self, order: dict[str, Any], descriptors: list[int]) -> tuple[int, int]:
        """(process id, where its exit code comes), once the process has its session, folder and descriptors."""
        told, tells = os.pipe()
        try:
            socket.send_fds(self._orders, [json.dumps(order).encode()], [*descriptors, tells])
        finally:
            os.close(tells)
        number = os.read(told, 20)
        assert number, "the process to fork from has died"
        return int(number), told

    def close(self) -> None:
        self._orders.close()
        self._process.wait()


# ---- in the process that is forked from ------------------------------------------------------------------


def main() -> None:
    """`python -m tests.forked FD STACK`: FD is its end of the socket on which the orders come."""
    orders = socket.socket(fileno=int(sys.argv[1]))
    _import(sys.argv[2])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # of those who watch nothing is left
    while True:
        message, descriptors, _, _ = socket.recv_fds(orders, ORDER_BYTES, 250)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            break
        for descriptor in descriptors:
            os.close(descriptor)
    orders.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if pid := os.fork():
        _watch(pid, descriptors)
    _become(json.loads(message), descriptors)


def _import(stack: str) -> None:
    from worker.stages.process import standby

    if stack == "plain":
        standby.find_spec = lambda name: None  # type: ignore[assignment]
    standby.preload()


def _watch(pid: int, descriptors: list[int]) -> NoReturn:
    """Hold nothing that belongs to the process, and tell its exit code."""
    *others, tells = descriptors
    for descriptor in others:
        os.close(descriptor)
    _, status = os.waitpid(pid, 0)
    os.write(tells, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(order: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Run the module as `python -m` does, but for the second that an interpreter with torch in it takes to end."""
    if order["session"]:
        os.setsid()
    *waiting, tells = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, WAITING) for descriptor in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    for number, descriptor in zip(order["numbers"], waiting, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  the old one would seek in a pipe
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.path[0] = order["folder"]
    sys.orig_argv, sys.argv = order["arguments"], ["-", *order["arguments"][3:]]
    os.write(tells, str(os.getpid()).encode())
    os.close(tells)
    code: Any = 0
    try:
        _run(*order["arguments"][1:3])
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code or 0)


def _run(option: str, text: str) -> None:
    if option == "-m":
        runpy.run_module(text, run_name="__main__", alter_sys=True)
    else:
        exec(compile(text, "-c", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main()
