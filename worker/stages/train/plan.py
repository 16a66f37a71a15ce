"""Every `auto` decided, before the first step: by the machine, the model's shape and the dataset's lengths.

The formulas are ftq.plan.estimate's. What is learned depends on spec and dataset alone; the card decides only how a
step is computed.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from ftq.errors import Lost, UserError
from ftq.files.run_dir import RunDir, write_json
from ftq.plan import estimate
from ftq.plan.estimate import GIB, USABLE, Card, Correction, Plan, Rows, Shape, Wanted
from ftq.settings import memory_gb
from ftq.spec.options import RunSpec
from worker.machine.hardware import free_memory, machine_memory
from worker.stages.engine.setup import Setup, choose_dtype, choose_engine, takes_groups
from worker.stages.model import base_model
from worker.stages.process import ranks
from worker.stages.process.main import Report
from worker.stages.train.order import Order

LOOKED_THROUGH = 10_000  # rows, in whole epochs, among which the largest micro-batch is looked for
OFF = 0.1  # a model whose weights differ so much from its shape's isn't built as a Shape says
PATIENCE, LOOK = 60.0, 2.0  # seconds for memory that an export or an answer holds to come back; between two looks
# Bytes of a device that no training gets: a GPU's driver and the process's own CUDA context; a machine's system.
GPU_RESERVE, CPU_RESERVE = 0.75 * GIB, 1.0 * GIB
CHOSEN = ("batch_size", "gradient_accumulation_steps", "gradient_checkpointing", "load_in_4bit")


def decide(run: RunDir, spec: RunSpec, model_dir: Path, lengths: list[int], report: Report) -> Setup:
    """Imports the engine (Unsloth has to be imported before everything it patches) and looks at the machine.

    With several GPUs the first one's plan is everybody's.

    An earlier attempt's choice is kept where it still fits, so that a resumed training computes the same bits.
    """
    engine = choose_engine(spec, report)
    import torch

    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(ranks.current()[0])
        torch.cuda.set_per_process_memory_fraction(min(1.0, _limit() / torch.cuda.mem_get_info()[1]))
    dtype = choose_dtype(spec, gpu)
    shape = _shape(model_dir)
    optimizer = _optimizer(run, spec, shape, gpu)
    padding_free = _padding_free(spec, engine, gpu, report)
    bare = Setup(engine, gpu, dtype, optimizer, padding_free, False, False, 1, 1, spec.gpus)
    setup: Setup = ranks.share(_plan(run, spec, shape, lengths, bare, report) if ranks.is_first() else None)
    return setup


def _shape(model_dir: Path) -> Shape | None:
    """What config.json says, if the weights are about as many; whether the output layer is one more, they say."""
    said, there = Shape.from_config(base_model.read_config(model_dir)), base_model.parameters(model_dir)
    known = [replace(said, tied=tied) for tied in (True, False)] if said else []
    fitting = [shape for shape in known if abs(shape.parameters - there) <= OFF * there]
    return min(fitting, key=lambda shape: abs(shape.parameters - there), default=None)


def _plan(run: RunDir, spec: RunSpec, shape: Shape | None, lengths: list[int], bare: Setup, report: Report) -> Setup:
    card = replace(look_at_card(bare.gpu, bare.dtype), corrections=_known(run))
    rows = Rows.of(lengths)
    if shape is None:
        return _careful(spec, bare, rows, report)
    plan, card = _choose(shape, lengths, card, spec, bare, _earlier(run, spec), report)
    setup = replace(bare, load_in_4bit=plan.load_in_4bit, gradient_checkpointing=plan.checkpointing,
                    batch_size=plan.batch_size, gradient_accumulation_steps=plan.accumulation)  # fmt: skip
    _remember(run, setup)
    report.plan(
        describe(setup, plan, card), **asdict(setup), card=card.name, card_memory=card.memory, tokens=plan.tokens,
        steps=plan.steps, card_flops=card.flops,
        predicted=_predicted(run, spec, plan, _wanted(spec, bare), card, rows.examples),
    )  # fmt: skip
    return setup


def _known(run: RunDir) -> tuple[Correction, ...]:
    """What the store knows of earlier trainings on this kind of card; the supervisor laid it there."""
    if not run.corrections.is_file():
        return ()
    return tuple(Correction(**known) for known in json.loads(run.corrections.read_text(encoding="utf-8")))


def _predicted(run: RunDir, spec: RunSpec, plan: Plan, wanted: Wanted, card: Card, examples: int) -> dict[str, Any]:
    held_out = (run.dataset / "valid.jsonl").read_bytes().count(b"\n")
    every = None if spec.eval_steps == "auto" else int(spec.eval_steps)
    looks = estimate.evaluations(plan, examples, every)
    known = card.correction(wanted.engine, plan.load_in_4bit, plan.checkpointing)
    return {
        "peak": plan.peak, "step_seconds": round(plan.step_seconds, 6),
        "seconds": round(estimate.training_seconds(plan, wanted, card, held_out, looks), 1),
        "corrected": {"peak": known.peak, "seconds": known.seconds},
    }  # fmt: skip


def describe(setup: Setup, plan: Plan, card: Card) -> str:
    """One line for people: "16-bit base, 64 examples at once ...: 56.9 of 79 GiB"."""
    bits = "4-bit" if setup.load_in_4bit else "16-bit" if setup.dtype != "float32" else "32-bit"
    batch = f"{setup.batch_size} of {setup.examples} examples at once"
    if setup.batch_size == setup.examples:
        batch = f"{setup.examples} examples at once"
    padding = "without padding" if setup.padding_free else "padded"
    saving = "checkpointing" if setup.gradient_checkpointing else "no checkpointing"
    devices = f" on each of {setup.gpus} GPUs" if setup.gpus > 1 else ""
    return (f"{bits} base, {batch}{devices}, {padding} (up to {plan.tokens:,} tokens), {saving}: "
            f"{plan.peak / GIB:.1f} of {card.memory / GIB:.1f} GiB")  # fmt: skip


def look_at_card(gpu: bool, dtype: str) -> Card:
    """The device's free memory, bounded by FTQ_MEMORY_GB, and its speed by a few matrix products."""
    import torch

    free = _memory(gpu)[0]
    if not gpu:
        return Card("CPU", free, _flops("cpu", dtype, 1024))
    return Card(torch.cuda.get_device_name(), free, _flops("cuda", dtype, 4096))


