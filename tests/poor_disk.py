"""`python -m tests.poor_disk LACKS FOLDER COMMAND...` runs a command that finds the folder on a poor disk.

Linux refuses what such a disk would: new sockets below the folder by Landlock; locks, modes and links everywhere, by a
filter of system calls. No mount and no root is needed, and no library is replaced.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

import pytest

POOR = (sys.executable, "-m", "tests.poor_disk")
_LIBC = ctypes.CDLL(None, use_errno=True)
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2  # prctl(2)
_RULESET, _ADD_RULE, _RESTRICT = 444, 445, 446  # system calls of Landlock, the same on every processor

_MAKE_SOCKET, _REFER = 1 << 9, 1 << 13  # bits of landlock_ruleset_attr.handled_access_fs
# x86-64's numbers of system calls, and what they answer
_REFUSED = {
    "locks": ({73: "flock"}, errno.ENOLCK),
    "modes": ({90: "chmod", 91: "fchmod", 268: "fchmodat", 452: "fchmodat2"}, errno.EPERM),
    "links": ({86: "link", 88: "symlink", 265: "linkat", 266: "symlinkat"}, errno.EPERM),
}


def main() -> None:
    lacks, folder, *command = sys.argv[1:]
    _LIBC.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if lacks == "sockets":
        _forbid(folder)
    else:
        numbers, answer = _REFUSED[lacks]
        _refuse(sorted(numbers), answer)
    os.execvp(command[0], command)


def _forbid(folder: str) -> None:
    """Allow sockets everywhere but below the folder: Landlock knows only what is allowed, so by its siblings."""
    attributes = struct.pack("<QQQ", _MAKE_SOCKET | _REFER, 0, 0)
    ruleset = _LIBC.syscall(_RULESET, attributes, 8, 0)
    assert ruleset >= 0, os.strerror(ctypes.get_errno())
    _allow(ruleset, _REFER, "/")  # or nothing could be renamed into another folder
    path = os.path.realpath(folder)
    while path != "/":
        above = os.path.dirname(path)
        for name in os.listdir(above):
            beside = os.path.join(above, name)
            if beside != path and os.path.isdir(beside) and not os.path.islink(beside):
                _allow(ruleset, _MAKE_SOCKET, beside)
        path = above
    assert _LIBC.syscall(_RESTRICT, ruleset, 0) == 0, os.strerror(ctypes.get_errno())


def _allow(ruleset: int, access: int, folder: str) -> None:
    descriptor = os.open(folder, os.O_PATH)
    _LIBC.syscall(_ADD_RULE, ruleset, 1, struct.pack("<Qi", access, descriptor), 0)
    os.close(descriptor)


def _refuse(numbers: list[int], answer: int) -> None:
    """Answer these system calls with the error (seccomp(2)): load the number, compare, return."""
    code = [(0x20, 0, 0, 0)]  # the system call's number
    for number in numbers:
        code += [(0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | answer)]
    code.append((0x06, 0, 0, 0x7FFF0000))  # allowed
    program = b"".join(struct.pack("<HBBI", *line) for line in code)
    text = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("<HxxxxxxQ", len(code), ctypes.addressof(text))
    assert _LIBC.prctl(_SECCOMP, _FILTER, header, 0, 0) == 0, os.strerror(ctypes.get_errno())


def _has_landlock() -> bool:
    return sys.platform == "linux" and os.uname().machine == "x86_64" and _LIBC.syscall(_RULESET, None, 0, 1) >= 2


needs_landlock = pytest.mark.skipif(not _has_landlock(), reason="no Landlock: Linux 5.19 on x86-64 has it")

if __name__ == "__main__":
    main()
