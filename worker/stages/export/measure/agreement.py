"""Whether the merged model says what base and adapter said together, before anything is made of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftq.errors import UserError
from ftq.files.export_report import Distance
from worker.gguf.names import plain
from worker.llama.logits import Row, compare, summary
from worker.stages.export.measure import bounds
from worker.stages.export.measure.loaded import linear_layers, loaded
from worker.stages.model import merge


def check(model_dir: Path, adapter: Path, merged: Path, rows: list[Row], keep: Path) -> Distance:
    """Compare the logits of `merged` with those of base + adapter; write the merged model's to `keep`, an .npy file.

    UserError if that is no merge of these two: it then is as far from both as the base alone, or farther.
    """
    import numpy as np

    with loaded(merged) as model:
        ours = np.concatenate(list(_logits(model, rows)))
    np.save(keep, ours)
    with loaded(model_dir) as model:
        hooks = _adapt(model, adapter)
        theirs = np.concatenate(list(_logits(model, rows)))
        distance = summary([compare(*pair) for pair in zip(theirs, ours, strict=True)])
        if not distance.kl <= bounds.MERGED_KL:  # NaN counts too
            for hook in hooks:
                hook.remove()
            base = np.concatenate(list(_logits(model, rows)))
            alone = summary([compare(*pair) for pair in zip(theirs, base, strict=True)])
            if bounds.is_no_merge(distance, alone):
                raise UserError(
                    f"the merged model doesn't say what base and adapter say: a KL of {distance.kl:.3f}, the same next "
                    f"token at {distance.top1:.0%} of {distance.positions} positions; the base alone is {alone.kl:.3f} "
                    "from them",
                    f"Was {adapter} trained on the model in {model_dir}? If so, `ftq retry RUN` merges again.",
                )
    return distance


def _adapt(model: Any, adapter: Path) -> list[Any]:
    """Add the adapter's updates to the layers that it names, as PEFT does; return what undoes it."""
    pairs, scaling = merge.read_pairs(adapter), merge.scaling(adapter)
    layers = ((module, pairs.get(plain(f"{name}.weight"))) for name, module in linear_layers(model))
    return [module.register_forward_hook(_adding(*pair, scaling)) for module, pair in layers if pair]


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
