"""Frozen layers in FP8: what a product loses, which layers it takes, and when a plan chooses it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ftq.errors import UserError
from ftq.plan import decide, memory
from ftq.plan.card import CARD, GIB, Card, Correction, Factors, Machine, parse_card
from ftq.plan.plan import Plan, Rows, Training
from ftq.spec import models
from ftq.spec.options import parse
from ftq.spec.shape import LEAST_IN_FP8

HOPPER = Machine(Card("H100", 74 * GIB, 7e14, fp8=True), "unsloth", "bfloat16", 74 * GIB)
MANY = Rows.of([100 + 37 * n % 300 for n in range(20_000)])
FEW = Rows.of([100 + 37 * n % 300 for n in range(300)])


# ---- the products -----------------------------------------------------------------------------------------


def test_a_product_and_its_gradient_lose_what_a_few_bits_lose() -> None:
    import torch

    from worker.stages.engine.fp8 import Fp8Linear

    torch.manual_seed(0)
    linear = torch.nn.Linear(64, 96, bias=True).requires_grad_(False)
    scales = torch.logspace(-3, 3, 40)[:, None]  # rows of very different size: each has a scale of its own
    x = (torch.randn(2, 20, 64) * scales.view(2, 20, 1)).requires_grad_()
    exact, narrow = linear(x), Fp8Linear(linear)(x)
    assert narrow.shape == exact.shape and 0 < _off(narrow, exact) < 0.05
    seen = torch.randn_like(exact)
    [gradient] = torch.autograd.grad(narrow, x, seen)
    [wanted] = torch.autograd.grad(exact, x, seen)
    assert 0 < _off(gradient, wanted) < 0.05


def _off(found: Any, exact: Any) -> float:
    """The largest relative error of a row."""
    return float(((found - exact).norm(dim=-1) / exact.norm(dim=-1)).max().detach())


def test_what_has_no_such_products_says_what_is_lacking() -> None:
    from worker.stages.engine.fp8 import lacking

    assert lacking("float16") == "it computes in float16"


def test_a_row_of_zeros_stays_one() -> None:
    import torch

    from worker.stages.engine.fp8 import quantize

    narrow, scale = quantize(torch.zeros(3, 16))
    assert (narrow.float() * scale).tolist() == torch.zeros(3, 16).tolist()


def test_the_adapters_learn_nearly_the_same_and_are_all_that_is_kept() -> None:
    import torch

    from worker.stages.engine.fp8 import Fp8Linear, narrow

    model, tokens = _adapted(), torch.arange(60).view(2, 30) % 97
    kept = {name: value.clone() for name, value in model.state_dict().items() if "lora" in name}
    loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    exact = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    assert narrow(model) == 0  # none is large enough to gain
    assert narrow(model, every=True) == 2 * 3 and narrow(model, every=True) == 0
    in_fp8 = model(input_ids=tokens, labels=tokens).loss
    in_fp8.backward()
    assert 0 < abs(in_fp8.item() - loss.item()) < 0.01 * loss.item()
    learned = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    assert learned.keys() == exact.keys() == kept.keys()
    for name, gradient in learned.items():
        assert _off(gradient.flatten(), exact[name].flatten()) < 0.1, name
    state = model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in kept.items())
    narrowed = [part for part in model.modules() if isinstance(part, Fp8Linear)]
    assert {part.weight.dtype for part in narrowed} == {torch.float8_e4m3fn}


def test_layers_of_odd_size_and_those_that_learn_stay_as_they_are() -> None:
    import torch

    from worker.stages.engine.fp8 import narrow

    model = _adapted(intermediate_size=40)  # no multiple of 16
    model.base_model.model.model.layers[0].self_attn.q_proj.base_layer.weight.requires_grad_(True)
    assert narrow(model, every=True) == 1  # the other layer's query
    assert {value.dtype for value in model.parameters()} == {torch.float32}


def _adapted(**sizes: int) -> Any:
    """A small model of random weights, with an adapter that isn't empty on three modules of its two layers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model("llama", **{
        "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, **sizes,
    })  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "up_proj", "down_proj"]))
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.1)
    return model


# ---- the plan ---------------------------------------------------------------------------------------------


def chosen(machine: Machine = HOPPER, alias: str = "phi-3.5-mini", rows: Rows = MANY, **options: Any) -> Plan:
    spec = parse({"model": alias, "load_in_fp8": "auto", **options})
    plan = decide.decide(Training(spec, models.ALIASES[alias].shape, rows), machine)
    assert plan
    return plan


