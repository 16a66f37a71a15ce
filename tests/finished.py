"""A finished run with small files: what `ftq pull` and `ftq push` take out."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ftq.files.export_report import ExportReport, GgufReport, Parity, Stops
from ftq.files.run_dir import STAGES, write_json
from ftq.spec.options import parse
from ftq.store.store import RunStore
from tests.tools import succeed

GGUF = {"q4_k_m": b"GGUF" + bytes(range(256)) * 3000, "q8_0": b"GGUF" + b"\x01" * 5000}
CARD = (
    "---\nbase_model: owner/base\nlibrary_name: gguf\ntags:\n- ftq\n- gguf\nlicense: mit\n---\n\n# base, fine-tuned\n"
)
MODELFILE = 'FROM ./model-q4_k_m.gguf\nTEMPLATE """{{ .Prompt }}\nFROM here"""\n'
ADAPTER = {"adapter_config.json": '{"base_model_name_or_path": "owner/base"}', "adapter_model.safetensors": "weights"}
MERGED = {"config.json": "{}", "model-00001-of-00001.safetensors": "all weights", "tokenizer/vocab.json": "{}"}


def finished(home: Path, done: int = len(STAGES), recorded: bool = True) -> Path:
    """The folder of the run `handbook` whose first `done` stages have succeeded; with `recorded` it has export.json."""
    home.mkdir(parents=True, exist_ok=True)
    store = RunStore(f"sqlite:///{home / 'ftq.db'}")
    spec = parse({"model": "qwen3-4b", "quantizations": ["q4_k_m", "q8_0"]}).model_dump()
    store.create("aaaa1111", "handbook", spec, "hash")
    if done:
        succeed(store, "aaaa1111", *STAGES[:done])
    store.close()
    folder = home / "aaaa1111"
    write(folder, {"README.md": CARD, "Modelfile": MODELFILE})
    write(folder / "adapter", {**ADAPTER, "README.md": "PEFT's own"})
    write(folder / "merged", MERGED)
    for kind, content in GGUF.items():
        (folder / f"model-{kind}.gguf").write_bytes(content)
    if recorded:
        write_export(folder, [gguf(kind, sha256=sha256(content)) for kind, content in GGUF.items()])
    return folder


def gguf(kind: str, sha256: str = "ab", **measured: Any) -> GgufReport:
    """What the export says of one file."""
    return GgufReport(f"model-{kind}.gguf", kind, 1000, sha256, 2, **{"stops": Stops(50, 20, 49), **measured})


def write_export(folder: Path, files: list[GgufReport]) -> None:
    write_json(folder / "export.json", ExportReport("</s>", Parity(20), tuple(files)).to_json())


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def sha256(content: bytes | str) -> str:
    return hashlib.sha256(content if isinstance(content, bytes) else content.encode()).hexdigest()
