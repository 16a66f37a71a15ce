"""`ftq doctor`: what a container or a service may use of its machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ftq.doctor.findings import Finding
from ftq.doctor.machine import GB
from worker.machine.cgroup import ROOT, memory_limit, processor_limit

LITTLE_GB = 16.0  # exporting phi-3.5-mini holds its 16-bit weights, 7.6 GB, and what converts them


def limits(root: Path = ROOT) -> Iterator[Finding]:
    yield _memory(memory_limit(root), _host_memory(root))
    yield _processors(processor_limit(root), os.cpu_count() or 1)


def _memory(limit: int | None, host: int) -> Finding:
    limited = limit is not None and limit < host
    usable = limit if limit is not None and limited else host
    text = f"{usable / GB:.1f} GB of memory" + (f", limited from {host / GB:.1f} GB" if limited else "")
    if usable < LITTLE_GB * GB:
        fix = "docker run --memory (mem_limit in compose) allows more." if limited else ""
        return Finding("limits", "warning", f"{text}: a model like phi-3.5-mini needs {LITTLE_GB:.0f} to export", fix)
    return Finding("limits", "note" if limited else "ok", text)


def _processors(limit: float | None, host: int) -> Finding:
    if limit is None or limit >= host:
        return Finding("limits", "ok", f"{host} processor cores")
    text = f"{limit:g} of {host} processor cores"
    if limit < 1:
        return Finding("limits", "warning", text, "docker run --cpus (cpus in compose) allows more.")
    return Finding("limits", "note", text)


def _host_memory(root: Path) -> int:
    for line in (root / "proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0
