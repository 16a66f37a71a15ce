"""What is computed on a CPU without padding: the losses and gradients of padded batches and PEFT's own layers."""

from __future__ import annotations

from typing import Any

import pytest

from ftq.plan.plan import Plan
from worker.stages.engine import processor, setup
from worker.stages.engine.processor import convert_less, keep_apart, keeps_apart

LENGTHS = [70, 9, 300, 31, 1, 2]  # one of them beyond what is seen in 32 bit whatever the model computes in
SIZES = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def adapted(kind: str, dtype: str) -> Any:
    """A small model of random weights with an adapter that isn't empty; always the same."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SIZES)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=getattr(torch, dtype))
    fused = kind == "phi3"
    targets = ["qkv_proj", "gate_up_proj", "down_proj"] if fused else ["q_proj", "k_proj", "o_proj", "up_proj"]
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=6, target_modules=targets), autocast_adapter_dtype=True)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.1)
    return model.train()


def learned(model: Any, padding_free: bool, dtype: str) -> tuple[float, dict[str, Any]]:
    """(loss, gradients) of the examples in one batch."""
    import torch
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    draw = torch.Generator().manual_seed(1)
    rows = [torch.randint(3, 97, (length,), generator=draw).tolist() for length in LENGTHS]
    collate = DataCollatorForLanguageModeling(0, padding_free=padding_free)
    batch = collate([{"input_ids": row, "labels": [-100] * (len(row) // 3) + row[len(row) // 3 :]} for row in rows])
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
        loss = model(**batch, use_cache=False).loss
    loss.backward()
    return loss.item(), {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize(
    ("kind", "dtype"), [*((kind, "float32") for kind in sorted(processor.PLAIN)), ("llama", "bfloat16")]
)
def test_the_same_is_learned_without_padding(kind: str, dtype: str) -> None:
    loss, gradients = learned(adapted(kind, dtype), False, dtype)
    model = adapted(kind, dtype)
    convert_less(model)
    keep_apart(model)
    ours, found = learned(model, True, dtype)
    near = 1e-5 if dtype == "float32" else 1e-2
    assert ours == pytest.approx(loss, rel=near)
    assert found.keys() == gradients.keys() and len(gradients) > 10
    for name, gradient in gradients.items():
        assert (found[name] - gradient).norm() <= 3 * near * gradient.norm(), name


def test_with_dropout_peft_s_own_layers_stay() -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    plain = torch.nn.Sequential(torch.nn.Linear(4, 4))
    model: Any = get_peft_model(plain, LoraConfig(r=2, target_modules=["0"], lora_dropout=0.1))  # type: ignore[arg-type]
    convert_less(model)
    assert not any("forward" in vars(part) for part in model.modules())


@pytest.mark.parametrize(
    ("config", "longest", "apart"),
    [
        ({"model_type": "llama"}, 2**20, True),
        ({"model_type": "gemma2", "sliding_window": None}, 8, False),
        ({"model_type": "mistral", "sliding_window": None}, 2**20, True),
        ({"model_type": "mistral"}, 4096, True),
        ({"model_type": "mistral"}, 4097, False),
        ({"model_type": "phi3", "sliding_window": 2047}, 2048, False),
        ({"model_type": "qwen3", "sliding_window": 128}, 2048, True),
        ({"model_type": "qwen2", "sliding_window": 128, "use_sliding_window": True}, 2048, False),
        ({"model_type": "mistral3", "text_config": {"model_type": "mistral", "sliding_window": None}}, 8, False),
    ],
)
def test_whose_examples_can_lie_end_to_end(config: dict[str, Any], longest: int, apart: bool) -> None:
    assert keeps_apart(config, longest) is apart


@pytest.mark.parametrize(("named", "faster", "expected"), [
    ("bfloat16", True, "bfloat16"), ("bfloat16", False, "float32"), ("float32", True, "float32"),
])  # fmt: skip
def test_16_bit_on_a_cpu_is_for_processors_on_which_it_is_measured_faster(
    monkeypatch: pytest.MonkeyPatch, named: str, faster: bool, expected: str
) -> None:
    from ftq.spec.options import parse

    speeds = {"float32": 1e11, "bfloat16": 3e11 if faster else 2e9}
    monkeypatch.setattr(setup, "cpu_dtype", lambda: named)
    monkeypatch.setattr(setup, "flops", lambda device, dtype, size: speeds[dtype])
    assert setup.choose_dtype(parse({"model": "m"}), False) == expected
    assert setup.choose_dtype(parse({"model": "m", "dtype": "bfloat16"}), False) == "bfloat16"


def test_a_plan_on_a_cpu_pads_where_it_is_told_to_and_where_the_run_began_so() -> None:
    from dataclasses import replace

    from ftq.plan.card import GIB, Card, Machine
    from ftq.plan.decide import decide
    from ftq.plan.plan import Rows, Training
    from ftq.spec import models
    from ftq.spec.options import parse

    cpu = Machine(Card("CPU", 16 * GIB, 1e11), "unsloth", "float32", 16 * GIB)
    shape, rows = models.ALIASES["smollm2-135m"].shape, Rows.of([50, 60, 500] * 40)

    def padded(machine: Machine = cpu, earlier: Plan | None = None, **options: Any) -> bool:
        plan = decide(Training(parse({"model": "m", "r": 8, **options}), shape, rows, earlier), machine)
        assert plan
        return not plan.padding_free

    began = Plan("unsloth", False, "float32")
    assert [padded(), padded(packing=True), padded(packing=False)] == [False, False, True]
    assert [padded(replace(cpu, engine="trl")), padded(replace(cpu, keeps_apart=False), packing=True)] == [False, True]
    assert [padded(earlier=began), padded(earlier=replace(began, padding_free=True))] == [True, False]
    assert padded(earlier=replace(began, gpu=True)) is False
