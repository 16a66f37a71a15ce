"""The decision how a training run is computed: every `auto`, from the spec, the model's shape, the rows, the machine.

`ftq submit --dry-run` and the train stage call the same `decide`. What is learned depends on the spec and the rows
alone; the machine decides only how a step is computed. Sizes are bytes, times seconds, lengths tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ftq.plan import calibration, duration, memory
from ftq.plan.card import Machine
from ftq.plan.plan import CHOSEN, Plan, Rows, Training
from ftq.spec.recipe import recipe_of
from ftq.spec.shape import Shape

if TYPE_CHECKING:
    from ftq.spec.options import RunSpec

# Optimiser steps that a run should have before its steps are made larger, and the tokens of a step beyond which a GPU
# gets no faster. The examples of a step depend on the dataset alone, never on the card. Of three manuals SmolLM2-135M
# learned more in 1,800 steps of 8 than in a quarter as many of 32 (benchmarks/README.md).
STEPS_WANTED, TOKENS_WANTED = 1000, 16384
FEWEST, MOST = 8, 64  # examples in a step
EXACT = 1.05  # a 16-bit base may take so much longer than one in FP8 or 4 bit, for nothing of it is rounded
RECORDED = 1.05  # by so much recorded steps have to be faster, for recordings take memory as a step does
TOLERANCE = 1.15  # a plan that is so much too large isn't tried at all: the formula is no better than that
SOME_SPEED = 1e14  # FLOP/s for choosing a plan where the card's are not known; no time is shown then


def decide(training: Training, machine: Machine) -> Plan | None:
    """The plan to train by; None if none fits the card.

    The fastest that fits; where nothing does, the smallest if it is so near that the formula may be wrong. An earlier
    attempt's choice is kept where it still fits, so that a resumed run computes the same bits.
    """
    if training.shape is None:
        return _plan_by_need(training, machine)
    if training.earlier and (kept := choose(_pinned(training, training.earlier), machine)):
        return kept
    if fitting := choose(training, machine):
        return fitting
    least = smallest(training, machine)
    return least if least.peak <= machine.card.memory * TOLERANCE else None


def choose(training: Training, machine: Machine) -> Plan | None:
    """The fastest of the plans that fit the card, of two as fast the one that needs less; None if none fits."""
    fitting = [plan for plan in plans(training, machine) if plan.peak <= machine.card.memory]
    # 4 bit computes what 16 bit does, and dequantises: whatever other runs have shown, the same batches take longer.
    wider = [plan for plan in fitting if not plan.load_in_4bit]
    batches = {(plan.batch_size, plan.gradient_checkpointing) for plan in wider}
    others = [plan for plan in fitting if (plan.batch_size, plan.gradient_checkpointing) not in batches]

    def slowness(plan: Plan) -> int:
        return round(100 * math.log(plan.step_seconds * (EXACT if plan.load_in_4bit or plan.load_in_fp8 else 1.0)))

    return min(wider + others, key=lambda plan: (slowness(plan), plan.peak), default=None)


def smallest(training: Training, machine: Machine) -> Plan:
    """The plan that needs least: what to say when none fits."""
    return min(plans(training, machine), key=lambda plan: plan.peak)


def plans(training: Training, machine: Machine) -> Iterator[Plan]:
    """Every way to train that keeps what the spec fixes, whether it fits or not."""
    spec = training.spec
    bare = _bare(training, machine)
    saving: bool | str = "unsloth" if bare.engine == "unsloth" else True
    keeping = [False, saving] if spec.gradient_checkpointing == "auto" else [spec.gradient_checkpointing]
    effective = examples_in_step(spec, training.rows)
    for four_bit, fp8 in _precisions(training, machine):
        for checkpointing in keeping:
            for batch in _batches(spec, effective):
                if effective // batch % spec.gpus:  # as an earlier version of ftq planned it
                    continue
                way = replace(
                    bare,
                    load_in_4bit=four_bit,
                    load_in_fp8=fp8,
                    gradient_checkpointing=checkpointing,
                    batch_size=batch,
                    gradient_accumulation_steps=effective // batch,
                    tokens=_tokens(training, batch, bare.padding_free),
                )
                yield _recorded_where_faster(_with_cost(way, training, machine), training, machine)


def takes_fp8(training: Training, machine: Machine) -> bool:
    """Whether this model's layers can multiply in FP8 here, faster or not.

    Only Unsloth's layers are compiled, and only compiled ones quantise what they read without reading it once more.
    """
    return machine.card.fp8 and machine.engine == "unsloth" and machine.dtype == "bfloat16" and bool(training.shape)


def examples_in_step(spec: RunSpec, rows: Rows) -> int:
    """The effective batch: from the spec, or from the dataset alone.

    Small for few examples, so that there are enough steps to learn; larger for many, until a step fills a GPU. Several
    GPUs share it evenly.
    """
    batch, accumulation = _fixed(spec.batch_size), _fixed(spec.gradient_accumulation_steps)
    if batch and accumulation:
        return batch * accumulation
    if told := _fixed(spec.step_examples):
        return told
    seen = rows.examples * spec.epochs
    sizes = [FEWEST * 2**n for n in range(8) if FEWEST * 2**n <= MOST]
    fitting = [size for size in sizes if seen / size >= STEPS_WANTED and size * rows.mean <= TOKENS_WANTED]
    chosen = max(fitting, default=FEWEST)
    unit = accumulation or (batch or 1) * spec.gpus
    return max(1, round(chosen / unit)) * unit


def steps_of(spec: RunSpec, rows: Rows) -> int:
    """Optimiser steps: those of an epoch, the last smaller one counted, times the epochs; or max_steps."""
    if spec.max_steps:
        return spec.max_steps
    return math.ceil(math.ceil(rows.examples / examples_in_step(spec, rows)) * spec.epochs)


def optimizer_of(training: Training, machine: Machine) -> str:
    """The optimiser by transformers' name. A run keeps its first one everywhere: checkpoints hold its moments."""
    spec = training.spec
    if not machine.card.gpu:
        return "adamw_torch"
    if spec.optimizer == "auto" and training.earlier:
        return training.earlier.optimizer
    wants_8bit = spec.optimizer == "adamw_8bit"
    if spec.optimizer == "auto":
        shape = training.shape
        wants_8bit = shape is None or memory.moments_are_large(_adapter(spec, shape), machine.total)
    return "adamw_8bit" if wants_8bit else "adamw_torch_fused"


