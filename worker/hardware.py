"""What this machine has, read without importing torch."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

from ftq.errors import UserError
from ftq.records import MAX_GPUS


@cache
def gpus() -> list[str]:
    """The names of the GPUs that the driver shows, for example ['NVIDIA H100 80GB HBM3']."""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return answer.stdout.strip().splitlines()


def given() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them: all of the machine's if it is unset."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [str(index) for index in range(len(gpus()))]
    listed = [name.strip() for name in named.split(",") if name.strip()]
    return listed[: listed.index("-1")] if "-1" in listed else listed  # CUDA sees none from there on


def visible(chosen: list[str]) -> dict[str, str]:
    """The environment in which a process sees these GPUs alone, numbered as nvidia-smi numbers them."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(chosen), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def choose(wanted: str) -> list[str]:
    """The GPUs of `--gpus 0,1`. UserError for one that isn't there, or is named twice."""
    found, chosen = gpus(), [name.strip() for name in wanted.split(",")]
    if not found:
        raise UserError(f"--gpus {wanted}: there is no GPU here (nvidia-smi shows none)", "Leave --gpus out.")
    numbers = [str(index) for index in range(len(found))]
    if missing := [name for name in chosen if name not in numbers]:
        listed = ", ".join(f"{index}: {name}" for index, name in enumerate(found))
        raise UserError(f"--gpus {wanted}: no GPU {', '.join(missing)} here", f"This machine has {listed}.")
    if len(set(chosen)) < len(chosen):
        raise UserError(f"--gpus {wanted}: a GPU is named twice", "Name each once, for example --gpus 0,1.")
    if len(chosen) > MAX_GPUS:
        raise UserError(f"--gpus {wanted}: a run takes {MAX_GPUS} GPUs at most", "Start several workers.")
    return chosen


def gpu_name() -> str | None:
    """What this process was given, for example `2 x NVIDIA H100 80GB HBM3`; None where there is no GPU."""
    found, chosen = gpus(), given()
    if not found or not chosen:
        return None
    index = int(chosen[0]) if chosen[0].isdigit() else 0
    name = found[index] if index < len(found) else found[0]
    return name if len(chosen) == 1 else f"{len(chosen)} x {name}"


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
