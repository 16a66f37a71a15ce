"""A damaged copy of a base model is refused by submit, in words that say what is wrong and where."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftq.client.submit import validate
from ftq.errors import UserError
from ftq.spec import checkpoint, models
from tests.base_models import change, configure, shard, zeros
from tests.tiny import make_tiny_model

FIRST, SECOND = (f"model-0000{n}-of-00002.safetensors" for n in (1, 2))
EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("whole") / "model")


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def cut(name: str, size: int) -> Callable[[Path], None]:
    """`size` bytes of the file stay, or all but so many where it is below 0."""

    def harm(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:size])

    return harm


def filled(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(data) and None


def sharded(harm: Callable[[Path], Any]) -> Callable[[Path], None]:
    def both(folder: Path) -> None:
        shard(folder)
        harm(folder)

    return both


def without(*patterns: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        for path in [path for pattern in patterns for path in folder.glob(pattern)]:
            path.unlink()

    return harm


def sized(**values: Any) -> Callable[[Path], None]:
    return lambda folder: configure(folder, **values)


WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 269060552\n"
HTML = b"<!doctype html><title>Sign in</title>"
HUGE = (2**27).to_bytes(8, "little") + b" " * 4096
BART = {"architectures": ["BartForConditionalGeneration"], "is_encoder_decoder": True}
DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (cut(WEIGHTS, 0), f"{WEIGHTS}: not a whole safetensors file (it is empty)"),
    "four bytes": (cut(WEIGHTS, 4), "(it ends within its header)"),
    "half a header": (cut(WEIGHTS, 100), "(it ends within its header)"),
    "its header alone": (cut(WEIGHTS, 5000), "(its size does not fit its header: 5,000 bytes, not "),
    "without its last byte": (cut(WEIGHTS, -1), "(its size does not fit its header: "),
    "a pointer": (filled(WEIGHTS, POINTER), "(it is a pointer of Git LFS, which `git lfs pull` replaces"),
    "a page of HTML": (filled(WEIGHTS, HTML), "(it ends within its header)"),
    "no header": (filled(WEIGHTS, bytes(4096)), "not a whole safetensors file"),
    "an endless header": (filled(WEIGHTS, HUGE), "(it ends within its header)"),
    "a torn shard": (sharded(cut(SECOND, -7)), f"{SECOND}: not a whole safetensors file (its size"),
    "an empty shard": (sharded(cut(FIRST, 0)), f"{FIRST}: not a whole safetensors file (it is empty)"),
    "no shard of two": (sharded(without(SECOND)), f"{SECOND} is missing, which its index names"),
    "no shard at all": (sharded(without("model-*")), f"{FIRST} and 1 more of its 2 files is missing"),
    "a torn index": (sharded(cut(f"{WEIGHTS}.index.json", 40)), "index.json: not an index of weights"),
    "no weights": (without(WEIGHTS), "no *.safetensors weights in it"),
    "no tokenizer": (without("tokenizer*"), "no tokenizer in it (tokenizer.json or tokenizer.model)"),
    "half a tokenizer": (cut(TOKENIZER, 70_000), "its tokenizer.json can't be read as a JSON object"),
    "an empty tokenizer": (cut(TOKENIZER, 0), "its tokenizer.json can't be read as a JSON object"),
    "HTML as tokenizer": (filled(TOKENIZER, HTML), "its tokenizer.json can't be read as a JSON object"),
    "half a large tokenizer": (filled(TOKENIZER, b'{"a": "' + b"b" * 2**23), "its tokenizer.json can't be read"),
    "half a config": (cut("config.json", 60), "its config.json can't be read as a JSON object"),
    "no config": (without("config.json"), "no config.json in it"),
    "Bert": (sized(architectures=["BertModel"]), "its architecture is BertModel, which can't be trained by ftq"),
    "masked": (sized(architectures=["ModernBertForMaskedLM"]), "ModernBertForMaskedLM, which can't be trained by ftq"),
    "T5": (sized(architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True), "T5ForConditionalGeneration"),
    "Bart": (sized(**BART), "its architecture is BartForConditionalGeneration, which can't be trained"),
    "a classifier": (sized(architectures=["LlamaForSequenceClassification"]), "it needs a decoder such as LlamaFor"),
    "seeing": (sized(architectures=["ViTForImageClassification"]), "can't be trained by ftq"),
    "quantised": (sized(quantization_config={"bits": 4}), "an adapter can't be merged"),
    "another width": (sized(hidden_size=512), f"config.json says hidden_size 512, and {EMBEDDING} has 64 columns"),
    "another vocabulary": (sized(vocab_size=50000), f"says vocab_size 50000, and {EMBEDDING} has 49152 rows"),
    "layers too many": (sized(num_hidden_layers=3), "says num_hidden_layers 3, and the weights are of 2 layers"),
    "layers too few": (sized(num_hidden_layers=1), "says num_hidden_layers 1, and the weights are of 2 layers"),
    "another model's weights": (lambda m: change(m, **{EMBEDDING: zeros(1024, 64)}), "has 1024 rows"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_submit_refuses_a_damaged_copy_and_says_what_is_wrong(model: Path, tmp_path: Path, damage: str) -> None:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "a.md").write_text("# What is it?\n\nA test.\n")
    options = {"model": str(model), "documents": str(tmp_path / "documents")}
    assert validate(options, None, tmp_path / "home")[0]["model"] == str(model)
    harm, expected = DAMAGES[damage]
    harm(model)
    with pytest.raises(UserError) as caught:
        validate(options, None, tmp_path / "home")
    assert expected in caught.value.message and str(model) in caught.value.message and caught.value.hint


@pytest.mark.parametrize(
    "change",
    [
        sharded(lambda _: None),
        without("tokenizer_config.json", "generation_config.json", "chat_template.jinja"),
        sized(architectures=None),
        sized(architectures=["LlamaModel"]),
        sized(architectures=["GPT2LMHeadModel"]),
        sized(architectures=["Gemma3ForConditionalGeneration"], text_config={"hidden_size": 512}),
        sized(num_hidden_layers=1, num_nextn_predict_layers=1),  # the loader leaves such a layer out
        lambda folder: (folder / "pytorch_model.bin").write_bytes(b"beside"),
    ],
)
def test_what_prepare_may_accept_is_not_refused(model: Path, change: Callable[[Path], Any]) -> None:
    change(model)
    assert models.check(str(model)) == str(model)


@pytest.mark.slow
def test_no_architecture_that_loads_as_a_decoder_is_refused() -> None:
    """Of those that write: the loader's list has some more, which llama.cpp can't convert."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    given = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
    names = {name for one in given for name in ([one] if isinstance(one, str) else one)}
    refused = {name for name in names if not checkpoint._is_decoder(name)}
    assert {name for name in refused if not any(word in name.lower() for word in ("bert", "electra"))} == {
        "ReformerModelWithLMHead",
    }  # fmt: skip