def is_padding_free(training: Training, machine: Machine) -> bool:
    """Whether examples lie end to end. Unsloth keeps them apart by their lengths on a GPU, ftq on a CPU.

    On a GPU plain TRL masks the other examples' scores, which is slower than padding: it does so only if asked. A run
    that an earlier version began with padding goes on with it.
    """
    packing, gpu, earlier = training.spec.packing, machine.card.gpu, training.earlier
    if packing == "auto" and not gpu and earlier and not earlier.gpu:
        return earlier.padding_free and machine.keeps_apart
    if not gpu:
        return packing is not False and machine.keeps_apart
    return packing is True or (packing == "auto" and machine.engine == "unsloth")


def _pinned(training: Training, earlier: Plan) -> Training:
    """Put the earlier plan's choice wherever the spec leaves one open."""
    spec = training.spec
    kept = {name: getattr(earlier, name) for name in CHOSEN if getattr(spec, name) == "auto"}
    return replace(training, spec=spec.model_copy(update=kept))


def _bare(training: Training, machine: Machine) -> Plan:
    """What all plans of this training run have in common."""
    spec, steps = training.spec, steps_of(training.spec, training.rows)
    optimizer, padding_free = optimizer_of(training, machine), is_padding_free(training, machine)
    return Plan(machine.engine, machine.card.gpu, machine.dtype, optimizer, padding_free, gpus=spec.gpus, steps=steps)


