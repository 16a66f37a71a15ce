"""Every auto decided: with a card that is told, never looked at."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from ftq.errors import Lost, UserError
from ftq.files.run_dir import RunDir
from ftq.plan.card import FIRST, GIB, RESUMED, Card, Correction, Start
from ftq.plan.plan import KEPT_BEFORE_TRAIN_JSON, Handover, Plan
from ftq.spec import models, recipe
from ftq.spec.options import parse
from tests.tiny import sealed
from tests.tools import instead_of_sleep
from worker.stages.engine import device
from worker.stages.train import plan

LENGTHS = [200 + 37 * n % 1800 for n in range(400)]
Decide = Callable[..., tuple[Plan, dict[str, Any]]]


class Heard:
    """A report that keeps what it is told."""

    def __init__(self) -> None:
        self.plans: list[dict[str, Any]] = []
        self.events: list[tuple[str, str]] = []

    def plan(self, message: str, **values: Any) -> None:
        self.plans.append({"message": message, **values})

    def event(self, kind: str, message: str, **_: Any) -> None:
        self.events.append((kind, message))


@pytest.fixture
def decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Decide:
    """decide(GiB, alias, gpu=..., **options) -> (plan, what was reported)."""
    import torch

    def config(alias: str, kind: str) -> dict[str, Any]:
        shape = models.ALIASES[alias].shape
        heads = shape.query // 128
        return {"model_type": kind, "num_hidden_layers": shape.layers, "hidden_size": shape.hidden,
                "vocab_size": shape.vocabulary, "intermediate_size": shape.intermediate,
                "num_attention_heads": heads, "head_dim": 128, "num_key_value_heads": shape.key // 128,
                "tie_word_embeddings": shape.tied}  # fmt: skip

    run = RunDir(tmp_path)
    run.dataset.mkdir()
    (run.dataset / "valid.jsonl").write_text("{}\n" * 20)

    def decide(gib: float, alias: str = "qwen3-8b", *, gpu: bool = True, model: dict[str, Any] | None = None,
               more: float = 1.0, total: float | None = None, later: tuple[float, ...] = (),
               kind: str = "llama", **options: Any) -> tuple[Plan, dict[str, Any]]:  # fmt: skip
        """`total`: GiB of the whole card, `gib` if nobody else holds any; `later`: GiB that are free at later looks."""
        report, looks = Heard(), [gib, *later]
        instead_of_sleep(monkeypatch, lambda _: looks.pop(0))
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (int(looks[0] * GIB), int((total or gib) * GIB)))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(torch.cuda, "set_device", lambda *_: None)
        monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *_: None)
        monkeypatch.setattr(plan, "choose_engine", lambda spec, report: "trl" if spec.engine == "trl" else "unsloth")
        monkeypatch.setattr(plan, "choose_dtype", lambda spec, gpu: "bfloat16" if gpu else "float32")
        name = "a card" if gpu else "CPU"
        monkeypatch.setattr(plan, "look_at_card", lambda gpu, dtype: Card(name, int(gib * GIB), 5e14))
        monkeypatch.setattr(
            plan.base_model, "read_config", lambda path: config(alias, kind) if model is None else model
        )
        weights = models.ALIASES[alias].shape.parameters
        monkeypatch.setattr(plan.weights, "parameters", lambda path: int(weights * more))
        spec = recipe.decided(parse({"model": alias, **options}), 8_000_000_000)
        decided = plan.decide(run, spec, tmp_path, LENGTHS, report)  # type: ignore[arg-type]
        told = report.plans[0] if report.plans else {}
        return decided, {**told, "events": report.events}

    return decide


def test_the_plan_that_is_reported_is_the_one_that_is_done(decide: Decide) -> None:
    done, told = decide(74)
    assert (done.load_in_4bit, done.padding_free, done.optimizer) == (False, True, "adamw_torch_fused")
    assert (done.engine, done.gpu) == ("unsloth", True)
    peak, seconds = done.derived
    rounded = replace(done, step_seconds=round(done.step_seconds, 6), derived=(peak, round(seconds, 6)))
    assert Plan.from_json(told) == rounded
    assert (told["card"], told["card_memory"], told["card_flops"], told["steps"]) == ("a card", 74 * GIB, 5e14, 150)
    predicted = told["predicted"]
    assert 0 < predicted["peak"] <= 74 * GIB
    assert predicted["seconds"] > told["steps"] * predicted["step_seconds"]  # evaluations and compiling on top
    assert told["message"].startswith("16-bit base, ")
    assert told["message"].endswith(
        f": {predicted['peak'] / GIB:.1f} of 74.0 GiB; rank 64, alpha 32, learning rate 0.0002"
    )


def test_a_run_keeps_its_optimizer_on_whatever_card_it_goes_on(decide: Decide) -> None:
    assert decide(74)[0].optimizer == "adamw_torch_fused"
    assert decide(11)[0].optimizer == "adamw_torch_fused"
    assert decide(11, optimizer="adamw_8bit")[0].optimizer == "adamw_8bit"


def test_on_a_cpu_a_run_keeps_its_type_whatever_is_faster_later(decide: Decide, tmp_path: Path) -> None:
    """A checkpoint of another type would be forgotten."""
    first, _ = decide(60, "smollm2-135m", gpu=False)
    handover = Handover.read(RunDir(tmp_path))
    replace(handover, plan=replace(first, dtype="bfloat16")).write(RunDir(tmp_path))
    assert (first.dtype, decide(60, "smollm2-135m", gpu=False)[0].dtype) == ("float32", "bfloat16")


def test_a_smaller_card_computes_otherwise_and_learns_the_same(decide: Decide, tmp_path: Path) -> None:
    plans = []
    for gib in (74, 16, 9):
        plans.append(decide(gib)[0])
        RunDir(tmp_path).train_json.unlink()
    assert len({found.examples_in_step for found in plans}) == 1
    assert [found.load_in_4bit for found in plans] == [False, True, True]


def test_an_earlier_attempt_s_plan_is_kept_where_it_fits(decide: Decide) -> None:
    first, _ = decide(9)
    assert decide(74)[0].way == first.way  # the same bits, though there is room for more now
    assert decide(74, load_in_4bit=False)[0].load_in_4bit is False  # what the spec fixes comes first


def test_a_run_that_an_earlier_version_began_keeps_its_plan_too(decide: Decide, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    first, _ = decide(9)
    run.train_json.unlink()
    kept = {name: asdict(first)[name] for name in KEPT_BEFORE_TRAIN_JSON}
    (run.checkpoints / "plan.json").write_text(json.dumps(kept))
    assert decide(74)[0].way == first.way
    run.train_json.unlink()
    (run.checkpoints / "plan.json").write_text("{half")
    assert not decide(74)[0].load_in_4bit


def test_an_earlier_plan_that_does_not_fit_any_more_is_made_anew(decide: Decide) -> None:
    first, _ = decide(74)
    second, _ = decide(9)
    assert second.load_in_4bit and not first.load_in_4bit
    assert second.examples_in_step == first.examples_in_step


def test_what_can_not_fit_is_refused_with_numbers(decide: Decide) -> None:
    with pytest.raises(UserError) as caught:
        decide(2, "phi-3-medium")
    assert caught.value.message.startswith("phi-3-medium can't be trained on a card: it needs ")
    assert caught.value.message.endswith(", 1.2 are usable")  # of 2 GiB, less what the driver and CUDA take


PHI = "phi-3-medium needs 10.5 GiB at least (4 bit, 1,993 tokens at once), of the 13.4 of a card are "
HOLDERS = "An export, an answer, another training run or a program beside ftq holds the rest: `nvidia-smi` shows them."


def test_memory_that_others_hold_for_a_moment_is_waited_for(decide: Decide) -> None:
    done, told = decide(2, "phi-3-medium", total=15, later=(3, 14))
    assert done.load_in_4bit
    assert told["message"].endswith(
        " of 13.2 GiB; rank 64, alpha 32, learning rate 0.0002"
    )  # of 14 that were free then
    assert told["events"] == [("note", f"{PHI}1.9 free now. Waiting up to 60 s for it")]


def test_memory_that_others_keep_is_a_loss_that_says_who_may_hold_it(
    decide: Decide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "PATIENCE", 0.0)
    with pytest.raises(Lost) as caught:
        decide(2, "phi-3-medium", total=15)
    assert (caught.value.message, caught.value.hint) == (f"{PHI}1.9 free now", HOLDERS)
    assert caught.value.kind == "lost"


def test_a_limit_that_the_user_has_set_is_the_whole_card(decide: Decide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTQ_MEMORY_GB", "4")
    with pytest.raises(UserError, match=r"phi-3-medium can't be trained on a card: .*, 3\.8 are usable"):
        decide(2, "phi-3-medium", total=80)


def test_a_machine_s_memory_is_waited_for_too(decide: Decide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "PATIENCE", 0.0)
    monkeypatch.setattr(device, "free_memory", lambda: int(0.5 * GIB))
    monkeypatch.setattr(device, "machine_memory", lambda: 60 * GIB)
    with pytest.raises(Lost, match=r"\(32 bit, .* of the 55\.5 of CPU are 0\.5 free now") as caught:
        decide(0.5, "smollm2-1.7b", gpu=False)
    assert caught.value.hint.endswith("`ps aux --sort=-rss` shows them.")


def test_what_earlier_trainings_have_shown_is_counted_in_and_said(decide: Decide, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    first, before = decide(74)
    known = Correction(first.measured_as, 0.8, 1.5, alike=True)
    Handover(corrections=(known,), plan=first).write(run)
    _, after = decide(74)
    assert after["predicted"]["corrected"] == {"peak": 0.8, "seconds": 1.5}
    assert after["predicted"]["peak"] == pytest.approx(before["predicted"]["peak"] * 0.8, abs=1)
    assert after["predicted"]["step_seconds"] == pytest.approx(before["predicted"]["step_seconds"] * 1.5, rel=1e-4)


def test_a_model_of_another_kind_gets_what_needs_least(decide: Decide) -> None:
    done, told = decide(74, model={"d_model": 768})
    assert (done.load_in_4bit, done.gradient_checkpointing, done.batch_size) == (True, "unsloth", 1)
    assert (done.examples_in_step, done.peak, "predicted" in told) == (8, 0, False)
    assert told["message"] == (
        "a model of another kind: the plan that needs least memory; rank 64, alpha 32, learning rate 0.0002"
    )


@pytest.mark.parametrize(("more", "known"), [(1.08, True), (1.3, False), (0.7, False)])
def test_a_model_with_other_weights_than_its_shape_has_is_one_of_another_kind(
    decide: Decide, more: float, known: bool
) -> None:
    _, told = decide(74, more=more)
    assert ("card" in told) == known


def test_whether_the_output_layer_is_one_more_is_seen_in_the_weights(decide: Decide) -> None:
    said, _ = decide(74, "gemma-2-2b")
    shape = models.ALIASES["gemma-2-2b"].shape
    config = {"num_hidden_layers": shape.layers, "hidden_size": shape.hidden, "vocab_size": shape.vocabulary,
              "intermediate_size": shape.intermediate, "num_attention_heads": 8, "num_key_value_heads": 4,
              "head_dim": 256}  # fmt: skip
    silent, _ = decide(74, "gemma-2-2b", model=config)  # as google/gemma-2-2b-it says it: by saying nothing
    assert silent.way == said.way


def test_on_a_cpu_nothing_is_quantised_or_in_8_bit_and_that_is_said(decide: Decide) -> None:
    done, told = decide(60, "smollm2-135m", gpu=False, optimizer="adamw_8bit", load_in_4bit=True)
    assert (done.gpu, done.dtype, done.optimizer) == (False, "float32", "adamw_torch")
    assert (done.padding_free, done.load_in_4bit) == (True, False)
    assert told["events"] == [
        ("warning", "load_in_4bit: only a GPU does that, the base is 32-bit"),
        ("warning", "optimizer=adamw_8bit: only a GPU does that, it is adamw_torch"),
    ]
    assert told["message"].startswith("32-bit base, 8 examples at once, without padding")


def test_what_a_gpu_follows_or_nobody_asked_for_is_no_event(decide: Decide) -> None:
    asked = {"optimizer": "adamw_8bit", "load_in_4bit": True}
    for _, told in (decide(60, "smollm2-135m", **asked), decide(60, "smollm2-135m", gpu=False, load_in_4bit=False)):
        assert told["events"] == []


def test_a_model_whose_attention_can_not_keep_examples_apart_is_padded_on_a_cpu(decide: Decide) -> None:
    done, told = decide(60, "smollm2-135m", gpu=False, packing=True, kind="gemma2")
    assert not done.padding_free
    assert told["events"] == [
        ("warning", "packing: on a CPU this model's attention can't keep examples apart, it is off")
    ]


def test_a_run_that_goes_on_is_predicted_to_begin_as_such(decide: Decide, tmp_path: Path) -> None:
    assert decide(74)[1]["predicted"]["began"] == FIRST
    sealed(RunDir(tmp_path), 1, 6)
    known = Start(decide(74)[0].measured_as, RESUMED, 4.5, here=True, alike="rows")
    Handover(starts=(known,)).write(RunDir(tmp_path))
    predicted = decide(74)[1]["predicted"]
    assert (predicted["began"], predicted["starting"]) == (RESUMED, 4.5)


@pytest.mark.parametrize("limit", ["0.5", "0.25"])
def test_the_memory_of_a_cpu_is_bounded_by_the_setting(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setenv("FTQ_MEMORY_GB", limit)
    card = device.look_at_card(False, "float32")
    assert card == replace(card, name="CPU", memory=int(float(limit) * GIB * 0.94))
    assert card.flops > 0
