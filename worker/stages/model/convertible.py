"""Whether a base model can become a GGUF: known before any training."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ftq.errors import FtqError, UserError
from ftq.spec import models
from worker.gguf.convert import convert
from worker.stages.model import merge
from worker.stages.model.base_model import read_config


def check_convertible(model_dir: Path, model: str, stop: str) -> None:
    """UserError if the base model can't become a GGUF.

    That is so if a file is missing, if llama.cpp's converter doesn't know the architecture or the tokenizer, or if the
    weights are quantised, so that no adapter can be merged into them.
    """
    config = read_config(model_dir)
    names = config.get("architectures") or ["unknown"]
    if names[0].startswith("Phi3") and not (model_dir / "tokenizer.model").is_file():
        raise UserError(
            f"model {model}: tokenizer.model is missing, and without it {names[0]} can't become a GGUF",
            "Put the base model's own tokenizer.model beside its config.json.",
        )
    if models.find(model):
        return
    if config.get("quantization_config"):
        raise UserError(
            f"model {model} is quantised itself (quantization_config in its config.json): an adapter can't be merged",
            "Take the 16-bit model that it was made of, with load_in_4bit=true where memory is short.",
        )
    with tempfile.TemporaryDirectory() as folder:  # only a try of some seconds shows which tokenizers it knows
        settings = Path(folder, "merged")
        merge.copy_settings(model_dir, settings, stop)
        try:
            convert(settings, Path(folder, "vocabulary.gguf"), "f16", "--vocab-only")
        except FtqError as error:
            message = f"model {model} can't become a GGUF with this llama.cpp: {error.message}"
            raise UserError(message, "`ftq models` lists models that llama.cpp can convert.") from None
