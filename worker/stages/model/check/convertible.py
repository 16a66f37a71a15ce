"""Whether a base model can be loaded, and become a GGUF that is asked as it was trained: known before any training."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ftq.errors import FtqError, UserError
from ftq.files.export_report import Parity
from ftq.spec import checkpoint, models
from ftq.spec.options import Format
from worker.gguf.convert import convert
from worker.gguf.vocabulary import loadable
from worker.llama.pool import Pool
from worker.stages.model import merge
from worker.stages.model.check import parity
from worker.stages.model.check.finite import check_finite
from worker.stages.model.check.loads import check_loads
from worker.stages.model.tokens import Tokens

CONTEXT = 512  # tokens: the prompts are short


def check_convertible(model_dir: Path, model: str, stop: str, format: Format = "alpaca") -> Parity:
    """Try the loader, the converter, and llama.cpp on the vocabulary; return how many prompts it reads otherwise.

    UserError if weights are missing, left over or no numbers, if they are quantised, so that no adapter can be merged
    into them, if llama.cpp's converter doesn't know the architecture or the tokenizer, or if most prompts are other
    tokens there.
    """
    checkpoint.check(model_dir, model)
    with tempfile.TemporaryDirectory(prefix="ftq-try-") as folder, ThreadPoolExecutor(2) as apart:
        loading, reading = (apart.submit(one, model_dir, model) for one in (check_loads, check_finite))
        trial = Path(folder, "trial.gguf")
        try:
            tokens = Tokens(model_dir, format)
            _convert(model_dir, model, stop, tokens, Path(folder), trial)
        finally:
            loading.result()  # where the loader refuses the model too, it names the weight: the converter can't
        reading.result()
        pool = Pool(most=1, gpu=False, context=CONTEXT)
        try:
            with pool.server(trial) as server:
                return parity.check([], tokens, stop, server)
        finally:
            pool.close()


def _convert(model_dir: Path, model: str, stop: str, tokens: Tokens, folder: Path, target: Path) -> None:
    """Write a GGUF with the vocabulary that the export will make; only a try of some seconds shows whether it can."""
    settings, vocabulary = folder / "merged", folder / "vocabulary.gguf"
    merge.copy_settings(model_dir, settings, stop, "chat" if tokens.template else "alpaca")
    flags = ("--vocab-only", "--model-name", models.name_of(model))
    try:
        convert(settings, vocabulary, "f16", *flags, controls=tokens.controls)
    except FtqError as error:
        hint = "`ftq models` lists models that llama.cpp can convert."
        if "tokenizer.model" in error.message:
            entry = models.find(model)
            hint = "Put the base model's own tokenizer.model beside its config.json"
            hint += f": `hf download {entry.hub_id if entry else model} tokenizer.model`."
        message = f"model {model} can't become a GGUF with this llama.cpp: {error.message}"
        raise UserError(message.replace(str(settings), str(model_dir)), hint) from None
    loadable(vocabulary, target)
