"""What a processor needn't compute: padding, and an adapter's numbers converted back and forth.

The losses are those of padded batches and of PEFT's own layers, but for rounding; benchmarks/README.md says what is
gained.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

# Whose attention sees all tokens before it and nothing else, and takes the positions along.
PLAIN = {"llama", "mistral", "phi3", "qwen2", "qwen3", "smollm3"}
WINDOWED, WINDOW = {"mistral", "phi3"}, 4096  # those that see no further than so many tokens unless config.json says it
NAME = "ftq_apart"  # of the attention, for transformers
SHORT = 256  # tokens of an example up to which PyTorch's attention is quicker in 32 bit, above all its backward pass


def keeps_apart(config: dict[str, Any], longest: int) -> bool:
    """Whether examples of up to so many tokens can lie end to end in a model with this config.json."""
    kind = config.get("model_type")
    windowed = config.get("use_sliding_window", kind in WINDOWED)
    window = config.get("sliding_window", WINDOW) if windowed else None
    return kind in PLAIN and (window is None or longest <= window)


def keep_apart(model: Any) -> None:
    """Let the model's attention see examples that lie end to end each for itself."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, lambda *_, **__: None)
    model.get_base_model().set_attn_implementation(NAME)


def convert_less(model: Any) -> None:
    """Let the layers with an adapter compute in the base model's numbers throughout, but for what is learned.

    PEFT converts a layer's input to the adapter's 32 bit, whose product converts it back, and scales and adds in
    passes of their own. With dropout PEFT's layers stay.
    """
    import torch

    for layer in model.modules():
        if hasattr(layer, "lora_A") and type(layer.get_base_layer()) is torch.nn.Linear:
            [name] = layer.active_adapters
            if not getattr(layer.lora_dropout[name], "p", 0):
                parts = layer.get_base_layer(), layer.lora_A[name].weight, layer.lora_B[name].weight
                layer.forward = partial(_apply, parts, layer.scaling[name])


def _attention(
    module: Any, query: Any, key: Any, value: Any, mask: Any, position_ids: Any, dropout: float = 0.0,
    scaling: float | None = None, **_: Any,
) -> tuple[Any, None]:  # fmt: skip
    import torch

    begins = (position_ids[0] == 0).nonzero().flatten().tolist()
    lengths = [end - begin for begin, end in zip(begins, [*begins[1:], query.shape[2]], strict=True)]
    examples = zip(*(part.split(lengths, dim=2) for part in (query, key, value)), strict=True)
    seen = [_example(*example, dropout=dropout, scaling=scaling) for example in examples]
    return torch.cat(seen, dim=2).transpose(1, 2), None


def _example(query: Any, key: Any, value: Any, *, dropout: float, scaling: float | None) -> Any:
    from torch.nn.functional import scaled_dot_product_attention

    dtype, grouped = query.dtype, key.shape[1] != query.shape[1]
    if query.shape[2] <= SHORT:
        query, key, value = query.float(), key.float(), value.float()
    seen = scaled_dot_product_attention(
        query, key, value, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=grouped
    )
    return seen.to(dtype)


def _apply(parts: tuple[Any, Any, Any], scale: float, given: Any) -> Any:
    return _adapted().apply(given, *parts, scale)


@cache
def _adapted() -> Any:
    """A layer's product with an adapter's added, and its gradients, as a function of PyTorch's."""
    import torch

    class Adapted(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, given: Any, base: Any, down: Any, up: Any, scale: float) -> Any:
            rows = given.reshape(-1, given.shape[-1]).to(base.weight.dtype)
            small, large = down.to(rows.dtype), up.to(rows.dtype)
            between = rows @ small.t()
            made = torch.nn.functional.linear(rows, base.weight, base.bias).addmm_(between, large.t(), alpha=scale)
            ctx.save_for_backward(rows, base.weight, small, large, between)
            ctx.scale, ctx.learned = scale, down.dtype
            return made.view(*given.shape[:-1], -1)

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            rows, weight, small, large, between = ctx.saved_tensors
            shape = (*gradient.shape[:-1], -1)
            gradient = gradient.reshape(-1, gradient.shape[-1])
            inner = (gradient @ large).mul_(ctx.scale)
            before = (gradient @ weight).addmm_(inner, small).view(shape) if ctx.needs_input_grad[0] else None
            learned = (inner.t() @ rows, (gradient.t() @ between).mul_(ctx.scale))
            return before, None, *(each.to(ctx.learned) for each in learned), None

    return Adapted
