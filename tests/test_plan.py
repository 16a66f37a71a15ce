"""The formulas: what they must do whatever their constants are."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ftq.files.run_dir import RunDir
from ftq.plan import calibration, decide, duration, memory
from ftq.plan.card import AGAIN, CARD, FIRST, GIB, OTHER_ROWS, RESUMED, USABLE, Card, Correction, Machine, Start, Way
from ftq.plan.plan import Handover, Plan, Rows, Training
from ftq.spec import models
from ftq.spec.options import RunSpec, parse
from ftq.spec.recipe import LARGEST
from ftq.spec.shape import PROJECTIONS, Shape

PHI = models.ALIASES["phi-3.5-mini"].shape
MEDIUM = models.ALIASES["phi-3-medium"].shape
ROWS = Rows.of([200 + 37 * n % 1800 for n in range(2000)])
H100 = Machine(Card("H100", 74 * GIB, 7e14), "unsloth", "bfloat16", 74 * GIB)
ADAPTER = PHI.adapter(64, PROJECTIONS)
ANY_PLAN = Plan("unsloth", True, "bfloat16", "adamw_8bit", True)


def asked(**options: Any) -> RunSpec:
    return parse({"model": "m", "optimizer": "adamw_8bit", **options})


def training(shape: Shape = PHI, rows: Rows = ROWS, **options: Any) -> Training:
    return Training(asked(**options), shape, rows)


def with_memory(gib: float) -> Machine:
    return replace(H100, card=replace(H100.card, memory=int(gib * GIB)))


def seen(*known: Correction) -> Machine:
    return replace(H100, card=replace(H100.card, corrections=known))


# ---- shapes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alias", "published"),
    [
        ("smollm2-135m", 134_515_008), ("smollm2-1.7b", 1_711_376_384), ("phi-3.5-mini", 3_821_079_552),
        ("phi-3-medium", 13_960_238_080), ("phi-4-mini", 3_836_021_760), ("qwen3-0.6b", 596_049_920),
        ("qwen3-4b", 4_022_468_096), ("qwen3-8b", 8_190_735_360), ("llama-3.2-3b", 3_212_749_824),
        ("llama-3.1-8b", 8_030_261_248), ("mistral-7b", 7_248_023_552), ("gemma-2-2b", 2_614_341_888),
    ],
)  # fmt: skip
def test_a_shape_has_all_weights_of_its_model_but_the_norms(alias: str, published: int) -> None:
    shape = models.ALIASES[alias].shape
    norms = published - shape.parameters
    assert 2 * shape.layers * shape.hidden <= norms <= (4 * shape.layers + 1) * shape.hidden + 256 * shape.layers


def test_a_shape_from_a_config() -> None:
    config: dict[str, Any] = {"num_hidden_layers": 28, "hidden_size": 1024, "intermediate_size": 3072, "head_dim": 128,
                              "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 151936,
                              "tie_word_embeddings": True}  # fmt: skip
    assert Shape.from_config(config) == Shape.from_config({"text_config": config}) == models.ALIASES["qwen3-0.6b"].shape
    otherwise: list[dict[str, Any]] = [
        {"num_local_experts": 8}, {"num_experts": 128, "num_experts_per_tok": 8}, {"n_routed_experts": 64},
        {"mamba_d_ssm": 1536}, {"ssm_cfg": {"d_state": 16}}, {"linear_num_key_heads": 16},
        {"layer_types": ["linear_attention", "full_attention"]}, {"layer_types": ["conv"]},
    ]  # fmt: skip
    assert [Shape.from_config({**config, **part}) for part in otherwise] == [None] * len(otherwise)
    dense = {"num_experts": None, "n_shared_experts": 1, "layer_types": ["sliding_attention", "full_attention"]}
    assert Shape.from_config({**config, **dense}) == Shape.from_config(config)
    assert Shape.from_config({"d_model": 768}) is None
    assert Shape.from_config({**config, "model_type": "phi3"}) == replace(
        models.ALIASES["qwen3-0.6b"].shape, fused=True
    )
    plain = {name: value for name, value in config.items() if name not in ("head_dim", "num_key_value_heads")}
    shape = Shape.from_config(plain)
    assert shape is not None and (shape.query, shape.key) == (1024, 1024)


def test_the_catalogue_counts_with_the_defaults() -> None:
    fields = RunSpec.model_fields
    assert (fields["target_modules"].default, fields["max_seq_length"].default) == (PROJECTIONS, memory.ROW)
    assert LARGEST.r == memory.RANK


# ---- the step: from spec and dataset alone ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("examples", "tokens", "expected"), [(50, 100, 8), (8000, 100, 16), (100_000, 100, 64), (100_000, 4000, 8)]
)
def test_more_examples_make_larger_steps_until_a_step_fills_a_gpu(examples: int, tokens: int, expected: int) -> None:
    rows = Rows(examples, examples * tokens, tokens)
    assert decide.examples_in_step(asked(), rows) == expected


@pytest.mark.parametrize(("wanted", "batches"), [(6, {1, 2, 3, 6}), (7, {1, 7})])
def test_a_step_has_as_many_examples_as_are_asked_for(wanted: int, batches: set[int]) -> None:
    made = list(decide.plans(training(step_examples=wanted), with_memory(24)))
    assert {(plan.examples_in_step, plan.batch_size) for plan in made} == {(wanted, batch) for batch in batches}


def test_the_card_decides_nothing_about_what_is_learned() -> None:
    sizes = {plan.examples_in_step for gib in (3, 8, 24, 80) for plan in decide.plans(training(), with_memory(gib))}
    assert sizes == {decide.examples_in_step(asked(), ROWS)}
    plans = [decide.choose(training(), with_memory(gib)) for gib in (6, 24, 74)]
    assert len({plan and (plan.examples_in_step, plan.steps) for plan in plans}) == 1


@pytest.mark.parametrize(("batch", "accumulation"), [(3, 5), (3, None), (None, 5), (16, 1)])
def test_what_the_spec_fixes_is_kept(batch: int | None, accumulation: int | None) -> None:
    options = {"batch_size": batch or "auto", "gradient_accumulation_steps": accumulation or "auto"}
    fixed = training(**options, load_in_4bit=True, gradient_checkpointing="unsloth")
    for plan in decide.plans(fixed, H100):
        assert batch in (None, plan.batch_size)
        assert accumulation in (None, plan.gradient_accumulation_steps)
        assert (plan.load_in_4bit, plan.gradient_checkpointing) == (True, "unsloth")
        assert plan.examples_in_step == plan.batch_size * plan.gradient_accumulation_steps


@pytest.mark.parametrize("gpus", range(1, 9))
@pytest.mark.parametrize("batch", [None, 3, 8])
@pytest.mark.parametrize("shares", [None, 1, 2])
def test_several_gpus_share_every_step_evenly(gpus: int, batch: int | None, shares: int | None) -> None:
    accumulation = shares * gpus if shares else "auto"
    spec = asked(gpus=gpus, batch_size=batch or "auto", gradient_accumulation_steps=accumulation)
    few = Rows(100, 20_000, 400, 50.0)
    for rows in (few, ROWS):
        plans = list(decide.plans(Training(spec, PHI, rows), H100))
        assert plans and all(plan.gradient_accumulation_steps % gpus == 0 for plan in plans)
        assert {plan.examples_in_step for plan in plans} == {decide.examples_in_step(spec, rows)}
    if batch is shares is None:
        expected = {3: 9, 5: 10, 6: 6, 7: 7}.get(gpus, 8)
        assert decide.examples_in_step(spec, few) == expected  # as near to 8 as they can share it


def test_what_they_can_not_share_is_no_plan() -> None:
    spec = asked(gpus=2, batch_size=8).model_copy(update={"gradient_accumulation_steps": 1})  # parse refuses it now
    assert not list(decide.plans(Training(spec, PHI, ROWS), H100))


def test_steps() -> None:
    eight = asked(batch_size=2, gradient_accumulation_steps=4)
    assert decide.steps_of(eight, Rows(17, 1700, 100)) == 9
    assert decide.steps_of(asked(max_steps=7), ROWS) == 7
    assert decide.steps_of(eight.model_copy(update={"epochs": 0.5}), Rows(16, 1600, 100)) == 1


# ---- memory -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("four_bit", [True, False])
@pytest.mark.parametrize("checkpointing", [False, True, "unsloth"])
@pytest.mark.parametrize("engine", ["unsloth", "trl"])
def test_memory_and_time_grow_with_the_tokens(four_bit: bool, checkpointing: bool | str, engine: str) -> None:
    plan = replace(ANY_PLAN, engine=engine, load_in_4bit=four_bit, gradient_checkpointing=checkpointing)
    peaks = [memory.peak(PHI, ADAPTER, replace(plan, tokens=tokens)) for tokens in (0, 1, 512, 2048, 16384)]
    assert all(less < more for less, more in pairwise(peaks))
    times = [duration.micro_batch(PHI, ADAPTER, plan, tokens, 500, 7e14).seconds() for tokens in (1024, 8192, 65536)]
    assert times[0] <= times[1] < times[2]


def test_4_bit_and_checkpointing_need_less_and_take_longer() -> None:
    modes = [(True, "unsloth"), (True, True), (True, False), (False, True), (False, False)]
    plans = [
        replace(ANY_PLAN, tokens=4096, load_in_4bit=four_bit, gradient_checkpointing=saving)
        for four_bit, saving in modes
    ]
    for shape in (PHI, MEDIUM):
        *peaks, sixteen, _ = [memory.peak(shape, ADAPTER, plan) for plan in plans]
        assert peaks == sorted(set(peaks)) and peaks[1] < sixteen
    times = [duration.micro_batch(PHI, ADAPTER, plan, 8192, 500, 7e14).seconds() for plan in plans]
    assert times[1] > times[-1]


def test_the_weights_alone_are_counted_exactly() -> None:
    sixteen = memory.peak(PHI, 0, ANY_PLAN) - memory.LIBRARIES
    assert sixteen == pytest.approx(2 * PHI.parameters, abs=1)
    four = memory.peak(PHI, 0, replace(ANY_PLAN, load_in_4bit=True)) - memory.LIBRARIES
    assert four == pytest.approx(memory.BYTES_4BIT * PHI.linear + 2 * PHI.embeddings, abs=1)


@pytest.mark.parametrize("batch", [1, 2, 8, 64])
def test_the_largest_batch_is_never_more_than_the_longest_row_allows(batch: int) -> None:
    assert ROWS.largest(batch) <= batch * ROWS.longest
    assert ROWS.largest(batch) >= max(ROWS.longest, int(batch * ROWS.mean))
    even = Rows.of([100] * 50)
    assert even.largest(batch) == 100 * batch
    assert Rows.of([]).largest(batch) == 0


@pytest.mark.parametrize("batch", [1, 2, 4, 8])
def test_padded_rows_are_about_as_long_as_their_order_makes_them(batch: int) -> None:
    lengths = [int(40 + 1600 * (n / 999) ** 3) for n in range(1000)]  # most are short
    steps = [sorted(random.Random(draw).sample(lengths, 8)) for draw in range(500)]
    filled = [step[end - 1] for step in steps for end in range(batch, 9, batch)]
    assert Rows.of(lengths).filled(batch, 8) == pytest.approx(sum(filled) / len(filled), rel=0.1)


# ---- the choice -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gib", [4, 5, 6, 8, 12, 16, 24, 40, 74])
def test_a_plan_fits_and_none_that_fits_is_much_quicker(gib: float) -> None:
    plan = decide.choose(training(), with_memory(gib))
    fitting = [one for one in decide.plans(training(), with_memory(gib)) if one.peak <= gib * GIB]
    assert (plan is None) == (not fitting)
    if plan:
        assert plan in fitting
        assert plan.step_seconds <= min(one.step_seconds for one in fitting) * 1.03


def test_more_memory_is_never_slower() -> None:
    plans = [decide.choose(training(), with_memory(gib)) for gib in (5, 6, 8, 12, 16, 24, 40, 74)]
    times = [plan.step_seconds for plan in plans if plan]
    assert len(times) >= 5
    assert all(more <= less * 1.03 for less, more in pairwise(times))


def test_phi_3_medium_trains_in_4_bit_on_24_gib_by_plan() -> None:
    usable = with_memory(24 * USABLE)
    plan = decide.choose(training(MEDIUM), usable)
    assert plan is not None
    assert plan.load_in_4bit and plan.peak <= usable.card.memory
    assert decide.choose(training(MEDIUM, load_in_4bit=False), usable) is None


def test_what_needs_least_is_what_is_named_when_nothing_fits() -> None:
    assert decide.choose(training(MEDIUM), with_memory(8)) is None
    least = decide.smallest(training(MEDIUM), with_memory(8))
    assert (least.load_in_4bit, least.gradient_checkpointing, least.batch_size) == (True, "unsloth", 1)


def test_a_plan_that_is_too_large_by_what_the_formula_may_be_wrong_is_tried() -> None:
    least = decide.smallest(training(), H100)
    near, far = (with_memory(least.peak / GIB / factor) for factor in (1.14, 1.16))
    assert (decide.decide(training(), near), decide.decide(training(), far)) == (least, None)


def test_a_plan_as_json_is_read_back_whatever_stands_beside_it() -> None:
    plan = decide.decide(training(), H100)
    assert plan is not None
    value = {**plan.to_json(), "card": "H100", "message": "m", "measured": {"peak": 1}}
    peak, seconds = plan.derived
    rounded = replace(plan, step_seconds=round(plan.step_seconds, 6), derived=(peak, round(seconds, 6)))
    assert Plan.from_json(value) == rounded and plan.derived == (plan.peak, plan.step_seconds)
    assert Plan.from_json(ANY_PLAN.to_json()) == ANY_PLAN
    assert "predicted" not in ANY_PLAN.to_json()


def test_what_is_handed_over_is_read_back_and_a_file_of_another_kind_is_none(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert Handover.read(run) == Handover()
    seen = Correction(WAY, 0.9, 1.1, CARD, True, here=True)
    known = Handover({"batch_size": 1}, (seen,), ANY_PLAN, (Start(WAY, FIRST, 9.0, alike="rows"),))
    known.write(run)
    assert Handover.read(run) == known
    for text in ("[]", "{half", '{"plan": {"batch_size": 1}}', '{"corrections": [{"of": "a later version"}]}'):
        run.train_json.write_text(text)
        assert Handover.read(run) == Handover()
    earlier = {"changes": {"batch_size": 1}, "plan": ANY_PLAN.to_json(), "starts": [{"engine": "trl", "began": FIRST}],
               "corrections": [{"engine": "trl", "load_in_4bit": False, "peak": 0.9}]}  # fmt: skip
    run.train_json.write_text(json.dumps(earlier))  # of a worker of an earlier version, which ended in the middle
    assert Handover.read(run) == Handover({"batch_size": 1}, plan=ANY_PLAN)


# ---- predictions and what became of them ------------------------------------------------------------------


def test_the_time_of_a_training() -> None:
    plan = decide.smallest(training(), H100)
    part = decide.smallest(training(epochs=0.5), H100)
    epoch = plan.steps // 3
    for looks, steps in {3: plan.steps, 1: part.steps, 2: epoch + 1, 10: 10 * epoch}.items():
        assert duration.evaluations(replace(plan, steps=steps), ROWS.examples, "auto") == looks
    ten = replace(plan, steps=10)  # max_steps=10, whatever epochs says
    assert duration.evaluations(ten, ROWS.examples, "auto") == 1
    assert duration.evaluations(replace(plan, steps=101), ROWS.examples, 10) == 11
    bare, looked = (duration.loop(plan, H100.card, training(), held_out) for held_out in (0, 100))
    assert (bare.steps, bare.evaluations) == (plan.steps * plan.step_seconds, 0)
    assert bare.seconds == bare.starting + bare.steps
    assert 0 < looked.evaluations < 300 * plan.step_seconds / plan.examples_in_step / 2  # forward: a part of a step


def test_a_part_of_an_epoch_begins_with_the_step_that_has_most_tokens() -> None:
    plan = decide.smallest(training(max_steps=10), H100)
    known = replace(training(), largest=lambda examples: round(1.5 * examples * ROWS.mean))
    tenth = replace(plan, steps=round(ROWS.examples / plan.examples_in_step / 10))
    assert duration.heavier(tenth, known) == pytest.approx(0.45, rel=0.01)
    assert duration.heavier(replace(plan, steps=10_000), known) == 0
    assert duration.heavier(replace(tenth, padding_free=False), known) == 0


WAY = Way("unsloth", True, True, False, "bfloat16", True)


def test_how_a_training_begins_is_known_by_what_its_worker_has_trained() -> None:
    def begins(*starts: Start) -> str:
        return replace(H100.card, starts=starts).begins(WAY)

    here = Start(WAY, FIRST, 40.0, here=True, alike="rows")
    assert begins() == FIRST
    assert begins(here) == AGAIN
    assert begins(replace(here, alike="model")) == OTHER_ROWS
    assert begins(replace(here, alike="")) == begins(replace(here, here=False)) == FIRST
    others = ({"load_in_4bit": False}, {"engine": "trl"}, {"load_in_fp8": True}, {"dtype": "float16"}, {"gpus": 2})
    assert {begins(replace(here, way=WAY._replace(**other))) for other in others} == {FIRST}


def test_the_start_is_what_this_training_took_before_else_what_others_and_a_guess_say() -> None:
    plan = decide.smallest(training(), H100)
    assert plan.measured_as == WAY

    def starting(*starts: Start, began: str = FIRST, plan: Plan = plan) -> float:
        return duration.starting_seconds(plan, replace(H100.card, starts=starts), began)

    def took(*seconds: float | None, here: bool = True, alike: str = "model", way: Way = WAY) -> list[Start]:
        return [Start(way, FIRST, each, here, alike) for each in seconds]

    guess = duration.STARTING_SECONDS
    assert starting(*took(50.0, None, 30.0, 42.0), *took(9.0, 9.0, 9.0, 9.0, here=False)) == 42.0
    assert starting(*took(1.0, 2.0, 3.0, 4.0, 5.0, 99.0, 99.0, 99.0)) == 3.0  # the newest
    assert starting(*took(50.0), *took(9.0, 9.0, alike="", way=WAY._replace(load_in_fp8=True))) == 50.0
    # Of others the guess is one: a small model's start, or one in FP8, is not this one's.
    assert starting(*took(None), *took(10.0, here=False)) == (guess[FIRST] + 10.0) / 2
    assert starting(*took(10.0, 12.0, alike=""), *took(90.0, 90.0, here=False)) == 12.0
    assert starting(*took(42.0), began=AGAIN) == 1.2 * guess[AGAIN]  # what is longer than usual once, is so again
    assert guess[AGAIN] < guess[OTHER_ROWS] < guess[FIRST]
    on_cpu = replace(plan, gpu=False)
    assert starting(plan=on_cpu) == starting(plan=replace(plan, engine="trl")) == duration.SOON
    assert starting(*took(9.0), began=AGAIN, plan=on_cpu) == 9.0  # nothing is compiled: all are alike
    resumed = duration.loop(plan, H100.card, training(), 0, resumes=True)
    assert (resumed.began, resumed.starting) == (RESUMED, guess[RESUMED])


@pytest.mark.parametrize(
    ("alias", "gib", "option", "expected"),
    [
        ("phi-3.5-mini", 80, "auto", False), ("phi-3.5-mini", 24, "auto", False), ("phi-3.5-mini", 8, "auto", True),
        ("phi-3-medium", 24, "auto", True), ("phi-3.5-mini", 80, "adamw_8bit", True),
        ("phi-3.5-mini", 8, "adamw_torch", False),
    ],
)  # fmt: skip
def test_moments_in_8_bit_where_they_would_take_a_large_part_of_the_card(
    alias: str, gib: float, option: str, expected: bool
) -> None:
    machine = replace(H100, total=int(gib * GIB))
    known = training(models.ALIASES[alias].shape, optimizer=option)
    assert decide.optimizer_of(known, machine) == ("adamw_8bit" if expected else "adamw_torch_fused")
    cpu = replace(machine, card=replace(H100.card, name="CPU"))
    assert decide.optimizer_of(known, cpu) == "adamw_torch"
    another_kind = replace(known, shape=None)
    assert (decide.optimizer_of(another_kind, machine) == "adamw_8bit") is (option != "adamw_torch")


def test_of_two_plans_about_as_quick_the_one_that_rounds_nothing() -> None:
    fixed = training(batch_size=64, gradient_accumulation_steps=1, gradient_checkpointing="unsloth")
    sixteen, four = decide.plans(fixed, H100)
    assert sixteen.step_seconds < four.step_seconds * decide.EXACT and four.peak < sixteen.peak
    assert decide.choose(fixed, H100) == sixteen


def test_4_bit_is_never_taken_for_its_speed_where_16_bit_has_room_for_the_same_batches() -> None:
    """Whatever other runs on this card have shown: a correction is of another model, or of batches of another size."""
    ways = [(four_bit, saving) for four_bit in (False, True) for saving in (False, True)]
    quick = seen(
        *(
            Correction(WAY._replace(load_in_4bit=four_bit, checkpointing=saving), seconds=0.5, bound=CARD, here=True)
            for four_bit, saving in ways
            if four_bit
        )
    )
    plan = decide.choose(training(), quick)
    assert plan and not plan.load_in_4bit
    small = replace(quick, card=replace(quick.card, memory=10 * GIB))
    plan = decide.choose(training(), small)
    assert plan and plan.load_in_4bit


@pytest.mark.parametrize(
    "other",
    [{"gradient_accumulation_steps": 2}, {"gpus": 2, "gradient_accumulation_steps": 2}, {"dropout": 0.1},
     {"gradient_checkpointing": "unsloth"}, {"packing": False}, {"cuda_graphs": False}],
)  # fmt: skip
def test_steps_are_recorded_that_are_one_batch_on_one_gpu(other: dict[str, Any]) -> None:
    small = models.ALIASES["smollm2-135m"].shape
    few = {"gradient_accumulation_steps": 1, "batch_size": 8, "max_steps": 5000}
    plan = decide.choose(training(small, **few), H100)
    assert plan and plan.cuda_graphs
    less = decide.choose(training(small, **few | other), H100)
    assert less and not less.cuda_graphs
    for machine in (replace(H100, engine="trl"), replace(H100, dtype="float16")):
        elsewhere = decide.choose(training(small, **few), machine)
        assert elsewhere and not elsewhere.cuda_graphs


@pytest.mark.parametrize("few", [{"batch_size": 64}, {"batch_size": 8, "max_steps": 50}])
def test_steps_are_not_recorded_that_would_be_no_faster(few: dict[str, Any]) -> None:
    """By a large step's card, or in a run that ends before most sizes are recorded; a recording takes its memory."""
    plan = decide.choose(training(gradient_accumulation_steps=1, **few), H100)
    assert plan and not plan.cuda_graphs


