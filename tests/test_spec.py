"""Options: declared once, checked at once, shown as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.options import options_from
from ftq.errors import NotFound, UserError
from ftq.plan import decide
from ftq.plan.card import GIB, Card, Machine
from ftq.plan.plan import Rows, Training
from ftq.spec.given import read_config
from ftq.spec.models import ALIASES, MODELS, layers_of
from ftq.spec.options import RunSpec, changed, options, parse, parse_assignment
from ftq.spec.shape import PROJECTIONS

PHI = ALIASES["phi-3.5-mini"].shape
DEFAULTS: dict[str, Any] = {
    "model": "m", "documents": "documents", "validation": "", "priority": "normal", "worker": "", "promote": "always",
    "valid_fraction": 0.05, "questions": "structure", "exposures": 12, "refusals": 0.03, "skip_rules": [], "topic": "",
    "format": "alpaca", "train_on_prompt": False, "max_seq_length": 2048, "strict": False,
    "gpus": 1, "engine": "auto", "epochs": 3, "max_steps": None, "learning_rate": "auto", "lr_scheduler": "linear",
    "warmup_ratio": 0.05, "weight_decay": 0.01, "batch_size": "auto", "gradient_accumulation_steps": "auto",
    "step_examples": "auto", "packing": "auto",
    "load_in_4bit": "auto", "load_in_fp8": False, "dtype": "auto", "r": "auto", "alpha": "auto", "dropout": 0.0,
    "word_dropout": "auto",
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "gradient_checkpointing": "auto", "cuda_graphs": True, "optimizer": "auto",
    "early_stopping": None, "keep_best": False,
    "eval_steps": "auto", "report_to": [], "dataset_num_proc": "auto", "seed": 3407,
    "save_steps": "auto", "epoch_adapters": 0, "logging_steps": "auto", "quantizations": ["q4_k_m"],
    "keep_merged": True, "imatrix": False, "lora_gguf": False,
    "prompts": ["What is this about?"], "infer_with": "gguf", "temperature": 0.0, "max_tokens": 256,
    "eval_questions": 60, "questions_file": "",
}  # fmt: skip


def test_the_defaults() -> None:
    assert parse({"model": "m"}).model_dump() == DEFAULTS


def test_a_recorded_spec_is_read_back_unchanged() -> None:
    recorded = parse({"model": "m", "packing": True, "save_steps": 5, "prompts": ["a, b"]}).model_dump()
    assert parse(recorded).model_dump() == recorded


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"epochs": "0.5"}, "epochs", 0.5),
        ({"max_steps": "none"}, "max_steps", None),
        ({"max_steps": "7"}, "max_steps", 7),
        ({"packing": "false"}, "packing", False),
        ({"packing": "auto"}, "packing", "auto"),
        ({"save_steps": "20"}, "save_steps", 20),
        ({"gradient_checkpointing": "unsloth"}, "gradient_checkpointing", "unsloth"),
        ({"batch_size": "4"}, "batch_size", 4),
        ({"batch_size": "auto"}, "batch_size", "auto"),
        ({"gradient_checkpointing": "true"}, "gradient_checkpointing", True),
        ({"early_stopping": "none"}, "early_stopping", None),
        ({"report_to": "wandb,trackio"}, "report_to", ["wandb", "trackio"]),
        ({"report_to": ""}, "report_to", []),
        ({"skip_rules": "B, N"}, "skip_rules", ["B", "N"]),
        ({"target_modules": "q_proj, v_proj,"}, "target_modules", ["q_proj", "v_proj"]),
        ({"quantizations": "q8_0,f16,q8_0"}, "quantizations", ["q8_0", "f16"]),
        ({"prompts": "One question, with a comma?"}, "prompts", ["One question, with a comma?"]),
    ],
)
def test_what_the_command_line_gives_as_text(given: dict[str, Any], name: str, value: Any) -> None:
    assert parse({"model": "m", **given}).model_dump() == {**DEFAULTS, name: value}


def test_every_problem_is_named_in_one_error() -> None:
    with pytest.raises(UserError) as caught:
        parse({"learningrate": 1, "epochs": 0, "batch_size": "two", "quantizations": "q4km", "save_steps": 0})
    assert (caught.value.kind, caught.value.hint) == ("user", "`ftq options` lists every option with its limits.")
    assert sorted(caught.value.message.splitlines()) == [
        "batch_size=two: expected integer 1 to 65536 or auto",
        "epochs=0: expected number over 0 to 1000",
        "model is missing: name one with --model (`ftq models` lists them) or in --config",
        "save_steps=0: expected integer 1 to 1000000000 or auto",
        "unknown option learningrate. Did you mean learning_rate?",
        "unknown quantisation q4km. Did you mean q4_k_m? Known: "
        "f16, bf16, q8_0, q6_k, q5_k_m, q5_k_s, q4_k_m, q4_k_s, q3_k_m, q3_k_l, q2_k",
    ]


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [("skip_rules", "b", "B"), ("lr_scheduler", "Cosine", "cosine"), ("report_to", "WandB", "wandb")],
)
def test_a_value_in_other_capitals_is_told_the_right_ones(name: str, value: str, meant: str) -> None:
    with pytest.raises(UserError) as caught:
        parse({"model": "m", name: value})
    assert caught.value.message.endswith(f". Did you mean {meant}?")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("valid_fraction", 0.6), ("max_seq_length", 63), ("learning_rate", 0), ("learning_rate", "nan"),
        ("warmup_ratio", 1), ("dropout", 1), ("r", 0), ("seed", -1), ("target_modules", ""), ("quantizations", []),
        ("batch_size", 0), ("gradient_accumulation_steps", -1), ("early_stopping", 0), ("eval_steps", 0),
        ("report_to", "clearml"), ("temperature", 2.1), ("max_tokens", 0), ("priority", "urgent"),
        ("batch_size", 65_537), ("gradient_accumulation_steps", 10**8), ("dataset_num_proc", 10**30),
        ("max_steps", 10**400), ("early_stopping", 10**30), ("save_steps", 10**30), ("packing", "perhaps"),
        ("model", ""), ("documents", ""), ("prompts", ["a\ud800"]), ("documents", "\udcff"), ("report_to", "\udcff"),
        ("target_modules", "q_proj,lm_head"), ("questions", "llama"), ("skip_rules", "B,X"), ("exposures", 0),
        ("refusals", 0.6), ("target_modules", ["embed_tokens"]),
    ],
)  # fmt: skip
def test_limits(name: str, value: Any) -> None:
    with pytest.raises(UserError) as caught:
        parse({"model": "m", name: value})
    assert {line.partition("=")[0] for line in caught.value.message.splitlines()} == {name}


def test_the_layers_of_a_checkpoint_are_those_of_its_weights(tmp_path: Path) -> None:
    """By the header of the one file or by the index; what another name stands for on the worker counts too."""
    names = [
        "model.embed_tokens.weight",
        "lm_head.weight",
        "model.norm.weight",
        "model.layers.0.input_norm.weight",
        "model.layers.0.attn.qkv_proj.weight",
        "model.layers.0.attn.qkv_proj.bias",
        "model.layers.1.mlp.dense.weight",
    ]
    layers = {"qkv_proj", "q_proj", "k_proj", "v_proj", "dense"}
    header = json.dumps({name: {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]} for name in names}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert layers_of(str(tmp_path)) == layers
    (tmp_path / "model.safetensors").rename(tmp_path / "a.safetensors")
    index = {"weight_map": dict.fromkeys(names, "a.safetensors")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert layers_of(str(tmp_path)) == layers
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    assert layers_of(str(tmp_path)) == layers_of("owner/unknown") == layers_of("/nowhere") == set()
    for model in MODELS:
        assert set(PROJECTIONS) <= layers_of(model.alias)


@pytest.mark.parametrize(
    ("accumulation", "gpus", "near"),
    [(1, 2, "2"), (3, 2, "2 or 4"), (10, 4, "8 or 12"), (4, 2, None), (3, 1, None), ("auto", 3, None)],
)
def test_several_gpus_do_as_many_micro_batches_each(accumulation: int | str, gpus: int, near: str | None) -> None:
    options = {"model": "m", "gpus": gpus, "gradient_accumulation_steps": accumulation}
    if near is None:
        assert parse(options).gradient_accumulation_steps == accumulation
        return
    with pytest.raises(UserError) as caught:
        parse(options)
    assert caught.value.message == (
        f"gradient_accumulation_steps={accumulation}: {gpus} GPUs can't share that out evenly: take {near}, or auto"
    )


@pytest.mark.parametrize(
    ("step", "batch", "accumulation", "gpus", "in_the_way"),
    [
        (6, 4, "auto", 1, "batch_size=4"), (4, 8, "auto", 1, "batch_size=8"), (8, 4, "auto", 4, "batch_size=4"),
        (6, "auto", 4, 1, "gradient_accumulation_steps=4"),
        (16, 2, 4, 1, "batch_size=2 and gradient_accumulation_steps=4"),
        (6, 3, "auto", 1, ""), (8, 2, "auto", 4, ""), (8, "auto", 4, 4, ""), (8, 2, 4, 2, ""), ("auto", 4, 3, 1, ""),
    ],
)  # fmt: skip
def test_a_step_is_made_of_its_batches(
    step: int | str, batch: int | str, accumulation: int | str, gpus: int, in_the_way: str
) -> None:
    options = {"model": "phi-3.5-mini", "gpus": gpus, "step_examples": step, "batch_size": batch,
               "gradient_accumulation_steps": accumulation}  # fmt: skip
    if in_the_way:
        with pytest.raises(UserError) as caught:
            parse(options)
        said = f"step_examples={step}: {in_the_way} can't make such steps with gpus={gpus}, leave one of them at auto"
        assert caught.value.message == said
        return
    machine = Machine(Card("H100", 80 * GIB, 5e14), "unsloth", "bfloat16", total=80 * GIB)
    plans = list(decide.plans(Training(parse(options), PHI, Rows(1000, 99_000, 400)), machine))
    assert {plan.examples_in_step for plan in plans} == {12 if step == "auto" else step}


def test_changed_shows_what_differs_from_the_defaults() -> None:
    asked = {"model": "m", "documents": "d", "epochs": 5, "packing": True, "prompts": ["a?", "b, c?"], "max_steps": 3}
    assert changed(parse(asked).model_dump()) == {
        "epochs": "5", "max_steps": "3", "packing": "true", "prompts": "a? | b, c?",
    }  # fmt: skip
    assert changed(DEFAULTS) == {}


def test_options_lists_each_option_with_default_limits_and_help() -> None:
    rows = {row["name"]: row for row in options()}
    assert list(rows) == list(DEFAULTS)
    assert all(row["help"] and row["allowed"] for row in rows.values())
    shown = {name: (rows[name]["default"], rows[name]["allowed"]) for name in rows}
    assert {
        name: shown[name]
        for name in ("model", "epochs", "warmup_ratio", "max_steps", "packing", "dtype", "quantizations")
    } == {
        "model": ("", "text"),
        "epochs": ("3", "number over 0 to 1000"),
        "warmup_ratio": ("0.05", "number 0 to under 1"),
        "max_steps": ("", "integer 1 to 1000000000"),
        "packing": ("auto", "true/false or auto"),
        "dtype": ("auto", "auto, bfloat16, float16, float32"),
        "quantizations": (
            "q4_k_m",
            "list of f16, bf16, q8_0, q6_k, q5_k_m, q5_k_s, q4_k_m, q4_k_s, q3_k_m, q3_k_l, q2_k",
        ),
    }


def test_every_default_that_is_shown_can_be_given() -> None:
    given = {row["name"]: row["default"] for row in options() if row["name"] != "model"}
    assert parse({"model": "m", **given}).model_dump() == DEFAULTS


def test_assignments() -> None:
    assert parse_assignment(" epochs = 5 ") == ("epochs", "5")
    assert parse_assignment("prompts=a=b") == ("prompts", "a=b")
    for text in ("epochs", "=5"):
        with pytest.raises(ValueError, match=rf"^--set {text}: expected key=value, for example --set epochs=5$"):
            parse_assignment(text)


def test_read_config(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: m\nepochs: 5\ntarget_modules: [q_proj]\n")
    assert read_config(path) == {"model": "m", "epochs": 5, "target_modules": ["q_proj"]}


MANY = "9" * 5000  # digits, more than Python reads


@pytest.mark.parametrize(
    ("value", "given", "expected"),
    [
        (MANY, f"{MANY[:200]}… (5,000 characters)", "integer 1 to 1000000000"),
        (f"-{MANY}", f"-{MANY[:199]}… (5,001 characters)", "integer 1 to 1000000000"),
        (f"0x{MANY}", f"0x{MANY[:198]}… (5,002 characters)", "integer 1 to 1000000000"),
        ("2020-13-45", "2020-13-45", "integer 1 to 1000000000"),
        ("1e999", "1e999", "integer 1 to 1000000000"),
        ("many", "many", "integer 1 to 1000000000"),
    ],
    ids=["digits", "negative", "hexadecimal", "date", "float", "word"],
)
def test_a_number_that_is_none_is_told_with_what_is_allowed(
    tmp_path: Path, value: str, given: str, expected: str
) -> None:
    """The same on the command line and in a file of either form: what Python says of it helps nobody."""
    path = tmp_path / "run.yaml"
    said = f"max_steps={given}: expected {expected}"
    ways: list[tuple[str, str]] = [("", said), (f"model: m\nmax_steps: {value}\n", f"{path}:2: {said}")]
    if value.lstrip("-").isdigit():
        ways.append((f'{{"model": "m",\n\n"max_steps": {value}}}', f"{path}:3: {said}"))
    for text, message in ways:
        path.write_text(text)
        with pytest.raises(UserError) as caught:
            parse(options_from(path, (), {}) if text else options_from(None, (f"max_steps={value}",), {"model": "m"}))
        assert (caught.value.message, caught.value.hint) == (
            message,
            "`ftq options` lists every option with its limits.",
        )


def test_an_option_that_stands_twice_in_a_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: m\nepochs: 5\nseed: 1\nepochs: 6\n")
    with pytest.raises(UserError, match=f"^{path}:4: epochs stands in {path}:2 already$"):
        options_from(path, (), {})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"lr": 1}, "unknown option lr. That is learning_rate."),
        ({"quant": "q8_0"}, "unknown option quant. That is quantizations."),
        ({"epoch": 1}, "unknown option epoch. Did you mean epochs?"),
        ({"priority": "urgent"}, "priority=urgent: expected high, normal, low"),
        ({"quantizations": "q4"}, "unknown quantisation q4. Did you mean q4_k_m? Known: f16, bf16, q8_0, q6_k, q5_k_m, "
         "q5_k_s, q4_k_m, q4_k_s, q3_k_m, q3_k_l, q2_k"),
    ],
)  # fmt: skip
def test_a_name_from_elsewhere_leads_to_ours(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as caught:
        parse({"model": "m", **given})
    assert caught.value.message == says


def test_an_integer_of_any_length_in_python_is_told_too() -> None:
    with pytest.raises(UserError, match=r"^seed=0x9+… \(5,002 characters\): expected integer 0 to 4294967295$"):
        RunSpec(model="m", seed=int(MANY, 16))


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"model: m\nepochs: [1\n", UserError, "{path}:3: not valid YAML (expected ',' or ']', but got "
         "'<stream end>')"),
        (b"epochs: !!python/object/apply:os.getcwd []\n", UserError, "{path}:1: not valid YAML (could not determine "
         "a constructor for the tag 'tag:yaml.org,2002:python/object/apply:os.getcwd')"),
        (b"model: m\n\tepochs: 5\n", UserError, "{path}:2: a tab, and YAML takes spaces only"),
        (b"- model\n", UserError, "{path}: expected options as `key: value` lines"),
        (b"", UserError, "{path}: expected options as `key: value` lines"),
        (b"model: \xff\n", UserError, "{path}: not UTF-8 text (invalid start byte at byte 7)"),
        (None, NotFound, "{path}: can't be read (No such file or directory)"),
    ],
)  # fmt: skip
def test_a_config_that_cannot_be_read(tmp_path: Path, content: bytes | None, kind: type, message: str) -> None:
    path = tmp_path / "run.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_config(path)
    assert (type(caught.value), caught.value.message) == (kind, message.format(path=path))
