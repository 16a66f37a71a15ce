"""What a container or a service may use of its machine: cgroup limits, versions 2 and 1."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ftq.doctor.findings import Finding
from ftq.doctor.machine import GB

ROOT = Path("/")
LITTLE_GB = 16.0  # exporting phi-3.5-mini holds its 16-bit weights, 7.6 GB, and what converts them
UNLIMITED = 1 << 60  # version 1 says "no limit" by a number of this size


def limits(root: Path = ROOT) -> Iterator[Finding]:
    """`root` is where proc/ and sys/ lie: another one in tests."""
    yield _memory(memory_limit(root), _host_memory(root))
    yield _processors(processor_limit(root), os.cpu_count() or 1)


def memory_limit(root: Path = ROOT) -> int | None:
    """Bytes that this process's group may use, the least of it and those above it; None for no limit."""
    found = [*_read(root, "", "memory.max"), *_read(root, "memory", "memory.limit_in_bytes")]
    values = [int(text) for text in found if text.isdigit()]
    return min((value for value in values if value < UNLIMITED), default=None)


def processor_limit(root: Path = ROOT) -> float | None:
    """Cores that this process's group may use, None for no limit."""
    values = [text.split() for text in _read(root, "", "cpu.max")]
    quotas, periods = _read(root, "cpu", "cpu.cfs_quota_us"), _read(root, "cpu", "cpu.cfs_period_us")
    values += [list(pair) for pair in zip(quotas, periods, strict=True)]
    cores = [int(quota) / int(period) for quota, period in values if quota.isdigit()]
    return min(cores, default=None)


def _memory(limit: int | None, host: int) -> Finding:
    limited = limit is not None and limit < host
    usable = limit if limit is not None and limited else host
    text = f"{usable / GB:.1f} GB of memory" + (f", limited from {host / GB:.1f} GB" if limited else "")
    if usable < LITTLE_GB * GB:
        mend = "docker run --memory (mem_limit in compose) allows more." if limited else ""
        return Finding("limits", "warning", f"{text}: a model like phi-3.5-mini needs {LITTLE_GB:.0f} to export", mend)
    return Finding("limits", "note" if limited else "ok", text)


def _processors(limit: float | None, host: int) -> Finding:
    if limit is None or limit >= host:
        return Finding("limits", "ok", f"{host} processor cores")
    text = f"{limit:g} of {host} processor cores"
    if limit < 1:
        return Finding("limits", "warning", text, "docker run --cpus (cpus in compose) allows more.")
    return Finding("limits", "note", text)


def _read(root: Path, controller: str, name: str) -> list[str]:
    """What the file says in this process's group and in every one above it."""
    mounted = root / "sys/fs/cgroup" / controller
    group = mounted / _group(root, controller).lstrip("/")
    folders = [folder for folder in (group, *group.parents) if folder.is_relative_to(mounted)]
    return [(folder / name).read_text().strip() for folder in folders if (folder / name).is_file()]


def _group(root: Path, controller: str) -> str:
    """This process's group: a line `4:memory:/some/group` for a controller of version 1, `0::/group` for version 2."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return "/"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(",") and ".." not in path:
            return path
    return "/"


def _host_memory(root: Path) -> int:
    for line in (root / "proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0
