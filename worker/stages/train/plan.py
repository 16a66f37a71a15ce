"""The plan of this run, made before its first step: ftq.plan.decide with what the machine and the rows really are."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from ftq.errors import Lost, UserError, in_line
from ftq.files.run_dir import RunDir
from ftq.plan import calibration
from ftq.plan import decide as choice
from ftq.plan.card import GIB, Card, Machine
from ftq.plan.decide import examples_in_step
from ftq.plan.duration import loop
from ftq.plan.least import needs, too_large
from ftq.plan.plan import Handover, Plan, Rows, Training, not_followed
from ftq.spec import weights
from ftq.spec.options import RunSpec
from ftq.spec.recipe import Recipe
from ftq.spec.shape import Shape
from worker.stages.engine import processor
from worker.stages.engine.device import limit, look_at_card, total_memory, usable_memory
from worker.stages.engine.setup import choose_dtype, choose_engine, takes_groups
from worker.stages.model import base_model
from worker.stages.process import ranks
from worker.stages.process.main import Report
from worker.stages.train import checkpoints
from worker.stages.train.order import Order

LOOKED_THROUGH = 10_000  # rows, in whole epochs, among which the largest micro-batch is looked for
OFF = 0.1  # a model whose weights differ so much from its shape's isn't built as a Shape says
PATIENCE, LOOK = 60.0, 2.0  # seconds for memory that an export or an answer holds to come back; between two looks


def decide(run: RunDir, spec: RunSpec, model_dir: Path, lengths: list[int], report: Report) -> Plan:
    """Decide every `auto`, report the plan, and leave it in train.json for the attempts to come.

    Imports the engine, for Unsloth has to be imported before everything that it patches. With several GPUs rank 0
    decides for all. UserError for what this machine is too small for; Lost where others hold too much of it.
    """
    engine = choose_engine(spec, report)
    import torch

    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(ranks.current()[0])
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit() / torch.cuda.mem_get_info()[1]))
    plan = _plan(run, spec, model_dir, lengths, engine, gpu, report) if ranks.is_first() else None
    shared: Plan = ranks.share(plan)
    return shared


def _plan(
    run: RunDir, spec: RunSpec, model_dir: Path, lengths: list[int], engine: str, gpu: bool, report: Report
) -> Plan:
    apart = gpu or processor.keeps_apart(base_model.read_config(model_dir), spec.max_seq_length)
    if spec.packing is True and not apart:
        report.event("warning", "packing: on a CPU this model's attention can't keep examples apart, it is off")
    handover = Handover.read(run)
    dtype = _dtype(spec, gpu, handover.plan)
    card = replace(look_at_card(gpu, dtype), corrections=handover.corrections, starts=handover.starts)
    machine = Machine(card, engine, dtype, total_memory(gpu), gpu and not takes_groups(), apart)
    shape = _shape(model_dir)
    training = Training(spec, shape, Rows.of(lengths), handover.plan, _largest_of(spec, lengths))
    if spec.load_in_fp8 is True and not choice.takes_fp8(training, machine):
        report.event("warning", f"load_in_fp8: {_lacking_for_fp8(machine, shape)}: it is off")
    plan, card = _wait_for_room(training, machine, report)
    for said in not_followed(spec, plan):
        report.event("warning", said)
    replace(handover, plan=plan).write(run)
    recipe = Recipe.of(spec)
    if shape is None:
        report.plan(f"a model of another kind: the plan that needs least memory; {recipe}", **plan.to_json())
        return plan
    held_out = (run.dataset / "valid.jsonl").read_bytes().count(b"\n")
    expected = loop(plan, card, training, held_out, bool(checkpoints.find_all(run)))
    report.plan(f"{describe(plan, card)}; {recipe}", **calibration.record(plan, card, expected))
    return plan


def _lacking_for_fp8(machine: Machine, shape: Shape | None) -> str:
    if not machine.card.gpu:
        return "a CPU has no such products"
    if machine.engine != "unsloth" or shape is None:
        return "only models that Unsloth compiles gain by it"
    from worker.stages.engine import fp8

    return f"{machine.card.name} can't ({fp8.lacking(machine.dtype)})"


def _dtype(spec: RunSpec, gpu: bool, earlier: Plan | None) -> str:
    """The compute type; on a CPU that of the attempt before, whose checkpoint is of no use to another type.

    What is faster there is measured, and another processor, or this one at other work, may say otherwise.
    """
    if not gpu and earlier and not earlier.gpu and earlier.dtype:
        return earlier.dtype
    return choose_dtype(spec, gpu)


def _shape(model_dir: Path) -> Shape | None:
    """What config.json says, if the weights are about as many; whether the output layer is one more, they say."""
    said, there = Shape.from_config(base_model.read_config(model_dir)), weights.parameters(model_dir)
    known = [replace(said, tied=tied) for tied in (True, False)] if said else []
    fitting = [shape for shape in known if abs(shape.parameters - there) <= OFF * there]
    return min(fitting, key=lambda shape: abs(shape.parameters - there), default=None)


def _largest_of(spec: RunSpec, lengths: list[int]) -> Callable[[int], int]:
    """Examples of a micro-batch -> tokens that the largest one will hold, in the order in which they come."""

    @cache
    def largest(batch: int) -> int:
        order = Order(lengths, examples_in_step(spec, Rows.of(lengths)), batch, False, spec.seed, lambda: 0)
        return order.largest(min(math.ceil(spec.epochs), max(1, LOOKED_THROUGH // len(lengths))))

    return largest


def _wait_for_room(training: Training, machine: Machine, report: Report) -> tuple[Plan, Card]:
    """(the plan, the card as it was when the plan fitted). What others hold of the card is waited for, up to PATIENCE.

    UserError for what the whole card is too small for; Lost where others still hold too much of it.
    """
    until, waited = time.monotonic() + PATIENCE, False
    while (plan := choice.decide(training, machine)) is None:
        free, whole = usable_memory(machine.card.gpu)
        alone = replace(machine, card=replace(machine.card, memory=whole))
        least = choice.smallest(training, machine)
        if choice.decide(training, alone) is None:
            raise UserError(
                too_large(training.spec, least, alone),
                "Take a smaller model, a smaller max_seq_length or r, load_in_4bit=true, or a larger GPU.",
            )
        error = _does_not_fit_now(training.spec, least, alone.card, free)
        if time.monotonic() >= until:
            raise error
        if not waited:
            report.event("note", in_line(error.message, f"Waiting up to {PATIENCE:.0f} s for it"))
            waited = True
        time.sleep(LOOK)
        machine = replace(machine, card=replace(machine.card, memory=usable_memory(machine.card.gpu)[0]))
    return plan, machine.card


def _does_not_fit_now(spec: RunSpec, least: Plan, whole: Card, free: int) -> Lost:
    show = "nvidia-smi" if whole.gpu else "ps aux --sort=-rss"
    return Lost(
        f"{spec.model} needs {needs(least)}, of the {whole.memory / GIB:.1f} of {whole.name} are "
        f"{free / GIB:.1f} free now",
        f"An export, an answer, another training run or a program beside ftq holds the rest: `{show}` shows them.",
    )


def describe(plan: Plan, card: Card) -> str:
    """One line for people: "16-bit base, 64 examples at once ...: 56.9 of 79 GiB"."""
    batch = f"{plan.batch_size} of {plan.examples_in_step} examples at once"
    if plan.batch_size == plan.examples_in_step:
        batch = f"{plan.batch_size} examples at once"
    if not plan.gpu and plan.batch_size < plan.examples_in_step:
        batch += " (on a CPU more are no faster, whatever the memory)"
    devices = f" on each of {plan.gpus} GPUs" if plan.gpus > 1 else ""
    padding = "without padding" if plan.padding_free else "padded"
    saving = "checkpointing" if plan.gradient_checkpointing else "no checkpointing"
    way = f"{plan.base} base, {batch}{devices}, {padding} (up to {plan.tokens:,} tokens), {saving}"
    return f"{way}: {plan.peak / GIB:.1f} of {card.memory / GIB:.1f} GiB"