def _plan_by_need(training: Training, machine: Machine) -> Plan:
    """The plan that needs least, for a model whose shape the formulas don't know."""
    spec, bare = training.spec, _bare(training, machine)
    batch = _fixed(spec.batch_size) or 1
    examples = examples_in_step(spec, training.rows)
    saving: bool | str = "unsloth" if bare.engine == "unsloth" else True
    return replace(
        bare,
        load_in_4bit=bare.gpu and spec.load_in_4bit is not False,
        gradient_checkpointing=saving if spec.gradient_checkpointing == "auto" else spec.gradient_checkpointing,
        batch_size=batch,
        gradient_accumulation_steps=_fixed(spec.gradient_accumulation_steps) or max(1, examples // batch),
        tokens=_tokens(training, batch, bare.padding_free),
    )


def _precisions(training: Training, machine: Machine) -> list[tuple[bool, bool]]:
    """(4 bit, FP8) for the base model's frozen layers: what the spec leaves open and this card can."""
    spec, gains = training.spec, bool(training.shape and training.shape.gaining)
    if not machine.card.gpu:
        return [(False, False)]
    four_bit = [False, True] if spec.load_in_4bit == "auto" else [spec.load_in_4bit]
    fp8 = [False, True] if spec.load_in_fp8 == "auto" and gains else [spec.load_in_fp8 is True]
    fp8 = fp8 if takes_fp8(training, machine) else [False]
    return [(four, eight) for four in four_bit for eight in fp8 if not (four and eight)]


def _recorded_where_faster(plan: Plan, training: Training, machine: Machine) -> Plan:
    """The plan with CUDA graphs, where steps can be recorded and that makes them faster; else as it is.

    They can where each is one batch on one GPU, computed the same way every time.
    """
    spec = training.spec
    single = plan.gradient_accumulation_steps == plan.gpus == 1 and not plan.gradient_checkpointing
    compiled = plan.gpu and plan.engine == "unsloth" and plan.dtype == "bfloat16" and plan.padding_free
    if not (spec.cuda_graphs and not spec.dropout and single and compiled):
        return plan
    recorded = _with_cost(replace(plan, cuda_graphs=True), training, machine)
    return recorded if recorded.step_seconds * RECORDED < plan.step_seconds else plan


def _batches(spec: RunSpec, effective: int) -> list[int]:
    """The micro-batches, the largest first, that the spec allows and the GPUs share evenly."""
    batch, accumulation = _fixed(spec.batch_size), _fixed(spec.gradient_accumulation_steps)
    if batch:
        return [batch]
    if accumulation:
        return [max(1, effective // accumulation)]
    share = max(1, effective // spec.gpus)
    return [size for size in range(share, 0, -1) if share % size == 0]


def _tokens(training: Training, batch: int, padding_free: bool) -> int:
    """Tokens of the largest micro-batch."""
    return (training.largest or training.rows.largest)(batch) if padding_free else batch * training.rows.longest


def _with_cost(plan: Plan, training: Training, machine: Machine) -> Plan:
    """The plan with its predicted peak and time, corrected by what earlier runs have shown."""
    spec, shape, rows, card = training.spec, training.shape, training.rows, machine.card
    assert shape
    adapter = _adapter(spec, shape)
    row = rows.mean if plan.padding_free else rows.filled(plan.batch_size, plan.examples_in_step)
    step = duration.step(shape, adapter, plan, plan.batch_size * row, rows.mean, card.flops or SOME_SPEED)
    peak = memory.peak(shape, adapter, plan, machine.spread_keys)
    kept = plan.tokens * memory.token_bytes(shape, plan, machine.spread_keys)
    return calibration.corrected(plan, card, step, peak, fills=2 * kept > peak)


def _adapter(spec: RunSpec, shape: Shape) -> int:
    """The number of its weights."""
    return shape.adapter(recipe_of(spec, shape.parameters).r, spec.target_modules)


def _fixed(value: int | str) -> int | None:
    """An option's number; None where the plan may choose."""
    return value if isinstance(value, int) else None