def _memory(gpu: bool) -> tuple[int, int]:
    """(bytes that a training may use now, bytes that it might use with the device to itself)."""
    import torch

    free, total = torch.cuda.mem_get_info() if gpu else (free_memory(), machine_memory())
    whole = total - (GPU_RESERVE if gpu else CPU_RESERVE)
    return int(min(free, _limit()) * USABLE), int(max(0, min(whole, _limit())) * USABLE)


def _limit() -> float:
    """In bytes, what a training may take of a device that it shares."""
    return (memory_gb() or math.inf) * GIB


def _flops(device: str, dtype: str, size: int) -> float:
    """FLOP/s of a large matrix product on this very device, now."""
    import torch

    a = torch.randn(size, size, device=device).to(getattr(torch, dtype))
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    a @ a
    wait()
    rounds, began = (20 if device == "cuda" else 2), time.perf_counter()
    for _ in range(rounds):
        a @ a
    wait()
    return float(rounds * 2 * size**3 / (time.perf_counter() - began))


def _choose(
    shape: Shape, lengths: list[int], card: Card, spec: RunSpec, bare: Setup, earlier: dict[str, Any], report: Report
) -> tuple[Plan, Card]:
    """(the plan, the card as it was when the plan fitted).

    UserError for what the whole card is too small for; Lost where others hold too much of it, also after PATIENCE.
    """
    rows, wanted = Rows.of(lengths), _wanted(spec, bare)

    @cache
    def largest(batch: int) -> int:
        examples = estimate.examples_in_step(wanted, rows)
        order = Order(lengths, examples, batch, not bare.padding_free, spec.seed, lambda: 0)
        return order.largest(min(math.ceil(spec.epochs), max(1, LOOKED_THROUGH // len(lengths))))

    pinned = _wanted(spec.model_copy(update=earlier), bare)

    def fitting(card: Card) -> Plan | None:
        kept = estimate.choose(shape, rows, card, pinned, largest) if earlier else None
        return kept or estimate.worth_trying(shape, rows, card, wanted, largest)

    until, waited = time.monotonic() + PATIENCE, False
    while (plan := fitting(card)) is None:
        free, whole = _memory(bare.gpu)
        least = estimate.smallest(shape, rows, card, wanted, largest)
        if fitting(replace(card, memory=whole)) is None:
            raise _never_fits(spec, least, card, whole)
        error = _does_not_fit_now(spec, least, card, free, whole, bare.gpu)
        if time.monotonic() >= until:
            raise error
        if not waited:
            report.event("note", f"{error.message}. Waiting up to {PATIENCE:.0f} s for it")
            waited = True
        time.sleep(LOOK)
        card = replace(card, memory=_memory(bare.gpu)[0])
    return plan, card


def _never_fits(spec: RunSpec, least: Plan, card: Card, whole: int) -> UserError:
    return UserError(
        f"{spec.model} can't be trained on {card.name}: it needs {_least(least)}, {whole / GIB:.1f} are usable",
        "Take a smaller model, a smaller max_seq_length or r, load_in_4bit=true, or a larger GPU.",
    )


def _does_not_fit_now(spec: RunSpec, least: Plan, card: Card, free: int, whole: int, gpu: bool) -> Lost:
    show = "nvidia-smi" if gpu else "ps aux --sort=-rss"
    return Lost(
        f"{spec.model} needs {_least(least)}, of the {whole / GIB:.1f} of {card.name} are {free / GIB:.1f} free now",
        f"An export, an answer, another training or a program beside ftq holds the rest: `{show}` shows them.",
    )


def _least(plan: Plan) -> str:
    return f"{plan.peak / GIB:.1f} GiB at least ({4 if plan.load_in_4bit else 16} bit, {plan.tokens} tokens at once)"


def _wanted(spec: RunSpec, bare: Setup) -> Wanted:
    return Wanted.of(
        spec.model_dump(), engine=bare.engine, gpu=bare.gpu, padded=not bare.padding_free,
        adam_8bit=bare.optimizer == "adamw_8bit", bytes_a_number=4 if bare.dtype == "float32" else 2,
        spread_keys=bare.gpu and not takes_groups(),
    )  # fmt: skip


def _careful(spec: RunSpec, bare: Setup, rows: Rows, report: Report) -> Setup:
    """A model whose shape the formula doesn't know: what needs least."""
    wanted = _wanted(spec, bare)
    batch = wanted.batch_size or 1
    accumulation = wanted.accumulation or max(1, estimate.examples_in_step(wanted, rows) // batch)
    saving = "unsloth" if bare.engine == "unsloth" else True
    setup = replace(
        bare, load_in_4bit=bare.gpu if wanted.load_in_4bit is None else wanted.load_in_4bit, batch_size=batch,
        gradient_checkpointing=saving if wanted.checkpointing is None else wanted.checkpointing,
        gradient_accumulation_steps=accumulation,
    )  # fmt: skip
    report.plan("a model of another kind: the plan that needs least memory", **asdict(setup))
    return setup


def _optimizer(run: RunDir, spec: RunSpec, shape: Shape | None, gpu: bool) -> str:
    """transformers' name of it. A run keeps its first one wherever it goes on, for checkpoints hold its moments."""
    if not gpu:
        return "adamw_torch"
    kept = _remembered(run).get("optimizer") if spec.optimizer == "auto" else None
    if kept:
        return str(kept)
    import torch

    whole = Card("a GPU", int(min(torch.cuda.mem_get_info()[1], _limit())), 0.0)
    return "adamw_8bit" if estimate.takes_adam_8bit(spec.model_dump(), whole, shape) else "adamw_torch_fused"


def _earlier(run: RunDir, spec: RunSpec) -> dict[str, Any]:
    found = _remembered(run)
    return {name: found[name] for name in CHOSEN if name in found and getattr(spec, name) == "auto"}


def _remembered(run: RunDir) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((run.checkpoints / "plan.json").read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def _remember(run: RunDir, setup: Setup) -> None:
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    write_json(run.checkpoints / "plan.json", {name: getattr(setup, name) for name in (*CHOSEN, "optimizer")})


def _padding_free(spec: RunSpec, engine: str, gpu: bool, report: Report) -> bool:
    quick = gpu and engine == "unsloth"  # attention by lengths; plain TRL masks the other examples' scores
    if spec.packing is True and engine == "unsloth" and not gpu:
        report.event("warning", "packing: Unsloth keeps examples apart on a GPU only, it is off")
        return False
    return quick if spec.packing == "auto" else spec.packing
