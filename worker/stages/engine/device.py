"""The device that trains: its name, the memory that a run may use, its speed."""

from __future__ import annotations

import math
import time

from ftq.plan.card import GIB, USABLE, Card
from ftq.settings import memory_gb
from worker.machine.hardware import free_memory, machine_memory

# Bytes of a device that no run gets: a GPU's driver and the process's own CUDA context; a machine's system.
GPU_RESERVE, CPU_RESERVE = 0.75 * GIB, 1.0 * GIB


def look_at_card(gpu: bool, dtype: str) -> Card:
    """The device with its free memory, bounded by FTQ_MEMORY_GB, and its speed by a few matrix products."""
    import torch

    free = usable_memory(gpu)[0]
    if not gpu:
        return Card("CPU", free, flops("cpu", dtype, 1024))
    from worker.stages.engine import fp8

    return Card(torch.cuda.get_device_name(), free, flops("cuda", dtype, 4096), fp8=not fp8.lacking(dtype))


def usable_memory(gpu: bool) -> tuple[int, int]:
    """(bytes that a run may use now, bytes that it might use with the device to itself)."""
    import torch

    free, total = torch.cuda.mem_get_info() if gpu else (free_memory(), machine_memory())
    whole = total - (GPU_RESERVE if gpu else CPU_RESERVE)
    return int(min(free, limit()) * USABLE), int(max(0, min(whole, limit())) * USABLE)


def total_memory(gpu: bool) -> int:
    """Bytes of the whole device, whoever holds them, bounded by FTQ_MEMORY_GB."""
    import torch

    return int(min(torch.cuda.mem_get_info()[1] if gpu else machine_memory(), limit()))


def limit() -> float:
    """Bytes that a run may take of a device that it shares: FTQ_MEMORY_GB."""
    return (memory_gb() or math.inf) * GIB


def flops(device: str, dtype: str, size: int) -> float:
    """FLOP/s of a large matrix product on this very device, now."""
    import torch

    a = torch.randn(size, size, device=device).to(getattr(torch, dtype))
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    a @ a
    wait()
    rounds, began = (20 if device == "cuda" else 2), time.perf_counter()
    for _ in range(rounds):
        a @ a
    wait()
    return float(rounds * 2 * size**3 / (time.perf_counter() - began))
