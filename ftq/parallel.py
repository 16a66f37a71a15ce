"""Work on every core: the calls of one function are spread over processes, and their results come in order.

Those of multiprocessing would import the caller's main module once more; these import the function's and no other.
"""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from importlib import import_module
from itertools import cycle, islice
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from types import TracebackType
from typing import Any

MOST = 4  # processes: more would wait for the one that takes their results
AHEAD = 2  # calls that a process has been given and whose results aren't taken yet
HERE = Path(__file__).resolve().parents[1]  # where the package ftq lies: never the current folder, which is anybody's
OFTEN = 50_000  # objects between two looks for garbage: rows and facts are none, and looking takes a fifth of the time


class Processes:
    """`with Processes("module:function") as processes`: the function is called in processes that end with the block."""

    def __init__(self, function: str, most: int = MOST) -> None:
        self._function = function
        self._most = min(most, cores())
        self._processes: list[_Process] = []

    def results(self, calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """What the function returns for each call's arguments, in order. It raises here what it raised there."""
        self._processes = self._processes or [_Process(self._function) for _ in range(self._most)]
        rest, turn = iter(calls), cycle(self._processes)
        given = deque[tuple[_Process, tuple[Any, ...]]]()
        for call in islice(rest, AHEAD * len(self._processes)):
            given.append((_sent(next(turn), call), call))
        while given:
            process, call = given.popleft()
            result = process.result(call)
            for following in islice(rest, 1):
                given.append((_sent(process, following), following))
            yield result

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for process in self._processes:
            process.end()
        self._processes = []


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Process:
    """One process. Where it has died, the work that it was given is done here."""

    def __init__(self, function: str) -> None:
        self._function = function
        self._connection, theirs = Pipe()
        path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ftq.parallel", str(theirs.fileno()), function],
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            env={**os.environ, "PYTHONPATH": path},
        )
        theirs.close()

    def send(self, call: tuple[Any, ...]) -> None:
        with contextlib.suppress(OSError):
            self._connection.send(call)

    def result(self, call: tuple[Any, ...]) -> Any:
        try:
            value, error = self._connection.recv()
        except (EOFError, OSError):
            return _loaded(self._function)(*call)
        if error is not None:
            raise error
        return value

    def end(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.wait()


def _sent(process: _Process, call: tuple[Any, ...]) -> _Process:
    process.send(call)
    return process


def _loaded(function: str) -> Any:
    module, _, name = function.partition(":")
    return getattr(import_module(module), name)


def main() -> None:
    """Answer calls until whoever asks has closed the connection, or is dead."""
    number, name = sys.argv[1:]
    gc.set_threshold(OFTEN)
    function = _loaded(name)
    with Connection(int(number)) as connection, contextlib.suppress(EOFError, OSError):
        while True:
            call = connection.recv()
            answer: tuple[Any, Exception | None]
            try:
                answer = (function(*call), None)
            except Exception as error:
                answer = (None, error)
            connection.send(answer)


if __name__ == "__main__":
    main()
