"""What a container or a service may use of its machine: cgroup limits, versions 2 and 1.

A limit holds for a group and for all groups below it, so the group of this process and all above it count. `root` is
the folder of proc/ and sys/; tests use another one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
UNLIMITED = 1 << 60  # version 1 writes a number of this size where there is no limit


def memory_limit(root: Path = ROOT) -> int | None:
    """Bytes that this process's group may use: the lowest limit of the group and those above it; None for no limit."""
    return min((limit for _, limit in _memory_limits(root)), default=None)


def memory_left(root: Path = ROOT) -> int | None:
    """Bytes that this process's group may still take, its page cache counted as free. None for no limit."""
    free = []
    for folder, limit in _memory_limits(root):
        new = (folder / "memory.max").is_file()
        used = _number(folder / ("memory.current" if new else "memory.usage_in_bytes"))
        cache = value(folder / "memory.stat", "inactive_file" if new else "total_inactive_file")
        free.append(max(0, limit - used + cache))
    return min(free, default=None)


def processors() -> int:
    """How many processors this process may use, within its container's limit."""
    here = len(os.sched_getaffinity(0))
    return max(1, min(here, int(processor_limit() or here)))


def processor_limit(root: Path = ROOT) -> float | None:
    """Cores that this process's group may use: the lowest limit of the group and those above it; None for no limit."""
    cores = []
    for folder in _groups(root, ""):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        cores += [int(quota) / int(period)] if quota.isdigit() and period.isdigit() else []
    for folder in _groups(root, "cpu"):
        quota, period = (_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        cores += [int(quota) / int(period)] if quota.isdigit() and period.isdigit() else []
    return min(cores, default=None)


def value(path: Path, name: str) -> int:
    """The number of `name` in a file of `name value` lines; 0 if it isn't there."""
    number = next((line.split()[1] for line in _text(path).splitlines() if line.startswith(f"{name} ")), "")
    return int(number) if number.isdigit() else 0


def _memory_limits(root: Path) -> Iterator[tuple[Path, int]]:
    """(folder of a group, its limit) for each group that has one."""
    for controller, name in (("", "memory.max"), ("memory", "memory.limit_in_bytes")):
        for folder in _groups(root, controller):
            limit = _text(folder / name)
            if limit.isdigit() and int(limit) < UNLIMITED:
                yield folder, int(limit)


def _groups(root: Path, controller: str) -> list[Path]:
    """The folders of this process's group and of those above it; version 2 has no controller in its path."""
    mounted = root / "sys/fs/cgroup" / controller
    group = mounted / _group(root, controller).lstrip("/")
    return [folder for folder in (group, *group.parents) if folder.is_relative_to(mounted)]


def _group(root: Path, controller: str) -> str:
    """The group of this process, from a line `4:memory:/some/group` (version 1) or `0::/group` (version 2)."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(",") and ".." not in path:
            return path
    return "/"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _text(path)
    return int(text) if text.isdigit() else 0
