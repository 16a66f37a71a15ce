"""The most memory that a training run needs at once, in bytes: pure arithmetic.

The counting of weights, adapter and optimiser states is exact. The bytes that a layer keeps for the backward pass were
counted in Unsloth's autograd functions and corrected by measurement (benchmarks/README.md).
"""

from __future__ import annotations

from dataclasses import replace

from ftq.plan.card import GIB
from ftq.plan.plan import Plan
from ftq.spec.shape import PROJECTIONS, Shape

BYTES_4BIT = 0.5 + 0.5 / 32  # NF4, and its scales quantised themselves: a byte for 64 weights
ADAPTER_BYTES, ADAM_BYTES, ADAM_8BIT_BYTES = 4 + 4, 8, 2  # weight and gradient in 32 bit; two moments
# Numbers that a layer keeps for each token until the backward pass, as multiples of its widths: inputs and outputs of
# both norms; query, key and value, the rotated query and key, what attention returns; gate and up. Unsloth's own
# layers make the product of gate and up again; those of a fused model, which it compiles, keep it.
KEPT = {"hidden": 4, "query": 3, "key": 3, "intermediate": 2}
HEAD = 3  # hidden states around the loss, as multiples of `hidden`; the logits are made in chunks
PLAIN_LOGITS_BYTES = 10  # plain TRL keeps a token's logits in 16 bit, their softmax and gradient in 32
# The loss takes so many logits at once: in 16 bit, and a copy in 32; of a small model's few tokens all. Then what the
# matrix libraries need, and the allocator's rounding.
LOGIT_BYTES, LOGITS, LIBRARIES = 6, 0.625 * GIB, 0.125 * GIB
MOMENTS = 0.05  # of a card's memory may be spent on AdamW's moments in 32 instead of 8 bit
ROW, RANK = 2048, 64  # what `least` counts with: tokens of the longest row, rank of the adapter


def peak(shape: Shape, adapter: int, plan: Plan, spread_keys: bool = False) -> int:
    """Most bytes that are allocated at once while the plan's largest micro-batch goes through the model.

    `adapter` is the number of its weights. For `spread_keys` see `Machine`.
    """
    weights = shape.linear * (BYTES_4BIT if plan.load_in_4bit else plan.bytes_a_number)
    weights += shape.embeddings * plan.bytes_a_number
    moments = ADAM_8BIT_BYTES if plan.optimizer == "adamw_8bit" else ADAM_BYTES
    states = adapter * (ADAPTER_BYTES + moments)
    logits = min(LOGITS, LOGIT_BYTES * shape.vocabulary * plan.tokens)
    return int(weights + states + plan.tokens * token_bytes(shape, plan, spread_keys) + logits + LIBRARIES)


def token_bytes(shape: Shape, plan: Plan, spread_keys: bool = False) -> float:
    """Bytes that each token of a micro-batch adds to the peak."""
    number = plan.bytes_a_number
    layer = number * (
        KEPT["hidden"] * shape.hidden
        + KEPT["query"] * shape.query
        + KEPT["key"] * shape.key
        + (KEPT["intermediate"] + shape.fused) * shape.intermediate
    )
    if spread_keys and shape.key < shape.query:
        layer += number * 2 * shape.query
    head = number * HEAD * shape.hidden
    if plan.engine == "trl":
        head += PLAIN_LOGITS_BYTES * shape.vocabulary
    if plan.gradient_checkpointing is False:
        return shape.layers * layer + head
    # Unsloth moves the layers' inputs to the host
    inputs = 2 if plan.gradient_checkpointing == "unsloth" else shape.layers
    return layer + inputs * number * shape.hidden + head


def least(shape: Shape) -> dict[str, int]:
    """Least memory in each mode, from the smallest to the fastest: one row at a time, with the default adapter."""
    adapter = shape.adapter(RANK, PROJECTIONS)
    fastest = Plan("unsloth", True, "bfloat16", "adamw_8bit", padding_free=True, tokens=ROW)
    saving = replace(fastest, gradient_checkpointing="unsloth")
    modes = {
        "4bit": replace(saving, load_in_4bit=True),
        "16bit": saving,
        "16bit_without_checkpointing": fastest,
    }
    return {name: peak(shape, adapter, plan) for name, plan in modes.items()}


def moments_are_large(adapter: int, total: int) -> bool:
    """Whether AdamW's moments of so many weights would take a large part of a card of `total` bytes in 32 bit.

    8 bit saves 6 bytes a weight, but is a launch for each matrix, where AdamW in 32 bit is a few for all.
    """
    return adapter * (ADAM_BYTES - ADAM_8BIT_BYTES) > total * MOMENTS