def test_what_shares_its_kernels_is_what_decides_how_it_begins() -> None:
    plan = replace(ANY_PLAN, batch_size=8, gradient_accumulation_steps=1)
    same = ({"batch_size": 64}, {"gradient_accumulation_steps": 4}, {"optimizer": "adamw_torch_fused"},
            {"cuda_graphs": True}, {"steps": 9, "tokens": 9})  # fmt: skip
    assert all(replace(plan, **one).compiled_as == plan.compiled_as for one in same)
    other = ({"load_in_4bit": True}, {"load_in_fp8": True}, {"gradient_checkpointing": "unsloth"}, {"gpus": 2},
             {"dtype": "float16"}, {"padding_free": False}, {"engine": "trl"})  # fmt: skip
    assert not any(replace(plan, **one).compiled_as == plan.compiled_as for one in other)
    padded = replace(plan, padding_free=False)
    assert replace(padded, batch_size=64).compiled_as != padded.compiled_as


def test_the_longer_a_run_the_less_its_small_steps_wait_for_the_host() -> None:
    """SmolLM2-135M, 8 examples a step: the host starts a layer's kernels more slowly than an H100 runs them."""
    shape = models.ALIASES["smollm2-135m"].shape
    short, long = (decide.choose(training(shape, step_examples=8, max_steps=steps), H100) for steps in (50, 5000))
    usual = decide.choose(training(shape, step_examples=8, max_steps=5000, cuda_graphs=False), H100)
    assert short and long and usual
    assert long.step_seconds < short.step_seconds == usual.step_seconds


