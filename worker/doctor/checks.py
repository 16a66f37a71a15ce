"""The worker's half of `ftq doctor`: `python -m worker.doctor.checks` prints a line of JSON a finding. No torch."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ftq.doctor.findings import Check, Finding, Level, examine
from ftq.doctor.machine import GB, disk, in_container, versions
from ftq.doctor.web import hub
from ftq.settings import cache_dir, hub_cache
from worker.doctor.gpu import gpus, torch_cuda
from worker.doctor.limits import limits

SECONDS = 3.2  # the hub's check takes up to 3
LLAMA_SECONDS = 3.8  # `ftq doctor` waits 4.5 s for all checks, the imports included
SHARED_GB = 1.0  # PyTorch and NCCL pass data between processes there; a container has 64 MB unless told otherwise


def main() -> None:
    for finding in examine(checks(), SECONDS):
        print(json.dumps(dataclasses.asdict(finding)), flush=True)  # at once: `ftq doctor` may not wait for the rest
    os._exit(0)  # not waiting for a check that hangs


def checks() -> list[Check]:
    return [
        Check("versions", packages),
        Check("gpu", gpus, fix="nvidia-smi hangs: restart the machine, or see `dmesg`."),
        Check("compiler", compiler),
        Check("limits", limits),
        Check("shared memory", shared_memory),
        Check("disk", folders, silence="warning"),
        Check("hub", hub, silence="warning", fix="HF_HUB_OFFLINE=1 uses only models that are on this machine."),
        Check("llama.cpp", llama, "warning", "Busy? ftq doctor --deep   waits longer.", LLAMA_SECONDS),
    ]


def packages() -> Iterator[Finding]:
    yield from versions("worker")
    yield from versions("unsloth", "--no-deps", missing="warning")  # engine=trl trains without them


def compiler(include: Path | None = None, path: str | None = None) -> Iterator[Finding]:
    """Triton compiles a launcher for each kernel with the C compiler and Python's headers; only a GPU needs them."""
    level: Level = "problem" if torch_cuda() and shutil.which("nvidia-smi", path=path) else "note"
    header = (include or Path(sysconfig.get_path("include"))) / "Python.h"
    compiler = next((where for name in _compilers() if (where := shutil.which(name, path=path))), None)
    if compiler is None:
        yield Finding("compiler", level, "no C compiler, Triton needs one on a GPU", "apt-get install gcc")
    elif not header.is_file():
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-dev"
        yield Finding("compiler", level, f"no {header}, Triton needs it on a GPU", f"apt-get install {package}")
    else:
        yield Finding("compiler", "ok", f"{compiler}, and Python's headers are there")


def llama() -> Iterator[Finding]:
    """Whether llama.cpp, in a process of its own, answers from the packaged model."""
    from worker.llama.check import look

    yield from look()


def _compilers() -> tuple[str, ...]:
    return tuple(name for name in (os.environ.get("CC"), "gcc", "clang") if name)


def shared_memory(folder: Path = Path("/dev/shm")) -> Iterator[Finding]:
    if not folder.is_dir():
        yield Finding("shared memory", "note", f"there is no {folder}")
        return
    usage = shutil.disk_usage(folder)
    text = f"{folder} has {usage.free / GB:.1f} of {usage.total / GB:.1f} GB free"
    if usage.free < SHARED_GB * GB:
        fix = "docker run --shm-size=8g (shm_size: 8g in compose)" if in_container() else f"Make room in {folder}."
        yield Finding("shared memory", "warning", text, fix)
    else:
        yield Finding("shared memory", "ok", text)


def folders() -> Iterator[Finding]:
    """Where base models, kernels and temporary files go."""
    look = partial(disk, "disk")
    yield from look(hub_cache())
    yield from look(cache_dir(), little=1)
    yield from look(Path(tempfile.gettempdir()), little=2)


if __name__ == "__main__":
    main()
