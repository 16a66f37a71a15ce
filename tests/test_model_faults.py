"""No run succeeds with a model that isn't what was trained: prepare tries the base model's files, whatever its name."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftq.errors import FtqError, UserError
from ftq.files.export_report import GgufReport, Parity, Stops
from ftq.spec import models, weights
from ftq.spec.options import parse
from ftq.spec.weights import unread, weight_files
from tests.base_models import (
    FAMILIES,
    change,
    configure,
    make_families,
    make_pieces_model,
    shard,
    write_index,
    write_models,
    zeros,
)
from tests.test_prepare import Quiet
from tests.tiny import CONFIG, make_tiny_model
from worker.gguf.convert import convert
from worker.gguf.holds import held, whole
from worker.gguf.quantize import FTYPES, quantize
from worker.stages.export.measure import bounds
from worker.stages.model import base_model, merge, revisions
from worker.stages.model.check import convertible, tried
from worker.stages.model.check.finite import check_finite
from worker.stages.model.check.loads import check_loads
from worker.stages.model.tokens import Tokens
from worker.stages.prepare import prepare

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
NORM, QUERY = "model.norm.weight", "model.layers.1.self_attn.q_proj.weight"
END = "<end_of_turn>"


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_families(tmp_path_factory.mktemp("families"))


@pytest.fixture
def model(families: dict[str, Path], tmp_path: Path) -> Path:
    """An untied Llama of its own."""
    return copy(families["LlamaConfig"], tmp_path / "model")


def copy(model: Path, target: Path) -> Path:
    shutil.copytree(model, target)
    return target


def refusal(check: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        check()
    assert caught.value.hint
    return caught.value.message


# ---- weights ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("forks")
@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_family_saves_is_loaded_whole_in_one_file_or_in_shards(
    families: dict[str, Path], tmp_path: Path, name: str
) -> None:
    check_loads(families[name], name)
    sharded = copy(families[name], tmp_path / "sharded")
    shard(sharded)
    check_loads(sharded, name)
    assert weights.parameters(sharded) == weights.parameters(families[name])


def without(name: str) -> Callable[[Path], None]:
    return lambda model: change(model, without=name)


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no head": (without(HEAD), f"wants {HEAD}, and the files don't have it"),
    "no norm": (without(NORM), f"wants {NORM}, and the files don't have it"),
    "no embedding": (without(EMBEDDING), f"wants {EMBEDDING}, and the files don't have it"),
    "no layer": (without("layers.1."), "and 6 more, and the files don't have it"),
    "a layer too many": (lambda m: configure(m, num_hidden_layers=1), "has no place for model.layers.1."),
    "a layer too few": (lambda m: configure(m, num_hidden_layers=3), "wants model.layers.2."),
    "a padded vocabulary": (lambda m: configure(m, vocab_size=49216), f"{HEAD} [49152, 64], not [49216, 64]"),
    "a cut vocabulary": (lambda m: configure(m, vocab_size=49000), f"{HEAD} [49152, 64], not [49000, 64]"),
    "other heads": (lambda m: configure(m, num_attention_heads=8), "self_attn.o_proj.weight [64, 64], not [64, 128]"),
    "one more weight": (lambda m: change(m, **{"model.extra.weight": zeros(8, 8)}), "has no place for model.extra"),
    "tied, and two": (lambda m: configure(m, tie_word_embeddings=True), f"says that {HEAD} and {EMBEDDING} are one"),
    "64 bits": (lambda m: change(m, **{QUERY: zeros(64, 64, kind=np.float64)}), f"{QUERY} is stored as F64"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("forks")
@pytest.mark.parametrize("damage", DAMAGES)
def test_weights_that_are_not_the_models_are_named_before_any_training(model: Path, damage: str) -> None:
    harm, expected = DAMAGES[damage]
    harm(model)
    assert expected in refusal(lambda: check_loads(model, "mine"))


@pytest.mark.slow
@pytest.mark.usefixtures("forks")
@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("Phi3Config", "qkv_proj"),
        ("Qwen2Config", "q_proj.bias"),
        ("Qwen3Config", "q_norm"),
        ("Gemma2Config", "pre_feedforward"),
    ],
)
def test_what_only_one_family_has_is_missed_too(
    families: dict[str, Path], tmp_path: Path, name: str, lost: str
) -> None:
    model = copy(families[name], tmp_path / "model")
    change(model, without=f"layers.0.self_attn.{lost}" if "feed" not in lost else f"layers.0.{lost}")
    assert f"wants model.layers.0.{'' if 'feed' in lost else 'self_attn.'}{lost}" in refusal(
        lambda: check_loads(model, name)
    )


@pytest.mark.slow
@pytest.mark.usefixtures("forks")
def test_a_head_that_is_the_embedding_once_more_is_no_fault(families: dict[str, Path], tmp_path: Path) -> None:
    model = copy(families["Qwen2Config"], tmp_path / "model")
    held = {"embed": weights.read(model)[EMBEDDING]}
    from safetensors.numpy import load_file

    change(model, **{HEAD: load_file(model / "model.safetensors")[EMBEDDING]})
    assert weights.read(model)[HEAD].size == held["embed"].size
    check_loads(model, "mine")


def test_a_weight_in_two_shards_an_absent_one_and_a_torn_file_are_named(model: Path, tmp_path: Path) -> None:
    twice = copy(model, tmp_path / "twice")
    shard(twice, twice=NORM)
    expected = "model.norm.weight stands in model-00001-of-00002.safetensors and in model-00002-of-00002.safetensors"
    assert expected in refusal(lambda: weights.read(twice))
    absent = copy(model, tmp_path / "absent")
    write_index(absent, shard(absent) | {"model.gone.weight": "model-00001-of-00002.safetensors"})
    assert "by its index model.gone.weight is in model-00001-of-00002" in refusal(lambda: weights.read(absent))
    misplaced = copy(model, tmp_path / "misplaced")
    write_index(misplaced, dict(zip(sorted(index := shard(misplaced)), sorted(index.values()), strict=True)))
    assert len(weights.read(misplaced)) == len(index)  # the loader reads all files, whatever the index says of each
    for size in (4, 100, 5000):
        torn = copy(model, tmp_path / f"torn{size}")
        data = (torn / "model.safetensors").read_bytes()
        (torn / "model.safetensors").write_bytes(data[:size])
        assert "not a whole safetensors file" in refusal(lambda torn=torn: weights.read(torn))


@pytest.mark.parametrize("kind", ["F32", "BF16", "F16"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "0xFF"])
def test_a_number_that_is_none_is_found_wherever_it_stands(tmp_path: Path, kind: str, value: Any) -> None:
    import torch
    from safetensors.torch import save_file

    whole, wrong = torch.linspace(-1, 1, 3_000_001), torch.full((3_000_001,), torch.finfo(torch.float16).max)
    dtype = getattr(torch, weights.USABLE[kind])
    wrong = wrong.to(dtype)
    if value == "0xFF":
        wrong.view(torch.uint8)[-4096:] = 255
    else:
        wrong[-1] = value
    save_file({"a": whole.to(dtype), "b": whole.to(dtype, copy=True)}, tmp_path / "model.safetensors")
    check_finite(tmp_path, "mine")
    save_file({"a": whole.to(dtype), "b": wrong}, tmp_path / "model.safetensors")
    count = f"{4096 // wrong.itemsize:,}" if value == "0xFF" else "1"
    expected = f"model mine: {count} of the numbers of b are NaN or infinite (in model.safetensors)"
    assert refusal(lambda: check_finite(tmp_path, "mine")) == expected


@pytest.mark.slow
@pytest.mark.usefixtures("forks")
def test_what_only_the_loader_sees_is_told_in_its_words(model: Path) -> None:
    """The converter fails on it too, and blames its own file."""
    configure(model, num_attention_heads=8)
    said = refusal(lambda: convertible.check_convertible(model, "mine", "<|im_end|>"))
    assert "config.json says another shape than the files: model.layers.0.self_attn.o_proj" in said


def test_a_shape_that_its_bytes_do_not_hold_is_named(model: Path) -> None:
    file = model / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data.replace(b'"shape":[49152,64]', b'"shape":[49152,63]'))
    assert "has not the 3096576 numbers of its shape" in refusal(lambda: weights.read(model))


def test_one_rule_says_which_files_are_the_model(tmp_path: Path) -> None:
    """One file beside the shards of another model: training reads the one, and so does everything else."""
    model = make_tiny_model(tmp_path / "twin")
    alone = copy(model, tmp_path / "alone")
    other = copy(model, tmp_path / "other")
    change(other, **{NORM: zeros(64)})
    shard(other)
    for path in other.glob("model*"):
        shutil.copyfile(path, model / path.name)
    (model / "pytorch_model.bin").write_bytes(b"another form")
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert (unread(alone), unread(other), unread(model)) == ([], [], shards)
    report = Quiet()
    for folder in (alone, other, model):
        prepare._tell_unread(folder, "mine", report)
    assert report.messages("note") == [
        f"model mine: model.safetensors is loaded, and not {shards[0]} and 1 more beside it"
    ]
    assert [path.name for path in weights.paths(model)] == weight_files(model) == ["model.safetensors"]
    assert weights.parameters(model) == weights.parameters(alone)
    assert revisions.of(model) == revisions.of(alone)
    merge.copy_settings(model, tmp_path / "merged", "<|im_end|>")
    assert not list((tmp_path / "merged").glob("model*"))
    base_model.link(model, tmp_path / "linked")
    assert [path.name for path in sorted((tmp_path / "linked").glob("*model*"))] == ["model.safetensors"]
    for path in model.glob("model-0000*"):
        path.unlink()
    assert models.check(str(model)) == str(model)  # an index alone, of shards that aren't there, is nothing


# ---- the vocabulary --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pieces_model(tmp_path_factory.mktemp("pieces") / "plain")


@pytest.fixture(scope="module")
def turns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its stop token is a piece that is not special, as in Gemma's files."""
    folder = make_pieces_model(tmp_path_factory.mktemp("turns") / "turns", controls=("<start_of_turn>", END, "<think>"))
    template = "{% for m in messages %}<start_of_turn>{{ m['content'] }}<end_of_turn>\n{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("forks")