def test_keys_that_are_copied_for_each_query_head_take_memory() -> None:
    llama = models.ALIASES["llama-3.1-8b"].shape
    more = memory.token_bytes(llama, ANY_PLAN, spread_keys=True) - memory.token_bytes(llama, ANY_PLAN)
    assert more == llama.layers * 2 * 2 * llama.query
    assert memory.token_bytes(PHI, ANY_PLAN, True) == memory.token_bytes(PHI, ANY_PLAN)  # as many as queries


@pytest.mark.parametrize(("dtype", "grew"), [("bfloat16", 0.867), ("float32", 1.329)])
def test_a_small_model_needs_what_its_process_grew_by(dtype: str, grew: float) -> None:
    """GiB that were measured: SmolLM2-135M on a CPU, rank 32, 475 tokens at once (benchmarks/README.md)."""
    small = models.ALIASES["smollm2-135m"].shape
    plan = Plan("unsloth", False, dtype, padding_free=True, tokens=475)
    assert memory.peak(small, small.adapter(32, PROJECTIONS), plan) / GIB == pytest.approx(grew, rel=0.1)


PLAN: dict[str, Any] = {
    "engine": "unsloth", "load_in_4bit": True, "gradient_checkpointing": "unsloth", "steps": 100,
    "predicted": {"peak": 1000, "seconds": 60.0, "step_seconds": 0.5, "corrected": {"peak": 1.0, "seconds": 1.0}},
    "measured": {"peak": 900, "seconds": 70.0, "steps": 100, "step_seconds": 0.6, "tokens_per_second": 5.0},
}  # fmt: skip


