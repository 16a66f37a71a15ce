"""The untuned base model as a GGUF, to be asked beside the tuned one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ftq.errors import FtqError
from ftq.servers import LLM_SECRETS


def base_gguf(model: str, revision: str | None = None) -> Path:
    """The base model's q8_0 GGUF in ftq's cache. The first call makes it and takes as long as an export.

    A process of its own looks for the model and converts it: this one may serve questions and imports no torch.
    """
    command = [sys.executable, "-m", "worker.stages.model.base_gguf", model, *([revision] if revision else [])]
    environment = {name: value for name, value in os.environ.items() if name not in LLM_SECRETS}
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=environment)
    lines = done.stdout.splitlines()
    if done.returncode == 0 and lines:
        return Path(os.fsdecode(lines[-1]))
    said = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    raise FtqError(f"the base model {model} can't be asked: {said}", "`ftq doctor` on the worker's machine says more.")
