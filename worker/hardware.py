"""What this machine has, read without importing torch."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path


@cache
def gpus() -> list[str]:
    """The names of the GPUs that the driver shows, for example ['NVIDIA H100 80GB HBM3']."""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return answer.stdout.strip().splitlines()


def gpu_name() -> str | None:
    """The GPU that this process was given (CUDA_VISIBLE_DEVICES), None where there is none."""
    found, given = gpus(), os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    index = int(given) if given.isdigit() else 0
    return found[index] if index < len(found) else None


def out_of_memory_kills() -> int:
    """How many processes the kernel has killed in this container (cgroup v2) for lack of memory; 0 if unknown."""
    try:
        lines = Path("/sys/fs/cgroup/memory.events").read_text().splitlines()
        return int(dict(line.split() for line in lines).get("oom_kill", "0"))
    except (OSError, ValueError):
        return 0


def free_memory() -> int:
    """Bytes of main memory that a new process may take: the machine's, or less where this container has a limit."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 0
    try:
        limit, used = (int(Path("/sys/fs/cgroup", name).read_text()) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in Path("/sys/fs/cgroup/memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no cgroup v2 here, or "max": no limit
        return free
    return min(free, limit - used + int(stat["inactive_file"]))  # the page cache gives way
