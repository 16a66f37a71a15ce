"""What to say of a model that fits no way to train: what it needs at least, and what would fit instead."""

from __future__ import annotations

from dataclasses import replace

from ftq.errors import UserError
from ftq.plan.card import GIB, Machine
from ftq.plan.decide import choose, smallest
from ftq.plan.plan import CHOSEN, Plan, Training
from ftq.spec import models
from ftq.spec.options import RunSpec
from ftq.spec.shape import Shape

SHORTEST = 256  # the smallest max_seq_length that is proposed


def refusal(training: Training, shape: Shape, machine: Machine) -> UserError:
    """What is needed at least, and what would fit instead."""
    message = too_large(training.spec, smallest(training, machine), machine)
    fitting = [_freer(training, machine), _shorter(training, machine), _smaller(training, shape, machine)]
    nearest = "; or ".join(text for text in fitting if text)
    return UserError(message, f"On it fits {nearest}." if nearest else "It needs a larger GPU.")


def too_large(spec: RunSpec, least: Plan, machine: Machine) -> str:
    """The sentence for a model that no plan fits on this card."""
    usable = f"{machine.card.memory / GIB:.1f} are usable"
    return f"{spec.model} can't be trained on {machine.card.name}: it needs {needs(least)}, {usable}"


def needs(plan: Plan) -> str:
    """What the smallest plan needs, for people."""
    return f"{plan.peak / GIB:.1f} GiB at least ({plan.bits} bit, {plan.tokens:,} tokens at once)"


def _freer(training: Training, machine: Machine) -> str:
    """The same with `auto` for what decides about memory."""
    spec = training.spec
    fixed = [name for name in CHOSEN if getattr(spec, name) not in ("auto", RunSpec.model_fields[name].default)]
    if not fixed:
        return ""
    free = spec.model_copy(update=dict.fromkeys(fixed, "auto"))
    plan = choose(replace(training, spec=free), machine)
    return f"{spec.model} with {', '.join(f'{name}=auto' for name in fixed)} ({_gib(plan.peak)} GiB)" if plan else ""


def _shorter(training: Training, machine: Machine) -> str:
    """The same with shorter rows."""
    rows = training.rows
    row = 2 ** (max(1, rows.longest - 1).bit_length() - 1)  # the next power of two below
    while row >= SHORTEST:
        plan = choose(replace(training, rows=replace(rows, longest=row)), machine)
        if plan:
            return f"max_seq_length={row} ({_gib(plan.peak)} GiB)"
        row //= 2
    return ""


def _smaller(training: Training, shape: Shape, machine: Machine) -> str:
    """The largest model of the catalogue that fits with the same options."""
    smaller = [model for model in models.MODELS if model.shape.parameters < shape.parameters]
    for model in sorted(smaller, key=lambda model: model.shape.parameters, reverse=True):
        if plan := choose(replace(training, shape=model.shape), machine):
            return f"{model.alias} ({_gib(plan.peak)} GiB)"
    return ""


def _gib(number: int) -> str:
    return f"{number / GIB:.1f}"