def test_where_it_is_faster_the_base_is_in_fp8_at_the_memory_of_16_bit() -> None:
    plan, exact = chosen(), chosen(load_in_fp8=False)
    assert (plan.load_in_fp8, plan.load_in_4bit, plan.base) == (True, False, "FP8")
    assert (exact.load_in_fp8, exact.base) == (False, "16-bit")
    assert plan.peak == exact.peak and plan.step_seconds < exact.step_seconds


@pytest.mark.parametrize(
    "machine",
    [
        replace(HOPPER, card=replace(HOPPER.card, fp8=False)),
        replace(HOPPER, engine="trl"),
        replace(HOPPER, dtype="float16"),
        Machine(Card("CPU", 60 * GIB, 1e11), "unsloth", "float32", 60 * GIB),
    ],
)
def test_what_can_not_multiply_in_fp8_trains_as_before(machine: Machine) -> None:
    assert not chosen(machine).load_in_fp8
    assert chosen(machine, load_in_fp8=True).way == chosen(machine).way


def test_models_and_steps_too_small_to_gain_stay_in_16_bit_unless_it_is_asked_for() -> None:
    assert not chosen(alias="smollm2-135m").load_in_fp8
    assert not chosen(rows=FEW).load_in_fp8  # 8 examples a step: the card waits for the host
    assert chosen(alias="smollm2-135m", load_in_fp8=True).load_in_fp8
    assert chosen(rows=FEW, load_in_fp8=True).load_in_fp8


def test_a_card_too_small_for_it_takes_4_bit() -> None:
    small = replace(HOPPER, card=replace(HOPPER.card, memory=6 * GIB), total=6 * GIB)
    assert (chosen(small).load_in_fp8, chosen(small).load_in_4bit) == (False, True)


def test_both_at_once_are_refused() -> None:
    with pytest.raises(UserError, match=r"load_in_fp8.*can't be in 4 bit and in FP8"):
        parse({"model": "m", "load_in_4bit": True, "load_in_fp8": True})
    assert chosen(load_in_4bit=True).load_in_fp8 is False


def test_a_resumed_run_keeps_its_base_where_the_card_can() -> None:
    shape = models.ALIASES["phi-3.5-mini"].shape
    for first in (chosen(), chosen(load_in_fp8=False)):
        again = decide.decide(
            Training(parse({"model": "m", "load_in_fp8": "auto"}), shape, MANY, earlier=first), HOPPER
        )
        assert again and again.way == first.way
    without = replace(HOPPER, card=replace(HOPPER.card, fp8=False))
    moved = decide.decide(
        Training(parse({"model": "m", "load_in_fp8": "auto"}), shape, MANY, earlier=chosen()), without
    )
    assert moved and moved.way == {**chosen().way, "load_in_fp8": False}
    smaller = parse({"model": "m", "load_in_4bit": True, "load_in_fp8": "auto"})  # as after a lack of memory
    reduced = decide.decide(Training(smaller, shape, MANY, earlier=chosen()), HOPPER)
    assert reduced and (reduced.load_in_4bit, reduced.load_in_fp8) == (True, False)


def test_what_was_learned_of_one_precision_corrects_not_the_memory_of_another() -> None:
    plan = chosen()
    known = Correction(replace(plan, load_in_fp8=False).measured_as, 1.5, 1.2, CARD, True, alike=True)
    card = replace(HOPPER.card, corrections=(known,))
    assert card.factors(known.way, played=False, fills=True) == Factors(1.5, 1.2, 1.0)
    assert card.factors(plan.measured_as, played=False, fills=True) == Factors(1.0, 1.2, 1.0)


def test_the_layers_that_gain_are_counted_as_the_model_has_them() -> None:
    phi, llama = models.ALIASES["phi-3.5-mini"].shape, models.ALIASES["llama-3.1-8b"].shape
    assert phi.gaining == phi.linear
    assert llama.linear - llama.gaining == llama.layers * 2 * llama.hidden * llama.key  # key and value
    assert models.ALIASES["smollm2-135m"].shape.gaining == 0
    small = replace(phi, fused=False, hidden=2048, query=2048, key=2048)
    assert small.gaining == small.layers * 3 * small.hidden * small.intermediate
    assert small.hidden * small.query < LEAST_IN_FP8


def test_the_memory_of_fp8_is_that_of_two_bytes_a_weight() -> None:
    plan, shape = chosen(), models.ALIASES["phi-3.5-mini"].shape
    assert memory.peak(shape, 0, plan) == memory.peak(shape, 0, replace(plan, load_in_fp8=False))


def test_a_card_s_name_tells_whether_it_has_fp8() -> None:
    has = {name: parse_card(name).fp8 for name in ("H100", "RTX 4090", "L4", "B200", "A100", "RTX 3090", "T4", "24")}
    assert [name for name, fp8 in has.items() if fp8] == ["H100", "RTX 4090", "L4", "B200"]
