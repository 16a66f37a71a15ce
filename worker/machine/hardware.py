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

USE_FIELDS = ("name", "index", "uuid", "memory.total", "memory.used", "utilization.gpu")
USE_SECONDS = 2.0  # for a number that is wanted every few seconds
SMI_SECONDS = 60.0  # nvidia-smi takes more than ten with eight GPUs whose driver isn't loaded yet
SPINS = 500  # looks at a flag before a thread goes to sleep
WAITING = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}  # set by the user, either stays


@cache
def cards() -> list[tuple[str, int]]:
    """(name, bytes of memory) of the GPUs that the driver shows, for example ('NVIDIA H100 80GB HBM3', 85520809984).

    FtqError if the driver doesn't answer within a minute: that doesn't mean that there are no GPUs.
    """
    try:
        return [(name, _bytes(mib)) for name, mib in nvidia_smi.rows("name,memory.total", SMI_SECONDS)]
    except subprocess.TimeoutExpired:
        hint = "See what `nvidia-smi` does. To work without GPUs, set CUDA_VISIBLE_DEVICES to nothing."
        raise FtqError(f"nvidia-smi didn't say within {SMI_SECONDS:.0f} s which GPUs are here", hint) from None
    except (OSError, subprocess.SubprocessError):
        return []


def _bytes(mib: str) -> int:
    """Bytes of a number of MiB; 0 for a card that doesn't say (it shares the machine's memory)."""
    return int(mib) * 2**20 if mib.strip().isdigit() else 0


def gpus() -> list[str]:
    """The names of the GPUs that the driver shows."""
    return [name for name, _ in cards()]


def facts(memory_gb: float | None = None) -> dict[str, Any]:
    """{"gpus", "gpu", "memory"} of this process (see store.records.Worker). Without a GPU the CPU trains: "dtype" too.

    `memory_gb` is the most GiB of memory that a training run may use (FTQ_MEMORY_GB).
    """
    indices = [
        int(index) if index.isdigit() else 0 for index in own_gpus()
    ]  # a UUID counts as the first: cards are mostly alike
    own = [cards()[index] for index in indices if index < len(cards())]
    name, memory = min(own, key=lambda card: card[1]) if own else ("CPU", machine_memory())
    usable = int(min(memory, (memory_gb or math.inf) * 2**30))
    return {"gpus": len(own), "gpu": name, "memory": usable} | ({} if own else {"dtype": cpu_dtype()})


def in_use() -> list[dict[str, Any]]:
    """How much of this process's GPUs is in use, by whomever: {"gpu", "name", "total", "used", "use"} of each.

    Bytes, and the share of the last second in which it computed; None for what the driver doesn't say. Empty where it
    doesn't answer at once.
    """
    own = set(own_gpus())
    if not own:
        return []
    try:
        rows = nvidia_smi.rows(",".join(USE_FIELDS), USE_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return []
    return [
        {
            "gpu": index,
            "name": name,
            "total": _bytes(total) or None,
            "used": _bytes(used) if used.strip().isdigit() else None,
            "use": int(use) / 100 if use.strip().isdigit() else None,
        }
        for name, index, uuid, total, used, use in (row for row in rows if len(row) == len(USE_FIELDS))
        if own & {index, uuid}
    ]


def cpu_dtype() -> str:
    """The compute type that suits this CPU: bfloat16 where it has instructions for it."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "float32"
    return "bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def machine_memory() -> int:
    """Bytes of main memory that this container may use."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(total, cgroup.memory_limit() or total)


def own_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; all of the machine if it is unset."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [str(index) for index in range(len(gpus()))]
    listed = [name.strip() for name in named.split(",") if name.strip()]
    return listed[: listed.index("-1")] if "-1" in listed else listed  # CUDA ignores what follows -1


def computing() -> dict[str, str]:
    """Environment variables for a process that computes on the CPU, as an export does beside the GPU's training too.

    OpenMP's threads spin for milliseconds while they wait for each other. Beside another busy process they take the
    processor from the very thread that they wait for. SPINS is long enough for most waits of a training run that has
    the processor to itself, and short enough beside others; benchmarks/README.md has the measurements.
    """
    if WAITING & os.environ.keys():
        return {}
    return {"GOMP_SPINCOUNT": str(SPINS)}


def visible(chosen: list[str]) -> dict[str, str]:
    """The environment in which a process sees these GPUs alone, numbered as nvidia-smi numbers them."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(chosen), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def choose(option: str) -> list[str]:
    """The GPUs of `--gpus 0,1`. UserError for one that isn't there or is named twice."""
    names, chosen = gpus(), [number.strip() for number in option.split(",")]
    if not names:
        raise UserError(f"--gpus {option}: there is no GPU here (nvidia-smi shows none)", "Leave --gpus out.")
    numbers = [str(index) for index in range(len(names))]
    if missing := [number for number in chosen if number not in numbers]:
        listed = ", ".join(f"{index}: {name}" for index, name in enumerate(names))
        raise UserError(f"--gpus {option}: no GPU {', '.join(missing)} here", f"This machine has {listed}.")
    if len(set(chosen)) < len(chosen):
        raise UserError(f"--gpus {option}: a GPU is named twice", "Name each once, for example --gpus 0,1.")
    if len(chosen) > MAX_GPUS:
        raise UserError(f"--gpus {option}: a run takes {MAX_GPUS} GPUs at most", "Start several workers.")
    return chosen


def gpu_name() -> str | None:
    """The name of this process's GPUs for people, such as `2 x NVIDIA H100 80GB HBM3`; None where there is no GPU."""
    chosen = own_gpus()
    names = gpus() if chosen else []
    if not names:
        return None
    index = int(chosen[0]) if chosen[0].isdigit() else 0
    name = names[index] if index < len(names) else names[0]
    return name if len(chosen) == 1 else f"{len(chosen)} x {name}"


def out_of_memory_kills() -> int:
    """How many processes the kernel has killed for lack of memory, in this container and on this machine together."""
    return sum(cgroup.value(Path(file), "oom_kill") for file in ("/sys/fs/cgroup/memory.events", "/proc/vmstat"))


def free_memory() -> int:
    """Bytes of main memory that a new process may take, within this container's limit."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 0
    left = cgroup.memory_left()
    return free if left is None else min(free, left)