def changed(part: str, **values: Any) -> dict[str, Any]:
    return {**PLAN, part: {**PLAN[part], **values}}


def test_measured_over_predicted() -> None:
    known = Correction(Way("unsloth", True, True), 0.9, 1.2)
    assert calibration.correction(PLAN) == known
    before = changed("predicted", corrected={"peak": 1.5, "seconds": 0.5})
    assert calibration.correction(before) == replace(known, peak=1.35, seconds=0.6)
    assert calibration.correction(changed("measured", peak=None)) == replace(known, peak=None)
    assert calibration.correction(changed("measured", steps=3)) == replace(known, seconds=None)
    wild = changed("measured", peak=100_000, step_seconds=0.01)
    assert calibration.correction(wild) == replace(known, peak=2.0, seconds=0.5)
    for nothing in (None, {}, {"message": "m"}, {**PLAN, "measured": None}, changed("measured", peak=None, steps=1)):
        assert calibration.correction(nothing) is None


def test_how_earlier_trainings_began_and_what_that_took() -> None:
    told = {**PLAN, "worker": "w", "model": "m", "documents_hash": "d"}
    again = {**told, "predicted": {**PLAN["predicted"], "began": AGAIN}, "measured": {"starting": 7.5}}
    records = [
        again,
        told,
        {**told, "worker": "v", "documents_hash": "e"},
        {**told, "model": "n"},
        None,
        {"message": "m"},
    ]
    way = Way("unsloth", True, True)
    assert calibration.starts(records, "w", "m", "d") == (
        Start(way, AGAIN, 7.5, here=True, alike="rows"),
        Start(way, FIRST, None, here=True, alike="rows"),
        Start(way, FIRST, None, here=False, alike="model"),
        Start(way, FIRST, None, here=True, alike=""),
    )
    assert [start.here for start in calibration.starts([told, {**PLAN}], "", "m", None)] == [False, False]
    assert calibration.starts([told], "w", "m", None)[0].alike == "model"


def test_a_plan_compared() -> None:
    assert calibration.compare(PLAN) == {
        "peak": {"predicted": 1000, "measured": 900, "error": -0.1},
        "seconds": {"predicted": 60.0, "measured": 70.0, "error": 0.1667},
    }
    resumed = changed("measured", steps=40, seconds=36.0, peak=None)
    assert calibration.compare(resumed) == {"seconds": {"predicted": 24.0, "measured": 36.0, "error": 0.5}}
    started = {**resumed, "predicted": {**PLAN["predicted"], "starting": 10.0}}
    assert calibration.compare(started) == {"seconds": {"predicted": 30.0, "measured": 36.0, "error": 0.2}}
    for nothing in (None, {}, {"message": "m"}, {**PLAN, "measured": None}):
        assert calibration.compare(nothing) == {}
