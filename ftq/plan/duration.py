"""The time that a training run takes, in seconds: pure arithmetic.

A token costs 4 FLOPs a weight with frozen weights (forward and gradient of the input), 6 where a layer is computed
again. The constants were measured: benchmarks/README.md.
"""

from __future__ import annotations

import math

from ftq.plan.card import Card
from ftq.plan.plan import Plan
from ftq.spec.shape import Shape

EFFICIENCY = {"unsloth": 0.7, "trl": 0.4}  # of a large matrix product's FLOP/s, on a GPU
CPU_EFFICIENCY = 0.35
LAYER_SECONDS = 3e-3  # least time of a layer, forward and backward: the host has to launch its kernels
DEQUANTISE_SECONDS = 1e-12  # a weight, from 4 to 16 bit, each time it is used
ADAM_SECONDS = 4.5e-11  # a weight of the adapter
STEP_SECONDS, MICRO_BATCH_SECONDS = 0.01, 0.02  # of the host, while the device waits
# The first two steps wait for kernels: to be found in the cache and loaded, or first to be compiled.
STARTING_SECONDS, COMPILING_SECONDS = {"unsloth": 10.0, "trl": 1.0}, 18.0


def training_seconds(plan: Plan, card: Card, examples: int, held_out: int, eval_steps: int | str = "auto") -> float:
    """The training loop, which is what a run measures of itself.

    In it are the steps, the evaluations of the examples held out (forward passes), and what the first steps wait.
    Importing and loading the model are not.
    """
    example = plan.step_seconds / plan.examples_in_step / (3 if plan.gradient_checkpointing else 2)
    starting = STARTING_SECONDS[plan.engine]
    if card.compiles(plan.engine, plan.load_in_4bit, plan.gradient_checkpointing):
        starting += COMPILING_SECONDS
    looks = evaluations(plan, examples, eval_steps) if held_out else 0
    return starting + plan.steps * plan.step_seconds + looks * held_out * example


def evaluations(plan: Plan, examples: int, eval_steps: int | str) -> int:
    """How often the validation loss is computed: every so many steps (auto: each epoch), and at the end."""
    every = math.ceil(examples / plan.examples_in_step) if eval_steps == "auto" else int(eval_steps)
    return math.ceil(plan.steps / every)


def step_seconds(shape: Shape, adapter: int, plan: Plan, tokens: float, length: float, flops: float) -> float:
    """An optimiser step, whose micro-batches hold so many tokens on average. The rest as in micro_batch_seconds."""
    reached = flops * (EFFICIENCY[plan.engine] if plan.gpu else CPU_EFFICIENCY)
    micro = micro_batch_seconds(shape, adapter, plan, tokens, length, reached)
    optimiser = adapter * ADAM_SECONDS + STEP_SECONDS
    return plan.gradient_accumulation_steps / plan.gpus * micro + optimiser


def micro_batch_seconds(shape: Shape, adapter: int, plan: Plan, tokens: float, length: float, flops: float) -> float:
    """Forward and backward of a micro-batch, at so many FLOP/s.

    `adapter` is the number of its weights, `length` the mean row's: attention grows with it.
    """
    passes = 3 if plan.gradient_checkpointing else 2
    weights = shape.linear + shape.vocabulary * shape.hidden + 1.5 * adapter
    attention = shape.layers * shape.query * length  # multiply-adds of a token's half square of scores, twice
    compute = tokens * 2 * passes * (weights + attention) / flops
    launches = shape.layers * LAYER_SECONDS * passes / 2
    both = math.sqrt(math.hypot(compute**2, launches**2))  # side by side: the longer one, more where they are alike
    return MICRO_BATCH_SECONDS + both + (passes * shape.linear * DEQUANTISE_SECONDS if plan.load_in_4bit else 0.0)
