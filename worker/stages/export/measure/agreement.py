"""Whether the merged model says what base and adapter said together, before anything is made of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftq.errors import FtqError
from ftq.files.export_report import Distance
from worker.gguf.names import plain
from worker.llama.logits import Row, compare, summary
from worker.stages.export.measure.loaded import linear_layers, loaded
from worker.stages.model import merge

# Merging rounds a weight once, by up to 0.4 % (bfloat16 has 8 bits). Of SmolLM2 and of tiny models that gives a KL of
# up to 0.002; an update that is lost, added twice or in another layer gives more than 0.1.
MOST_KL = 0.02


def check(model_dir: Path, adapter: Path, merged: Path, rows: list[Row], keep: Path) -> Distance:
    """Compare the logits of `merged` with those of base + adapter; write the merged model's to `keep`, an .npy file.

    FtqError if they don't agree.
    """
    import numpy as np

    with loaded(merged) as model:
        ours = np.concatenate(list(_logits(model, rows)))
    np.save(keep, ours)
    with loaded(model_dir) as model:
        _adapt(model, adapter)
        theirs = _logits(model, rows)
        distance = summary([compare(*pair) for pair in zip(np.concatenate(list(theirs)), ours, strict=True)])
    if not distance.kl <= MOST_KL:  # NaN counts too
        raise FtqError(
            f"the merged model doesn't say what base and adapter say: a KL of {distance.kl:.3f} (at most {MOST_KL}), "
            f"the same next token at {distance.top1:.0%} of {distance.positions} positions",
            f"Was {adapter} trained on the model in {model_dir}? `ftq retry RUN` merges again.",
        )
    return distance


def _adapt(model: Any, adapter: Path) -> None:
    """Add the adapter's updates to the layers that it names, as PEFT does."""
    pairs, scaling = merge.read_pairs(adapter), merge.scaling(adapter)
    for name, module in linear_layers(model):
        if pair := pairs.get(plain(f"{name}.weight")):
            module.register_forward_hook(_adding(*pair, scaling))


def _adding(a: Any, b: Any, scaling: float) -> Any:
    def hook(_module: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        return output + scaling * (inputs[0].float() @ a.T @ b.T)

    return hook


def _logits(model: Any, rows: list[Row]) -> Iterator[Any]:
    """Of each row an array (positions, vocabulary)."""
    import torch

    for row in rows:
        places = torch.arange(row.first - 1, len(row.ids) - 1)
        ids = torch.tensor([row.ids])
        yield model(input_ids=ids, logits_to_keep=places, use_cache=False).logits[0].float().numpy()
