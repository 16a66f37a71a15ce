"""GPUs, driver and CUDA: what the driver says beside what torch was built for. Imports no torch."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from ftq.doctor.findings import Finding
from ftq.doctor.machine import in_container
from worker.machine import nvidia_smi

SMI_SECONDS = 2.5
FIELDS = "name,memory.total,memory.free,driver_version,compute_cap"
OLDEST = 7.5  # compute capability (Turing): CUDA 13 knows no earlier ones
BUSY = 0.5  # share of the memory that others hold
WITHOUT = "trains on the CPU, which takes hours for all but the smallest models"
DRIVERS = {"13": "580", "12": "525"}  # CUDA's major release -> the first driver that knows it (NVIDIA's release notes)


def gpus() -> Iterator[Finding]:
    """What nvidia-smi shows, and whether torch can use it."""
    built_for = torch_cuda()
    try:
        with ThreadPoolExecutor() as both:
            asked = both.submit(nvidia_smi.rows, FIELDS, SMI_SECONDS)
            table = both.submit(nvidia_smi.ask, [], SMI_SECONDS).result()
            cards = asked.result()
    except FileNotFoundError:
        yield _no_driver(built_for)
        return
    except subprocess.SubprocessError as error:
        yield _broken_driver(error)
        return
    yield from (_gpu(index, *card) for index, card in enumerate(cards))
    if cards:
        yield _cuda(built_for, _driver_cuda(table), cards[0][3])
    else:
        yield Finding("gpu", "warning", f"the driver shows no GPU: {WITHOUT}", "docker run --gpus all")


def torch_cuda() -> str | None:
    """The CUDA release that torch was built for, '13.0'; empty for a CPU build, None without torch."""
    torch = find_spec("torch")
    if torch is None or not torch.origin:
        return None
    text = Path(torch.origin).with_name("version.py").read_text(encoding="utf-8")
    match = re.search(r"^cuda\b.*=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return match.group(1) if match else ""


def _broken_driver(error: subprocess.SubprocessError) -> Finding:
    if isinstance(error, subprocess.TimeoutExpired):
        said = f"no answer within {error.timeout:g} s"
    else:
        printed = f"{getattr(error, 'stdout', '')}\n{getattr(error, 'stderr', '')}"
        said = (printed.strip().splitlines() or [str(error)])[0]
    fix = "Restart the machine: driver and kernel module must be of one version."
    return Finding("gpu", "problem", f"nvidia-smi failed: {said}", fix)


def _no_driver(built_for: str | None) -> Finding:
    if in_container():
        fix = "docker run --gpus all, with the NVIDIA Container Toolkit on the host"
    else:
        fix = "Install NVIDIA's driver if there is a GPU; `nvidia-smi` shows whether it works."
    message = f"no nvidia-smi, so no GPU: {WITHOUT}"
    return Finding("gpu", "warning" if built_for else "note", message, fix)


def _gpu(index: int, name: str, total: str, free: str, driver: str, capability: str) -> Finding:
    """Memory in MiB, as nvidia-smi gives it; '[N/A]' where memory is shared with the CPU."""
    who = f"GPU {index}: {name}"
    if _is_number(capability) and float(capability) < OLDEST:
        return Finding(
            "gpu",
            "problem",
            f"{who} has compute capability {capability}, {OLDEST:g} is needed",
            "Train on a newer card, or with CUDA_VISIBLE_DEVICES= on the CPU.",
        )
    if not (_is_number(total) and _is_number(free)):
        return Finding("gpu", "ok", f"{who}, driver {driver}")
    text = f"{who}, {float(free) / 1024:.1f} of {float(total) / 1024:.1f} GiB free, driver {driver}"
    if float(free) < BUSY * float(total):
        return Finding("gpu", "warning", f"{text}: other processes hold the rest", "nvidia-smi   shows them")
    return Finding("gpu", "ok", text)


def _driver_cuda(table: str) -> str:
    """The newest CUDA release that the driver knows, from the heading of nvidia-smi's table."""
    match = re.search(r"CUDA (?:UMD )?Version\s*:\s*(\d+\.\d+)", table)
    return match.group(1) if match else ""


def _cuda(built_for: str | None, known: str, driver: str) -> Finding:
    if built_for is None:
        return Finding("cuda", "problem", "torch isn't installed", "make install")
    if not built_for:
        return Finding(
            "cuda",
            "problem",
            "there is a GPU, but torch is a build for the CPU",
            "python -m pip install --force-reinstall torch, from an index with CUDA builds",
        )
    wanted = built_for.partition(".")[0]
    if known and int(wanted) > int(known.partition(".")[0]):  # within a major release newer ones run as well
        fix = f"Update the driver to {DRIVERS.get(wanted, 'a newer one')} or later."
        return Finding("cuda", "problem", f"torch needs CUDA {built_for}, driver {driver} knows {known}", fix)
    return Finding("cuda", "ok", f"torch is built for CUDA {built_for}, the driver knows {known or 'it'}")


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\d+(\.\d+)?", text) is not None
