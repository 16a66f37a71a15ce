"""A checkpoint to compute with in float32.

A large model's 16-bit weights stay in their files, of two types those of the commoner one: they are mapped, and each is
widened when its layer computes. So memory holds what one layer needs, and the kernel may drop the rest at any time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ftq.spec import weights

SMALL = 2**29  # bytes of weights that are widened at once: in float32 they take 1 GiB


@contextmanager
def loaded(model_dir: Path) -> Iterator[Any]:
    """The model on the CPU, ready to be called with `input_ids`."""
    import torch
    from transformers import AutoModelForCausalLM

    sizes = Counter[str]()
    for weight in weights.read(model_dir).values():
        sizes[weight.dtype] += weight.size
    small = sizes.total() <= SMALL
    model = AutoModelForCausalLM.from_pretrained(
        model_dir,
        dtype=torch.float32 if small else getattr(torch, weights.USABLE[max(sizes, key=sizes.__getitem__)]),
        attn_implementation="sdpa",
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    if not small:
        for _, module in linear_layers(model):
            module.forward = _in_float32(module)
        model.get_input_embeddings().register_forward_hook(lambda *given: given[-1].float())
    with torch.inference_mode():
        yield model.eval()


def linear_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """(name, module) of each."""
    import torch

    return ((name, module) for name, module in model.named_modules() if isinstance(module, torch.nn.Linear))


def _in_float32(module: Any) -> Any:
    from torch.nn.functional import linear

    def forward(inputs: Any) -> Any:
        bias = None if module.bias is None else module.bias.float()
        return linear(inputs.float(), module.weight.float(), bias)

    return forward
