"""Whether llama.cpp works on this machine: it loads the packaged model and answers."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ftq.doctor.findings import Finding
from ftq.errors import FtqError, UserError
from ftq.settings import cache_dir
from worker.llama.answer import Question
from worker.llama.packaged import packaged_gguf
from worker.llama.pool import Pool

FIX = "make install   (or let FTQ_LLAMA_SERVER name a llama-server)"
ELSEWHERE = "`ftq doctor` on the worker's machine tries it again. On x86 it needs a processor with AVX2."
QUESTION = Question("What is the capital of France?", max_tokens=4, chat=True)


def ensure() -> None:
    """UserError if llama.cpp can't compute here: an export would find that out after the training run.

    It is tried once for each processor and version, which takes about a second.
    """
    mark = cache_dir() / f"llama.cpp-{_installed()}.works"
    if mark.exists():
        return
    problem = next((finding for finding in look() if finding.level == "problem"), None)
    if problem:
        raise UserError(f"llama.cpp doesn't work on this machine: {problem.message}", ELSEWHERE)
    with suppress(OSError):
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()


def _installed() -> str:
    """The processor's kind and what computes on it, as a hash."""
    parts = [os.environ.get("FTQ_LLAMA_SERVER", "")]
    for package in ("xllamacpp", "cyllama"):
        with suppress(PackageNotFoundError):
            parts.append(version(package))
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        parts += [line for line in lines if line.startswith("flags")][:1]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def look() -> Iterator[Finding]:
    """One finding, after about a second."""
    file = packaged_gguf()
    if file is None:
        yield Finding("llama.cpp", "note", "not tried: the packaged model isn't installed", "make install")
        return
    began, pool = time.monotonic(), Pool(most=1, gpu=False, context=256)
    try:
        answer = pool.ask(file, QUESTION)
    except FtqError as error:
        yield Finding("llama.cpp", "problem", error.message, FIX)
        return
    finally:
        pool.close()
    took = time.monotonic() - began
    if answer.tokens:
        yield Finding("llama.cpp", "ok", "loads the packaged model and answers", seconds=took)
    else:
        yield Finding("llama.cpp", "problem", "loads the packaged model and writes nothing", "make install")
