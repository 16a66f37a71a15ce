"""What the merged model's layers get to see: the mean square of each input, over the run's own training text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftq.errors import FtqError
from ftq.files.run_dir import RunDir, read_jsonl
from worker.gguf.names import GgufNames
from worker.stages.export.measure.loaded import linear_layers, loaded
from worker.stages.model.tokens import Tokens

TOKENS = 4096  # of training text; the squares of a model's inputs have settled long before
AT_ONCE = 512


def collect(run: RunDir, merged: Path, tokens: Tokens, stop: str, gguf: Path, target: Path) -> int:
    """Write `target`, an .npz of {tensor of `gguf`: mean squares}; return of how many tensors."""
    import numpy as np
    import torch

    squares, seen = dict[str, Any](), 0
    with loaded(merged) as model:
        for name, module in linear_layers(model):
            module.register_forward_hook(_adding(squares, name))
        for ids in _text(run, tokens, stop):
            model(input_ids=torch.tensor([ids]), logits_to_keep=1, use_cache=False)
            seen += len(ids)
    names = _names(gguf)
    means = {names.of(name): (total / seen).numpy() for name, total in squares.items() if name != "lm_head"}
    means.pop(None, None)
    if not means:
        raise FtqError(
            f"no layer of {merged.name} has a name that llama.cpp knows, so there is no importance to quantise by",
            "Submit the run again with imatrix=false: only the export is computed anew.",
        )
    np.savez(target, **means)  # type: ignore[arg-type]
    return len(means)


def _adding(squares: dict[str, Any], name: str) -> Any:
    def hook(_module: Any, inputs: tuple[Any, ...], _output: Any) -> None:
        total = inputs[0].float().square().flatten(0, -2).sum(0)
        squares[name] = squares[name] + total if name in squares else total

    return hook


def _text(run: RunDir, tokens: Tokens, stop: str) -> Iterator[list[int]]:
    """Rows of train.jsonl, evenly spaced and end to end: at most TOKENS, as many at once as a model computes well."""
    rows = list(read_jsonl(run.dataset / "train.jsonl"))
    characters = sum(len(row["instruction"]) + len(row["input"]) + len(row["output"]) for row in rows)
    step = max(1, characters // (6 * TOKENS))  # a token has three characters or more
    text = [token for ids, _ in tokens.rows(rows[::step], stop) for token in ids][:TOKENS]
    return (text[first : first + AT_ONCE] for first in range(0, len(text), AT_ONCE))


def _names(gguf: Path) -> GgufNames:
    from gguf import GGUFReader

    fields = GGUFReader(gguf).fields
    architecture = str(fields["general.architecture"].contents())
    return GgufNames(architecture, int(fields[f"{architecture}.block_count"].contents()))
