"""`python -m worker.stages.model.base_gguf MODEL [REVISION]`: print the path of the base model's q8_0 GGUF."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path

from ftq.errors import FtqError
from ftq.files.run_dir import sync
from ftq.settings import cache_dir
from ftq.spec import models
from worker.gguf.convert import convert
from worker.stages.model import base_model, revisions
from worker.stages.model.tokens import Tokens


def make(model: str, revision: str | None = None) -> Path:
    """The file in ftq's cache, converted unless an earlier call has done it."""
    model_dir = base_model.resolve(model, revision)
    key = hashlib.sha256(f"{model_dir.resolve()} {revisions.of(model_dir)}".encode()).hexdigest()[:12]
    gguf = cache_dir() / f"base-{key}-q8_0.gguf"
    if not gguf.is_file():
        gguf.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{gguf.name}.", suffix=".partial", dir=gguf.parent) as folder:
            base_model.link(model_dir, Path(folder, "base"))
            name, controls = models.name_of(model), Tokens(model_dir).controls
            convert(Path(folder, "base"), Path(folder, "model.gguf"), "q8_0", "--model-name", name, controls=controls)
            sync(Path(folder, "model.gguf"))
            os.replace(Path(folder, "model.gguf"), gguf)
            sync(gguf.parent)
    return gguf


if __name__ == "__main__":
    try:
        path = make(*sys.argv[1:])
        sys.stdout.flush()
        os.write(1, os.fsencode(path) + b"\n")  # a path may be no text
    except FtqError as error:
        sys.exit(error.line)
