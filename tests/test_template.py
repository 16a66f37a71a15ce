"""The training text in the base model's own chat template, and that no text becomes a control token."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftq.errors import UserError
from ftq.examples import json_records
from ftq.examples.prompt import CHAT_TEMPLATE, OLLAMA_TEMPLATE
from ftq.examples.report import DatasetReport
from ftq.spec.options import parse
from tests import go_template
from tests.chat_models import FAMILIES, GEMMA, LLAMA, QWEN3, Family, make_chat_model
from tests.tiny import make_tiny_model
from worker.gguf.convert import convert
from worker.llama.answer import Question
from worker.llama.packaged import packaged_gguf
from worker.llama.pool import Pool
from worker.stages.export import card
from worker.stages.model import base_model
from worker.stages.model.check import parity
from worker.stages.model.tokens import IGNORED, Tokens

PLAIN = {"instruction": "What is the capital of France?", "input": "", "output": "Paris."}
WITH_INPUT = {**PLAIN, "input": "Answer the question."}
CHAT = {**PLAIN, "input": "Be brief.\nUser: Hello\nAssistant: Hello, user.\nUser: Well:"}
MARKS = sorted({mark for family in FAMILIES.values() for mark in [*family.controls, *family.marks] if mark.strip()})
OTHERS = [
    "<|im_start|", "im_end|>", "<|im_<|im_end|>end|>", "＜|im_end|＞", "<│im_end│>", "<|im\u200b_end|>", "[INST",
    "<s", "/s>",     "<<SYS>>", "{{ bos_token }}", "{% raw %}", "\\u003c|im_end|\\u003e", "ftq0123456789abcdef",
    "<｜end▁of▁sentence｜>",
]  # fmt: skip
HOSTILE = [*MARKS, *OTHERS]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("models")
    made = {name: make_chat_model(folder / name, family) for name, family in FAMILIES.items()}
    return made.__getitem__


def controls(tokens: Tokens, family: Family, ids: list[int]) -> list[str | None]:
    known = {tokens.id_of(mark) for mark in [*family.controls, *family.marks] if mark.strip() and mark != "<table>"}
    return [tokens.text_of(one) for one in ids if one in known]


def check_row(tokens: Tokens, family: Family, example: dict[str, str], stop: str) -> None:
    """All that holds for every row, whatever its texts say."""
    ids, labels = tokens.row(example, stop)
    first = next(number for number, label in enumerate(labels) if label != IGNORED)
    assert (ids[-1], labels[-1]) == (tokens.id_of(stop),) * 2
    assert labels == [IGNORED] * first + ids[first:]
    prompt = tokens.prompt(example["instruction"], example["input"])
    assert ids[:first] == prompt[:first]
    assert ids[: len(prompt)] == prompt
    harmless = {name: text and PLAIN["output"] for name, text in example.items()}
    assert controls(tokens, family, ids) == controls(tokens, family, tokens.row(harmless, stop)[0])
    text = tokens.decode(ids).replace("▁", " ")  # SentencePiece can't tell them apart
    assert all(example[name].strip().replace("▁", " ") in text for name in ("instruction", "input", "output"))


# ---- every row ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["alpaca", "chat"])
@pytest.mark.parametrize("name", FAMILIES)
def test_no_text_becomes_a_control_token(model: Callable[[str], Path], name: str, format: Any) -> None:
    tokens, family = Tokens(model(name), format), FAMILIES[name]
    for mark, example in product(HOSTILE, (PLAIN, WITH_INPUT, CHAT)):
        for place in ("instruction", "input", "output"):
            for text in (mark, f"What {mark} is\n{mark}user\n\n", f"{mark}{mark} <{mark}"):
                check_row(tokens, family, {**example, place: f"{text} {example[place]}"}, family.stop)
                check_row(tokens, family, {**example, place: f"{example[place]} {text}"}, family.stop)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([*HOSTILE, " ", "\n", "a", "é", "日本", "🙂"]), min_size=1, max_size=12), st.data())
def test_nor_does_any_text_made_of_such_pieces(
    model: Callable[[str], Path], pieces: list[str], data: st.DataObject
) -> None:
    name, format = data.draw(st.sampled_from([*FAMILIES])), data.draw(st.sampled_from(["alpaca", "chat"]))
    texts = ["x" + "".join(data.draw(st.permutations(pieces))) + "x" for _ in range(3)]
    example = dict(zip(("instruction", "input", "output"), texts, strict=True))
    check_row(Tokens(model(name), format), FAMILIES[name], example, FAMILIES[name].stop)


# ---- what is learned -----------------------------------------------------------------------------------------


def learned(model_dir: Path, example: dict[str, str]) -> tuple[str, str, str]:
    """(the prompt, the answer with the stop token, what ftq asks), with the control tokens written out."""
    tokens, stop = Tokens(model_dir, "chat"), base_model.stop_token(model_dir, str(model_dir), "chat")
    ids, labels = tokens.row(example, stop)
    first = labels.count(IGNORED)
    asked = tokens.prompt(example["instruction"], example["input"])
    return written(tokens, ids[:first]), written(tokens, ids[first:]), written(tokens, asked)


def written(tokens: Tokens, ids: list[int]) -> str:
    """The text of the ids with all control tokens in it."""
    text = tokens._inner.decode(ids, skip_special_tokens=False)
    return tokens._uncoded.sub(lambda code: tokens._names[code.group()], text)


Q, A = PLAIN["instruction"], PLAIN["output"]
HEADER = "<|start_header_id|>{}<|end_header_id|>\n\n"
EXPECTED = {
    "smollm2": (
        f"<|im_start|>system\nBe helpful.<|im_end|>\n<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n",
        f"{A}<|im_end|>", "",
    ),
    "qwen2.5": (
        f"<|im_start|>system\nBe helpful.<|im_end|>\n<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n",
        f"{A}<|im_end|>", "",
    ),
    "qwen3": (
        f"<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n",
        f"<think>\n\n</think>\n\n{A}<|im_end|>", "<think>\n\n</think>\n\n",
    ),
    "llama-3": (
        f"<|begin_of_text|>{HEADER.format('system')}Today Date: 26 Jul 2024\n\n<|eot_id|>"
        f"{HEADER.format('user')}{Q}<|eot_id|>{HEADER.format('assistant')}", f"{A}<|eot_id|>", "",
    ),
    "phi-3.5": (f"<|user|> {Q}<|end|><|assistant|>", f"{A}<|end|>", ""),  # they take in the line's end
    "gemma": (f"<bos><start_of_turn>user\n{Q}<end_of_turn>\n<start_of_turn>model\n", f"{A}<end_of_turn>", ""),
    "mistral": (f"<s>[INST] {Q}[/INST]", f"{A}</s>", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_is_the_templates_own_text(model: Callable[[str], Path], name: str) -> None:
    prompt, answer, more = EXPECTED[name]
    assert learned(model(name), PLAIN) == (prompt, answer, prompt + more)


SYSTEM = {
    "smollm2": "<|im_start|>system\nAnswer the question.<|im_end|>\n<|im_start|>user\nWhat",
    "qwen2.5": "<|im_start|>system\nAnswer the question.<|im_end|>\n<|im_start|>user\nWhat",
    "qwen3": "<|im_start|>system\nAnswer the question.<|im_end|>\n<|im_start|>user\nWhat",
    "llama-3": "Today Date: 26 Jul 2024\n\nAnswer the question.<|eot_id|><|start_header_id|>user",
    "phi-3.5": "<|system|> Answer the question.<|end|><|user|> What",
    "gemma": "<bos><start_of_turn>user\nAnswer the question.\n\nWhat",
    "mistral": "<s>[INST] Answer the question.\n\nWhat",
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_input_is_the_system_message_or_stands_before_the_question(model: Callable[[str], Path], name: str) -> None:
    assert SYSTEM[name] in learned(model(name), WITH_INPUT)[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_tokens_are_those_of_transformers(model: Callable[[str], Path], name: str) -> None:
    from transformers import PreTrainedTokenizerFast

    theirs, tokens = PreTrainedTokenizerFast.from_pretrained(model(name)), Tokens(model(name), "chat")
    asked = [{"role": "user", "content": Q}]
    if tokens.template and tokens.template.takes_system:
        asked = [{"role": "system", "content": WITH_INPUT["input"]}, *asked]
    example = WITH_INPUT if len(asked) > 1 else PLAIN
    how = {"date_string": "26 Jul 2024", "return_dict": False}
    ids, labels = tokens.row(example, FAMILIES[name].stop)
    prompt = theirs.apply_chat_template(asked, add_generation_prompt=True, enable_thinking=False, **how)
    whole = theirs.apply_chat_template([*asked, {"role": "assistant", "content": A}], **how)
    assert tokens.prompt(example["instruction"], example["input"]) == prompt
    assert whole[: len(ids)] == ids
    without = theirs.apply_chat_template(asked, add_generation_prompt=True, **how)
    assert ids[: labels.count(IGNORED)] == without


def chatted(text: str = "Hello") -> dict[str, str]:
    """The last of the examples that a chat gives."""
    chat = [("system", "Be brief."), ("user", text), ("assistant", f"{text}, user."), ("user", Q), ("assistant", A)]
    *_, last = json_records.read({"messages": [{"role": role, "content": said} for role, said in chat]})
    assert isinstance(last, dict)
    return last


@pytest.mark.parametrize("name", FAMILIES)
def test_the_turns_of_a_chat_are_real_turns(model: Callable[[str], Path], name: str) -> None:
    from transformers import PreTrainedTokenizerFast

    theirs, tokens = PreTrainedTokenizerFast.from_pretrained(model(name)), Tokens(model(name), "chat")
    assert tokens.template
    first = "Hello" if tokens.template.takes_system else "Be brief.\n\nHello"
    chat = [("system", "Be brief.")] if tokens.template.takes_system else []
    chat += [("user", first), ("assistant", "Hello, user."), ("user", Q), ("assistant", A)]
    messages = [{"role": role, "content": text} for role, text in chat]
    whole = theirs.apply_chat_template(messages, date_string="26 Jul 2024", return_dict=False)
    ids, labels = tokens.row(chatted(), FAMILIES[name].stop)
    assert whole[: len(ids)] == ids and labels[-1] == ids[-1] == tokens.id_of(FAMILIES[name].stop)
    answer = tokens.row(PLAIN, FAMILIES[name].stop)
    assert [label for label in labels if label != IGNORED] == [label for label in answer[1] if label != IGNORED]


@pytest.mark.parametrize("name", FAMILIES)
def test_no_turn_of_a_chat_becomes_a_control_token(model: Callable[[str], Path], name: str) -> None:
    tokens, family = Tokens(model(name), "chat"), FAMILIES[name]
    expected = controls(tokens, family, tokens.row(chatted(), family.stop)[0])
    for mark in HOSTILE:
        assert controls(tokens, family, tokens.row(chatted(f"x {mark}user\n"), family.stop)[0]) == expected


def test_turns_that_a_template_refuses_are_its_input(model: Callable[[str], Path]) -> None:
    tokens = Tokens(model("gemma"), "chat")
    assert tokens.template
    said = json.dumps([["assistant", "Hi."], ["user", "Hello"], ["assistant", "Hello, user."]])
    roles, texts = tokens.template.messages(Q, "Assistant: Hi.", said)
    assert (roles, texts) == (("user",), [f"Assistant: Hi.\n\n{Q}"])


def ollama(model_dir: Path) -> str:
    spec, report = parse({"model": str(model_dir), "format": "chat"}), DatasetReport(stop="S", max_seq_length=64)
    text = card.modelfile(spec, report, Tokens(model_dir, "chat"), ["S"])
    return text.partition('TEMPLATE """')[2].partition('"""')[0]


CHATS = [[{"role": role, "content": text} for role, text in chat] for chat in ((("user", Q),), *parity.CHATS)]


@pytest.mark.parametrize("name", [*FAMILIES, "alpaca"])
def test_ollama_renders_what_was_trained(model: Callable[[str], Path], name: str) -> None:
    if name == "alpaca":
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        jinja = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(CHAT_TEMPLATE)
        rendered, template = [jinja.render(messages=chat) for chat in CHATS], OLLAMA_TEMPLATE
        assert [go_template.ollama(template, chat) for chat in CHATS] == rendered
        return
    tokens, template = Tokens(model(name), "chat"), ollama(model(name))
    held = [(chat, made[0].removeprefix(tokens.start)) for chat in CHATS if (made := tokens.conversation(chat))]
    assert len(held) >= 2  # some templates take no system message
    assert [go_template.ollama(template, chat) for chat, _ in held] == [text for _, text in held]


# ---- templates that can't be used, and odd ones -----------------------------------------------------------------


def with_template(folder: Path, chat_template: Any) -> Path:
    made = make_chat_model(folder / "model", FAMILIES["smollm2"])
    value = {**json.loads((made / "tokenizer_config.json").read_text()), "chat_template": chat_template}
    (made / "tokenizer_config.json").write_text(json.dumps(value))
    return made


@pytest.mark.parametrize(
    ("chat_template", "message"),
    [
        (None, "has no chat template, and format=chat trains with it"),
        ("{% for m in messages %}", "can't be read"),
        ("{{ raise_exception('never') }}", "can't hold a user message"),
        ("{{ messages[0].content }}{{ messages[0].content }}<|im_end|>", "can't hold a user message"),
        ("{{ messages[0].content }}<|im_end|>", "can't hold a user and a assistant message"),
        ("{% for m in messages %}{{ m.content }}\n{% endfor %}", "ends an answer with no control token"),
        ("{{ ''.__class__.__mro__ }}{{ messages[0].content }}", "can't hold a user message"),
    ],
)
def test_a_template_that_does_not_fit_is_said(tmp_path: Path, chat_template: Any, message: str) -> None:
    model = with_template(tmp_path, chat_template)
    with pytest.raises(UserError, match=message) as caught:
        base_model.stop_token(model, str(model), "chat")
    assert "format=alpaca" in caught.value.hint
    assert Tokens(model).prompt("a")


def test_a_file_of_its_own_counts_more_and_of_several_the_default(tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": QWEN3}]
    model = with_template(tmp_path, named)
    assert learned(model, PLAIN)[1].startswith("<think>")
    (model / "chat_template.jinja").write_text(GEMMA.replace("<start_of_turn>", "<|im_start|>"))
    Tokens(model, "chat")
    (model / "chat_template.jinja").write_text(LLAMA.replace("<|eot_id|>", "<|im_end|>"))
    assert "Today Date: 26 Jul 2024" in learned(model, PLAIN)[0]


# ---- llama.cpp -------------------------------------------------------------------------------------------------

QUESTIONS = [
    ("What is 3?", ""),
    (" Say <|im_end|> twice\n", ""),
    ("(2048) Größe\n\ttabs “quotes”", "Be <|im_start|>brief."),
]
IM_NAMES = {"<|start_header_id|>": "<|im_start|>", "<|end_header_id|>": "\n", "<|eot_id|>": "<|im_end|>",
            "<start_of_turn>": "<|im_start|>", "<end_of_turn>": "<|im_end|>", "[INST]": "<|im_start|>",
            "[/INST]": "<|im_end|>", "{{- bos_token }}": "", "{{ bos_token }}": ""}  # fmt: skip


def check_asked(file: Path, tokens: Tokens) -> None:
    with Pool(context=512).server(file) as server:
        for pair in QUESTIONS:
            assert server.prompt_ids(Question(*pair, chat=True)) == tokens.prompt(*pair), pair
        server.close()


@pytest.mark.slow
def test_the_packaged_model_is_asked_by_the_same_tokens_everywhere() -> None:
    from transformers import AutoTokenizer

    model, file = base_model.resolve("smollm2-135m"), packaged_gguf()
    assert file
    tokens = Tokens(model, "chat")
    check_asked(file, tokens)
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": Q}]
    theirs = AutoTokenizer.from_pretrained(model)
    for messages, before in ((asked[1:], ""), (asked, "Be brief.")):
        ids = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert tokens.prompt(Q, before) == ids
        whole = theirs.apply_chat_template([*messages, {"role": "assistant", "content": A}], return_dict=False)
        row = tokens.row({"instruction": Q, "input": before, "output": A}, "<|im_end|>")
        assert row == (whole[: len(row[0])], [IGNORED] * len(ids) + row[0][len(ids) :])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with SmolLM2's tokenizer, and beside it the same as a GGUF."""
    model = make_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny")
    convert(model, model.with_suffix(".gguf"), "f16")
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen3", "llama-3", "gemma", "mistral"])
def test_llama_cpp_asks_by_the_tokens_of_the_training(tiny: Path, tmp_path: Path, name: str) -> None:
    chat_template = FAMILIES[name].template.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    for theirs, ours in IM_NAMES.items():
        chat_template = chat_template.replace(theirs, ours)
    model, file = tmp_path / "model", tmp_path / "model.gguf"
    shutil.copytree(tiny, model)
    (model / "chat_template.jinja").write_text(chat_template)
    command = [sys.executable, "-m", "gguf.scripts.gguf_new_metadata", "--chat-template", chat_template]
    subprocess.run([*command, str(tiny.with_suffix(".gguf")), str(file)], check=True, capture_output=True)
    check_asked(file, Tokens(model, "chat"))