@pytest.mark.parametrize("kind", ["pieces alone", "tokenizer.json too", "no tokenizer_config.json"])
def test_a_sentencepiece_model_is_asked_by_the_tokens_of_its_training(pieces: Path, tmp_path: Path, kind: str) -> None:
    model = copy(pieces, tmp_path / "model")
    if kind != "pieces alone":
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(model).save_pretrained(model)
    if kind == "no tokenizer_config.json":
        (model / "tokenizer_config.json").unlink()
    assert convertible.check_convertible(model, "mine", "</s>").different == 0


@pytest.mark.slow
@pytest.mark.usefixtures("forks")
@pytest.mark.parametrize("format", ["alpaca", "chat"])
def test_no_text_is_a_control_token_where_none_is_flagged_special(turns: Path, tmp_path: Path, format: Any) -> None:
    tokens = Tokens(turns, format)
    said = f"It says {END} and <start_of_turn>, <think>."
    row, _ = tokens.row({"instruction": said, "input": said, "output": said}, END)
    end, start, think = (tokens.id_of(name) for name in (END, "<start_of_turn>", "<think>"))
    written = {"alpaca": [1, 0, 0], "chat": [3, 3, 0]}[format]
    assert [row.count(one) for one in (end, start, think) if one is not None][:3] == written
    assert convertible.check_convertible(turns, "mine", END, format).different == 0


