"""What this machine has, read without importing torch."""

from __future__ import annotations

import math
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from ftq.errors import FtqError, UserError
from ftq.store.records import MAX_GPUS
from worker.machine import cgroup, nvidia_smi

SMI_SECONDS = 60.0  # with eight GPUs whose driver has to be loaded first it takes more than ten
SPINS = 500  # looks at a flag before a thread goes to sleep
WAITING = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}  # set by the user, either stays


@cache
def cards() -> list[tuple[str, int]]:
    """(name, bytes of memory) of the GPUs that the driver shows, for example ('NVIDIA H100 80GB HBM3', 85520809984).

    FtqError where the driver says nothing for a minute: not to know isn't to have none.
    """
    try:
        return [(name, _bytes(mib)) for name, mib in nvidia_smi.rows("name,memory.total", SMI_SECONDS)]
    except subprocess.TimeoutExpired:
        hint = "See what `nvidia-smi` does. To work without GPUs, set CUDA_VISIBLE_DEVICES to nothing."
        raise FtqError(f"nvidia-smi didn't say within {SMI_SECONDS:.0f} s which GPUs are here", hint) from None
    except (OSError, subprocess.SubprocessError):
        return []


def _bytes(mib: str) -> int:
    """0 for a card that doesn't say (it shares the machine's memory)."""
    return int(mib) * 2**20 if mib.strip().isdigit() else 0


def gpus() -> list[str]:
    """The names of the GPUs that the driver shows."""
    return [name for name, _ in cards()]


def facts(memory_gb: float | None = None) -> dict[str, Any]:
    """{"gpus", "gpu", "memory"} of what this process was given (store.records.Worker). Without a GPU the CPU trains.

    `memory_gb` is the most GiB of it that a training may use (FTQ_MEMORY_GB).
    """
    indices = [int(index) if index.isdigit() else 0 for index in own_gpus()]  # a UUID: alike, most likely
    found = [cards()[index] for index in indices if index < len(cards())]
    name, memory = min(found, key=lambda card: card[1]) if found else ("CPU", machine_memory())
    return {"gpus": len(found), "gpu": name, "memory": int(min(memory, (memory_gb or math.inf) * 2**30))}


def machine_memory() -> int:
    """Bytes of main memory that this container may use."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(total, cgroup.memory_limit() or total)


def own_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them: all of the machine's if it is unset."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [str(index) for index in range(len(gpus()))]
    listed = [name.strip() for name in named.split(",") if name.strip()]
    return listed[: listed.index("-1")] if "-1" in listed else listed  # CUDA sees none from there on


def computing() -> dict[str, str]:
    """What the environment of a process that computes on the CPU adds to this one's; nothing where there is a GPU.

    OpenMP's threads spin while they wait for each other, for milliseconds. Beside any other busy process they so take
    the processor from the very thread that they wait for. SPINS is long enough for most waits of a training run that
    has the processor to itself, and short enough beside others; benchmarks/README.md has the measurements.
    """
    if WAITING & os.environ.keys() or own_gpus():
        return {}
    return {"GOMP_SPINCOUNT": str(SPINS)}


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
    chosen = own_gpus()
    found = gpus() if chosen else []
    if not found:
        return None
    index = int(chosen[0]) if chosen[0].isdigit() else 0
    name = found[index] if index < len(found) else found[0]
    return name if len(chosen) == 1 else f"{len(chosen)} x {name}"


def out_of_memory_kills() -> int:
    """How many processes the kernel has killed for lack of memory: in this container and on this machine together."""
    return sum(cgroup.value(Path(file), "oom_kill") for file in ("/sys/fs/cgroup/memory.events", "/proc/vmstat"))


def free_memory() -> int:
    """Bytes of main memory that a new process may take: the machine's, or less where this container has a limit."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 0
    left = cgroup.memory_left()
    return free if left is None else min(free, left)
