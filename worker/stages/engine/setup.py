"""Chooses who computes on this machine, and in which numbers: the engine and the compute type."""

from __future__ import annotations

import inspect
from pathlib import Path

from ftq.errors import UserError
from ftq.plan.card import GIB
from ftq.plan.plan import Plan
from ftq.spec import weights
from ftq.spec.options import RunSpec
from worker.machine import cgroup
from worker.machine.hardware import cpu_dtype, free_memory
from worker.stages.engine.device import flops
from worker.stages.process.main import Report

# To compare two types: rows and columns of matrices, and how often they are multiplied, for others may be at work too.
SIDE, TRIES = 512, 5


def for_inference(spec: RunSpec, model_dir: Path, report: Report) -> Plan:
    """How the tuned model is loaded to be asked: in 16 bit where the weights fill at most half of the device."""
    engine = choose_engine(spec, report)
    import torch

    gpu = torch.cuda.is_available()
    large = gpu and 2 * weights.parameters(model_dir) > torch.cuda.mem_get_info()[0] / 2
    four_bit = large if spec.load_in_4bit == "auto" else spec.load_in_4bit and gpu
    return Plan(engine, gpu, choose_dtype(spec, gpu), load_in_4bit=four_bit)


def choose_engine(spec: RunSpec, report: Report) -> str:
    """unsloth, or trl where Unsloth can't be used. Imports Unsloth, which has to come before everything it patches."""
    if spec.engine == "trl":
        return "trl"
    try:
        import unsloth  # type: ignore[import-untyped]  # noqa: F401
    except Exception as error:  # it checks its surroundings at import and raises whatever fits
        if spec.engine == "unsloth":
            raise UserError(f"engine=unsloth: Unsloth can't be imported ({error})", "Use engine=auto.") from error
        report.event("warning", f"Unsloth can't be used here ({error}): training with plain TRL")
        return "trl"
    return "unsloth"


def choose_dtype(spec: RunSpec, gpu: bool) -> str:
    """The compute type: what was asked for, or the best that the device has."""
    if gpu:
        import torch

        best = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    else:
        best = cpu_dtype() if _is_16_bit_faster() else "float32"
    if spec.dtype == "auto" or (spec.dtype == "float16" and not gpu):
        return best
    return spec.dtype


def _is_16_bit_faster() -> bool:
    """Whether this processor multiplies matrices faster in bfloat16: some name instructions that are emulated."""
    if cpu_dtype() != "bfloat16":
        return False
    best = {dtype: max(flops("cpu", dtype, SIDE) for _ in range(TRIES)) for dtype in ("bfloat16", "float32")}
    return best["bfloat16"] > best["float32"]


def takes_groups() -> bool:
    """Whether PyTorch's attention over examples laid end to end takes fewer key than query heads: from 2.12 on."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    return "enable_gqa" in inspect.signature(varlen_attn).parameters


def processes() -> int:
    """Tokenising processes that the container's CPUs and memory allow, not the host's."""
    return max(1, min(cgroup.processors(), free_memory() // (2 * GIB)))