@pytest.mark.slow
@pytest.mark.usefixtures("forks")
def test_a_tokenizer_of_another_model_is_refused_before_any_training(pieces: Path, turns: Path, tmp_path: Path) -> None:
    """tokenizer.model, which the converter reads, isn't what tokenizer.json says."""
    from transformers import AutoTokenizer

    model = copy(pieces, tmp_path / "model")
    AutoTokenizer.from_pretrained(model).save_pretrained(model)
    shutil.copyfile(turns / "tokenizer.model", model / "tokenizer.model")
    assert "prompts reach the model otherwise than it was trained" in refusal(
        lambda: convertible.check_convertible(model, "mine", "</s>")
    )


@pytest.mark.slow
@pytest.mark.usefixtures("forks")
@pytest.mark.parametrize(
    ("family", "name"), [("Gemma2Config", "mine"), ("Gemma2Config", "gemma-2-2b"), ("Phi3Config", "phi-3.5-mini")]
)
def test_a_model_is_tried_whatever_its_name(families: dict[str, Path], family: str, name: str) -> None:
    """The converters of these families want the SentencePiece model, and here there is none."""
    said = refusal(lambda: convertible.check_convertible(families[family], name, "<|im_end|>"))
    assert f"model {name} can't become a GGUF" in said and "tokenizer.model" in said


