"""The process that parses foreign files: `python -m ftq.formats.child SOCKET LIMITS`.

It gets open files over the socket, one after the other, and answers with JSON. It can't write files, start processes
or reach a network, and ends with its parent.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ftq.errors import first_line
from ftq.formats.convert import LENGTH, Converted, Limits
from ftq.formats.kind import Kind, Unusable

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG = 1
LIBRARIES = 1_000_000_000  # bytes of address space for what is mapped but hardly used: libraries, threads' stacks
WRITTEN = 65536  # bytes at most of what it says on its standard error
REFUSED = (
    "socket.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.remove",
    "os.rename",
    "os.kill",
    "shutil.",
    "urllib.",
)


def main() -> None:
    number, text = sys.argv[1:]
    limits = Limits(**json.loads(text))
    _end_with_parent()
    with socket.socket(fileno=int(number)) as parent:
        _lock_up(limits)
        while True:
            question, descriptors, _, _ = socket.recv_fds(parent, 4096, 1)
            if not question:
                return
            answer = _answer(Kind(json.loads(question)["kind"]), descriptors[0], limits)
            data = json.dumps(answer).encode()
            parent.sendall(len(data).to_bytes(LENGTH, "big") + data)
            if answer["spent"]:
                return


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _lock_up(limits: Limits) -> None:
    """Set the limits that hold for all files. A kernel may allow no namespace of its own: the hook is there as well."""
    libc = ctypes.CDLL(None)
    if sys.platform == "linux" and libc.unshare(_CLONE_NEWNET):
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, WRITTEN)
    if sys.platform == "linux":  # elsewhere the limits aren't kept or fail at once
        _limit(resource.RLIMIT_DATA, limits.memory)
        _limit(resource.RLIMIT_AS, limits.memory + LIBRARIES)
    logging.disable()  # what a library has to say of each page is lost on everybody
    sys.addaudithook(_refuse)


def _limit(which: int, most: int, can_rise: bool = False) -> None:
    """Never above the limit that holds for this process already."""
    hard = resource.getrlimit(which)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(which, (most, hard if can_rise else most))


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event.startswith(REFUSED) and event not in ("socket.gethostname",):
        raise PermissionError(f"a converter may not use {event}")
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        raise PermissionError("a converter may not write files")


def _answer(kind: Kind, descriptor: int, limits: Limits) -> dict[str, Any]:
    """What the parent hears of a file. `spent`: this process shall serve no other."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + limits.cpu, can_rise=True)
    signal.alarm(limits.wall + 1)
    try:
        answer = asdict(_convert(kind, descriptor, limits))
    except Unusable as error:
        answer = {"reason": str(error)}
    except MemoryError:
        reason = f"needs more than {limits.memory / 1e6:,.0f} MB of memory to convert: split it"
        answer = {"reason": reason, "spent": True}
    except RecursionError:
        answer = {"reason": "nested too deeply: save it again, or as another format"}
    except BaseException as error:  # a panic of native code is no Exception
        said = f"{type(error).__name__}: {first_line(error)}"[:200]
        reason = f"damaged, or the converter can't read it ({said})"
        answer = {"reason": reason, "spent": not isinstance(error, Exception)}
    finally:
        os.close(descriptor)
    signal.alarm(0)
    return {"spent": _peak() > limits.memory // 2, **answer}


def _convert(kind: Kind, descriptor: int, limits: Limits) -> Converted:
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        data = file.read(limits.file + 1)
    converted = _converter(kind)(data)
    if len(converted.markdown) > limits.text:
        raise Unusable(f"gives more than {limits.text / 1e6:,.0f} million characters: split it")
    return converted


def _converter(kind: Kind) -> Callable[[bytes], Converted]:
    from ftq.formats import documents, html

    if kind is Kind.HTML:
        return html.convert
    return documents.pdf if kind is Kind.PDF else lambda data: documents.office(data, kind)


def _peak() -> int:
    """Bytes of memory that this process took at most so far. Linux counts its parent's into `ru_maxrss`."""
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
