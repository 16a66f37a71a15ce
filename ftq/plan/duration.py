"""The time that a training run takes, in seconds: pure arithmetic.

A token costs 4 FLOPs a weight with frozen weights (forward and gradient of the input), 6 where a layer is computed
again. The constants were measured: benchmarks/README.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ftq.plan.card import AGAIN, BOTH, CARD, FIRST, HOST, OTHER_ROWS, PLAYED, RESUMED, Card
from ftq.plan.plan import Plan, Training
from ftq.spec.shape import Shape

EFFICIENCY = {"unsloth": 0.7, "trl": 0.4}  # of a large matrix product's FLOP/s, on a GPU
CPU_EFFICIENCY = 0.35
LAYER_SECONDS = 3e-3  # least time of a layer, forward and backward: the host has to launch its kernels
PLAYED_SECONDS = 1e-3  # the same, launched as one CUDA graph
RECORDING_STEPS = 100  # until most sizes of a step are recorded
FP8_TIME = 0.74  # of a 16-bit product's time, quantising what goes in included
DEQUANTISE_SECONDS = 1e-12  # a weight, from 4 to 16 bit, each time it is used
ADAM_SECONDS = 4.5e-11  # a weight of the adapter
STEP_SECONDS, MICRO_BATCH_SECONDS = 0.01, 0.02  # of the host, while the device waits
# Guesses, until a training has measured it: the first steps wait for kernels, to be compiled, or to be found in the
# cache and loaded; a checkpoint is written at the end. Plain TRL and a CPU compile nothing.
STARTING_SECONDS = {FIRST: 28.0, OTHER_ROWS: 16.0, AGAIN: 10.0, RESUMED: 10.0}
SOON = 1.0
MOST_OF_IT = 2.0  # times the rest: what takes so long bounds a step


@dataclass(frozen=True)
class Loop:
    """What a training loop takes, in seconds, as it measures itself: importing and loading the model are not in it.

    `starting` is all that is neither a step nor an evaluation (a forward pass of the examples held out).
    """

    began: str
    starting: float
    steps: float
    evaluations: float

    @property
    def seconds(self) -> float:
        return self.starting + self.steps + self.evaluations


def loop(plan: Plan, card: Card, training: Training, held_out: int, resumes: bool = False) -> Loop:
    """The loop of this plan for this training, with so many examples held out, on this card."""
    example = plan.step_seconds / plan.examples_in_step / (3 if plan.gradient_checkpointing else 2)
    began = RESUMED if resumes else card.begins(plan.measured_as)
    looks = evaluations(plan, training.rows.examples, training.spec.eval_steps) if held_out else 0
    steps = (plan.steps + heavier(plan, training)) * plan.step_seconds
    return Loop(began, starting_seconds(plan, card, began), steps, looks * held_out * example)


def starting_seconds(plan: Plan, card: Card, began: str) -> float:
    """What the loop takes beside its steps and evaluations: as measured, or a guess."""
    if plan.gpu and plan.engine == "unsloth":
        return card.starting(plan.measured_as, began, STARTING_SECONDS)
    alike = tuple(replace(start, began=began) for start in card.starts)  # nothing is compiled
    return replace(card, starts=alike).starting(plan.measured_as, began, {began: SOON})


def heavier(plan: Plan, training: Training) -> float:
    """By how many mean steps a part of an epoch exceeds its number of steps: the one with most tokens comes first."""
    rows, examples = training.rows, plan.examples_in_step
    left = 1 - plan.steps * examples / max(1, rows.examples)
    if not plan.padding_free or not rows.tokens or left <= 0:
        return 0.0
    return left * ((training.largest or rows.largest)(examples) / (examples * rows.mean) - 1)


def evaluations(plan: Plan, examples: int, eval_steps: int | str) -> int:
    """How often the validation loss is computed: every so many steps (auto: each epoch), and at the end."""
    every = math.ceil(examples / plan.examples_in_step) if eval_steps == "auto" else int(eval_steps)
    return math.ceil(plan.steps / every)


@dataclass(frozen=True)
class Step:
    """What an optimiser step takes, in seconds: by its parts as they would be alone.

    `card` are the matrix products, `launches` the host's starting of the kernels, which goes on beside them; `waits`
    what the host does while the device waits, `reads` what the device only reads and writes.
    """

    card: float
    launches: float
    waits: float
    reads: float
    played: bool  # most launches are recorded ones

    def seconds(self, card: float = 1.0, host: float = 1.0) -> float:
        """The whole, where card and host take so many times what the formulas say."""
        both = (card * self.card) ** 4 + (host * self.launches) ** 4  # the longer one, more where they are alike
        return host * self.waits + float(both**0.25) + card * self.reads

    @property
    def bound(self) -> str:
        """What takes twice as long as all that it isn't, if anything does."""
        host = self.launches + self.waits
        if self.card >= MOST_OF_IT * (host + self.reads):
            return CARD
        return (PLAYED if self.played else HOST) if host >= MOST_OF_IT * (self.card + self.reads) else BOTH


def step(shape: Shape, adapter: int, plan: Plan, tokens: float, length: float, flops: float) -> Step:
    """An optimiser step, whose micro-batches hold so many tokens on average. The rest as in `micro_batch`."""
    reached = flops * (EFFICIENCY[plan.engine] if plan.gpu else CPU_EFFICIENCY)
    micro = micro_batch(shape, adapter, plan, tokens, length, reached)
    batches = plan.gradient_accumulation_steps / plan.gpus
    return Step(
        batches * micro.card,
        batches * micro.launches,
        batches * micro.waits + STEP_SECONDS,
        batches * micro.reads + adapter * ADAM_SECONDS,
        micro.played,
    )


def micro_batch(shape: Shape, adapter: int, plan: Plan, tokens: float, length: float, flops: float) -> Step:
    """Forward and backward of a micro-batch, at so many FLOP/s.

    `adapter` is the number of its weights, `length` the mean row's: attention grows with it.
    """
    passes = 3 if plan.gradient_checkpointing else 2
    weights = shape.linear + shape.vocabulary * shape.hidden + 1.5 * adapter
    weights -= (1 - FP8_TIME) * shape.gaining if plan.load_in_fp8 else 0
    attention = shape.layers * shape.query * length  # multiply-adds of a token's half square of scores, twice
    compute = tokens * 2 * passes * (weights + attention) / flops
    # The mean over a run's steps.
    usual = min(1.0, RECORDING_STEPS / max(1, plan.steps)) if plan.cuda_graphs else 1.0
    layer = usual * LAYER_SECONDS + (1 - usual) * PLAYED_SECONDS
    read = passes * shape.linear * DEQUANTISE_SECONDS if plan.load_in_4bit else 0.0
    return Step(compute, shape.layers * layer * passes / 2, MICRO_BATCH_SECONDS, read, usual < 0.5)