def test_a_hub_cache_without_its_sentencepiece_model_is_completed(
    pieces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, asked = "a" * 40, list[tuple[str, str]]()
    folder = tmp_path / "hub" / "models--owner--name"
    snapshot = copy(pieces, folder / "snapshots" / commit)
    (snapshot / "tokenizer.json").write_text(json.dumps({"model": {"byte_fallback": True}}))
    (snapshot / "tokenizer.model").unlink()
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert base_model.resolve("owner/name") == snapshot  # the hub is away: the converter says what it needs

    def download(hub_id: str, commit: str) -> Path:
        asked.append((hub_id, commit))
        shutil.copyfile(pieces / "tokenizer.model", snapshot / "tokenizer.model")
        return snapshot

    monkeypatch.setattr(base_model, "_download", download)
    assert base_model.resolve("owner/name") == base_model.resolve("owner/name", commit) == snapshot
    assert asked == [("owner/name", commit)]


def test_the_same_files_are_tried_once_and_others_again(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, asked = make_tiny_model(tmp_path / "tiny"), list[str]()

    def check(*given: Any) -> Parity:
        asked.append(given[1])
        return Parity(20, different_tokens=1, examples=("tokens in 'What?'",))

    monkeypatch.setattr(convertible, "check_convertible", check)
    first, again = (tried.once(model, "mine", "<|im_end|>", "alpaca") for _ in range(2))
    assert first == again and asked == ["mine"]
    configure(model, rms_norm_eps=1e-6)
    assert tried.once(model, "mine", "<|im_end|>", "alpaca") == first and len(asked) == 2
    for record in (cache / "tried").iterdir():
        record.write_text("{")  # torn
    assert tried.once(model, "mine", "<|im_end|>", "alpaca") == first and len(asked) == 3
    monkeypatch.setattr(convertible, "check_convertible", lambda *_: refuse())
    configure(model, rms_norm_eps=1e-5)
    for _ in range(2):
        assert refusal(lambda: tried.once(model, "mine", "<|im_end|>", "alpaca")) == "no"


def refuse() -> Parity:
    raise UserError("no", "Take another.")


# ---- rows that no type can shrink ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "kinds", "expected"),
    [
        ({"a": (64, 80), "b": (64, 112)}, ["q4_k_m", "q8_0"], "refused: 100%"),
        ({"a": (64, 80), "b": (64, 64)}, ["q2_k"], "refused: 56%"),
        ({"a": (64, 80), "b": (256, 96)}, ["f16", "q4_k_m"], "told: 17%"),
        ({"a": (64, 80), "b": (256, 96)}, ["q8_0"], "fails: q8_0"),
        ({"a": (64, 80), "b": (256, 96)}, ["q4_k_m", "q8_0", "f16"], "fails: q8_0"),
        ({"b": (256, 96), "lm_head.weight": (64, 80)}, ["q4_k_m"], "fails: q4_k_m"),
        ({"b": (256, 96), EMBEDDING: (64, 80)}, ["q6_k", "q8_0"], "fails: q6_k and q8_0"),
        ({EMBEDDING: (64, 80)}, ["f16"], ""),
        ({"a": (64, 80)}, ["f16", "bf16"], ""),
        ({"a": (64, 96), "b": (64, 576), "norm": (80,)}, ["q4_k_m"], ""),
    ],
)
def test_what_would_be_f16_under_another_name_is_refused(
    tmp_path: Path, rows: dict[str, tuple[int, ...]], kinds: list[str], expected: str
) -> None:
    from safetensors.numpy import save_file

    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    save_file({name: zeros(*shape) for name, shape in rows.items()}, tmp_path / "model.safetensors")
    report, spec = Quiet(), parse({"model": str(tmp_path), "documents": "d", "quantizations": kinds})
    if expected.startswith("refused"):
        said = refusal(lambda: prepare._check_rows(tmp_path, spec, report))
        assert (
            expected.split()[1] in said and "(a has rows of 80)" in said and " would be f16 under another name" in said
        )
        return
    if expected.startswith("fails"):
        said = refusal(lambda: prepare._check_rows(tmp_path, spec, report))
        assert said.endswith(f" has rows of 80): llama.cpp can't make {expected.removeprefix('fails: ')} of it")
        return
    prepare._check_rows(tmp_path, spec, report)
    told = report.messages("warning")
    assert [expected.split()[1] in line for line in told] == ([True] if expected else [])


WIDTHS = {"256": (256, 256), "96": (96, 96), "80": (80, 2048), "inner80": (64, 80)}  # of the model, of its MLP


@pytest.fixture(scope="module")
def f16(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A GGUF for each width of rows."""
    folder = tmp_path_factory.mktemp("widths")
    sizes = {
        name: {"hidden_size": width, "intermediate_size": middle, "head_dim": width // 4}
        for name, (width, middle) in WIDTHS.items()
    }
    write_models(folder, {name: ("LlamaConfig", more) for name, more in sizes.items()})
    tokenizer = make_tiny_model(folder / "tokenizer")
    for name in sizes:
        for path in tokenizer.glob("tokenizer*"):
            shutil.copyfile(path, folder / name / path.name)
        convert(folder / name, folder / f"{name}.gguf", "f16")
    return {name: folder / f"{name}.gguf" for name in sizes}


@pytest.mark.long
@pytest.mark.parametrize("kind", FTYPES)
def test_what_a_file_holds_is_told_for_every_type_and_width(f16: dict[str, Path], tmp_path: Path, kind: str) -> None:
    shares = dict[str, dict[str, float]]()
    for name, source in f16.items():
        if name == "80" or (name, kind) == ("inner80", "q8_0"):  # what prepare refuses
            with pytest.raises(FtqError, match="failed"):
                quantize(source, tmp_path / "small.gguf", kind)
            continue
        quantize(source, tmp_path / "small.gguf", kind)
        shares[name] = held(tmp_path / "small.gguf")
    assert whole(shares["256"]) == whole(shares["96"]) == 0
    assert kind == "q8_0" or 0 < whole(shares["inner80"]) < 0.01
    assert sum(shares["256"].values()) == pytest.approx(1, abs=0.001)
    wanted = kind.split("_")[0] + ("_0" if kind == "q8_0" else "_k")
    assert wanted in shares["256"], shares
    assert (wanted in shares["96"]) == (kind == "q8_0"), shares
    file = GgufReport("model.gguf", kind, 1, "ab", 2, Stops(20, 20, 20), holds={"f16": 1.0})
    assert "100% of its weights in 16 bit" in bounds.notes(file, None)[0] and file.held == "f16"
    assert bounds.notes(replace(file, holds=shares["96"]), None) == []


# ---- the first loss --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "vocabulary", "outcome"),
    [
        (4.5, 49152, "fine"),  # SmolLM2-135M
        (6.0, 32064, "fine"),
        (11.0, 49152, "told"),  # all random
        (11.2, 49152, "told"),  # a random output layer
        (12.3, 49152, "refused"),  # another model's vocabulary
        (13.8, 49152, "refused"),
        (12.9, 262144, "told"),
        (math.nan, 49152, "no number"),
        (math.inf, 49152, "no number"),
        (6.9, 1024, "told"),  # the models of these tests, which have to be trained
    ],
)
def test_a_base_model_that_only_guesses_is_told_and_a_worse_one_refused(
    loss: float, vocabulary: int, outcome: str
) -> None:
    from worker.stages.train import first_loss  # which imports transformers, and that takes seconds

    report = Quiet()
    if outcome == "no number":
        with pytest.raises(UserError, match=rf"base model's loss is {loss}: nothing was learned yet") as caught:
            first_loss.judge(loss, vocabulary, report)
        assert "not the learning rate" in caught.value.hint
        return
    if outcome == "refused":
        assert f"loss is {loss}: guessing" in refusal(lambda: first_loss.judge(loss, vocabulary, report))
        return
    first_loss.judge(loss, vocabulary, report)
    assert bool(report.messages("warning")) == (outcome == "told")
