"""Every file is asked before it is published: it loads, writes, and ends its answers with the trained stop token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ftq.errors import FtqError
from ftq.files.disk import digest_of
from ftq.files.export_report import Stops
from worker.llama.pool import Pool
from worker.llama.server import Server
from worker.stages.export.measure.sample import Sample
from worker.stages.model.tokens import Tokens

LOOK = "The log has more: `ftq logs RUN --stage export`. `ftq retry RUN` exports again, the adapter is kept."


def ends(merged: Path, tokens: Tokens, stop: str) -> list[str]:
    """Every token that ends an answer, the trained one first. FtqError if the merged model's files disagree on it."""
    config, generation, tokenizer = (
        _read(merged / f"{name}.json") for name in ("config", "generation_config", "tokenizer_config")
    )
    declared = generation["eos_token_id"]
    named = {
        "config.json": tokens.text_of(config["eos_token_id"]),
        "generation_config.json": tokens.text_of(declared[0]),
        "tokenizer_config.json": tokenizer["eos_token"],
    }
    if wrong := [f"{name} names {end}" for name, end in named.items() if end != stop]:
        raise FtqError(f"answers were trained to end with {stop}, but {' and '.join(wrong)}", LOOK)
    return [end for end in map(tokens.text_of, declared) if end]


def end_of_sequence(server: Server, file: Path, stop: str) -> int:
    """The id with which the GGUF ends an answer. FtqError if it isn't the trained token's."""
    if (end := server.end_of_sequence()) != stop:
        raise FtqError(f"{file.name} ends answers with {end}, but training taught {stop}", LOOK)
    [token] = server.tokens(end, start=False, special=True)
    return token


def ask(pool: Pool, file: Path, sample: Sample) -> Stops:
    """Ask the sample's questions. FtqError if the model writes nothing at all."""
    answers = list(pool.ask_all(file, sample.questions))
    if not any(answer.tokens or answer.stopped for answer in answers):
        raise FtqError(f"{file.name} loads, but writes nothing", LOOK)
    return Stops(len(answers), sample.held_out, sum(answer.stopped for answer in answers))


def sha256(file: Path) -> str:
    with file.open("rb") as data:
        return digest_of(data)


def _read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
