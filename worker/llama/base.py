"""The untuned base model as a GGUF, to be asked beside the tuned one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from ftq.errors import FtqError
from ftq.servers import LLM_SECRETS

_made: dict[tuple[str, str | None], Path] = {}
_making = threading.Lock()


def base_gguf(model: str, revision: str | None = None) -> Path:
    """The base model's q8_0 GGUF in ftq's cache. The first call makes it and takes as long as an export.

    One thread makes it while the others wait; this process looks for it again only if it has gone.
    """
    key = (model, revision)
    if (known := _made.get(key)) and known.is_file():
        return known
    with _making:
        if not ((known := _made.get(key)) and known.is_file()):
            known = _made[key] = _make(model, revision)
        return known


def _make(model: str, revision: str | None) -> Path:
    """Look for the model and convert it, in a process of its own: this one may serve questions and imports no torch."""
    command = [sys.executable, "-m", "worker.stages.model.base_gguf", model, *([revision] if revision else [])]
    environment = {name: value for name, value in os.environ.items() if name not in LLM_SECRETS}
    process = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=environment)
    lines = process.stdout.splitlines()
    if process.returncode == 0 and lines:
        return Path(os.fsdecode(lines[-1]))
    said = (process.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"])[-1]
    raise FtqError(f"the base model {model} can't be asked: {said}", "`ftq doctor` on the worker's machine says more.")
