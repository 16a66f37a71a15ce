"""Word dropout: which questions lose words, which words, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from ftq.examples.report import DatasetReport
from ftq.files.run_dir import write_jsonl
from ftq.questions import Report
from ftq.questions.shortened import WHOLE, shortened
from ftq.spec.options import Format, parse
from ftq.spec.recipe import decided
from tests.tiny import make_tiny_model
from worker.stages.model import rows
from worker.stages.model.varied import Varied, varied

STOP = "<|im_end|>"
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QUESTION = "Which command frees the GPU of my run for a while, and keeps its place?"
OF_FACTS = [
    {"instruction": f"{QUESTION} ({n})", "input": "", "output": f"`ftq pause`, number {n}.", "rule": rule}
    for n, rule in enumerate("TODCQLHSPFKJ")
]
SILENT = {
    "instruction": "How do I send the log to Telegram?",
    "input": "",
    "output": "The documents don't say.",
    "rule": "N",
}
OWN = [{"instruction": f"{QUESTION} {n}", "input": "Be short.", "output": "A record of the user's."} for n in range(9)]
EXAMPLES = [*OWN, *OF_FACTS, SILENT]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")
    (path / "chat_template.jinja").write_text(CHAT)
    return path


def made(folder: Path, model: Path, format: Format = "alpaca", **options: Any) -> list[rows.Row]:
    """The training rows of EXAMPLES, as the train stage has them."""
    folder.mkdir(exist_ok=True)
    write_jsonl(folder / "train.jsonl", EXAMPLES)
    write_jsonl(folder / "valid.jsonl", [])
    facts = Report(language="en", facts=1, rows={}, contradictions=(), few=())
    report = DatasetReport(stop=STOP, max_seq_length=512, questions=facts)
    spec = parse({"model": "m", "word_dropout": 0.4, "format": format, "train_on_prompt": False, **options})
    whole, _ = rows.read(folder, model, report, spec.train_on_prompt, format)
    return varied(whole, folder, model, spec, report)


def lists(found: list[rows.Row]) -> list[tuple[list[int], list[int]]]:
    return [(row["input_ids"].tolist(), row["labels"].tolist()) for row in found]


# ---- words ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "rule", "fewest"),
    [
        ("Which command frees the GPU?", "P", 2),
        ("What does `ftq infer --base` do?", "C", 2),
        ("Complete: every stage reports to the ____.", "B", 2),
        ("Is it?", "P", 2),
        ("Why?", "P", 1),
        ("我怎么停止运行?", "P", 1),
        ("What does this do?\n```\nftq up --gpus 0\n```", "C", 10),
        ("How do I send the log to Telegram?", "N", 3),
    ],
)
def test_words_go_and_their_order_stays(question: str, rule: str, fewest: int) -> None:
    common = frozenset(("how", "do", "i", "the", "to"))
    seen = [shortened(question, rule, 0.5, Random(seed), common) for seed in range(300)]
    for text in seen:
        left = iter(question.split())
        assert all(word in left for word in text.split())  # in their order
        assert fewest <= len(text.split()) and text == text.strip()
        assert text.count("`") == question.count("`") or "`" not in text
        assert ("____" in text) == ("____" in question)
        assert rule != "N" or {"send", "log", "Telegram?"} <= {*text.split()}
    changes = {text for text in seen if text != question}
    assert bool(changes) == (fewest not in (1, 10) and question != "Is it?")
    assert seen.count(question) > 300 * WHOLE * 0.7


@pytest.mark.parametrize(("share", "about"), [(0.0, 0.0), (0.15, 0.7 * 0.15), (0.4, 0.7 * 0.4)])
def test_the_share_of_words_that_go(share: float, about: float) -> None:
    question = " ".join(f"word{n}" for n in range(12))
    seen = [shortened(question, "P", share, Random(seed), frozenset()) for seed in range(1000)]
    assert 1 - sum(len(text.split()) for text in seen) / 12_000 == pytest.approx(about, abs=0.01)


# ---- rows ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["alpaca", "chat"])
def test_answers_and_the_users_own_rows_stay_whole(tmp_path: Path, model: Path, format: Format) -> None:
    whole, found = lists(made(tmp_path, model, format, word_dropout=0)), made(tmp_path, model, format)
    assert isinstance(found, Varied) and lists(found) == whole
    found.begin(0)
    changed = lists(found)
    assert changed[: len(OWN)] == whole[: len(OWN)]
    assert sum(one != two for one, two in zip(changed, whole, strict=True)) >= len(OF_FACTS) // 2
    for (ids, labels), (all_ids, all_labels) in zip(changed, whole, strict=True):
        answer = [label for label in all_labels if label != -100]
        assert labels == [-100] * (len(ids) - len(answer)) + answer and ids[-len(answer) :] == answer
        assert len(ids) <= len(all_ids)


def test_each_epoch_leaves_out_other_words_and_always_the_same(tmp_path: Path, model: Path) -> None:
    first, again, other = made(tmp_path, model), made(tmp_path, model), made(tmp_path, model, seed=1)
    assert isinstance(first, Varied) and isinstance(again, Varied) and isinstance(other, Varied)
    epochs = []
    for epoch in range(4):
        first.begin(epoch)
        epochs.append(lists(first))
    again.begin(2)  # as a resumed run, or another rank
    other.begin(2)
    assert lists(again) == epochs[2] != lists(other)
    assert all(one != two for n, one in enumerate(epochs) for two in epochs[:n])
    tokens = [sum(len(ids) for ids, _ in epoch) for epoch in epochs]
    assert again.tokens(2.5) == round(tokens[0] + tokens[1] + tokens[2] / 2)


def test_what_the_prompt_teaches_is_what_is_asked(tmp_path: Path, model: Path) -> None:
    found = made(tmp_path, model, train_on_prompt=True)
    assert isinstance(found, Varied)
    found.begin(0)
    assert all(ids == labels for ids, labels in lists(found))


def test_without_it_or_without_questions_nothing_changes(tmp_path: Path, model: Path) -> None:
    assert type(made(tmp_path, model, word_dropout=0)) is list
    spec, own = parse({"model": "m", "word_dropout": 0.15}), DatasetReport(stop=STOP, max_seq_length=512)
    whole, _ = rows.read(tmp_path, model, own, train_on_prompt=False)
    assert varied(whole, tmp_path, model, spec, own) is whole


@pytest.mark.parametrize(
    ("options", "parameters", "share"),
    [
        ({}, 135e6, 0.15),
        ({}, 1.2e9, 0),
        ({"train_on_prompt": True}, 135e6, 0),
        ({"questions": "none"}, 135e6, 0),
        ({"train_on_prompt": True, "word_dropout": 0.1}, 135e6, 0.1),
        ({"word_dropout": 0}, 135e6, 0),
        ({"word_dropout": "0.2"}, 8e9, 0.2),
    ],
)
def test_the_share_by_the_size_of_the_model(options: dict[str, Any], parameters: float, share: float) -> None:
    assert decided(parse({"model": "m", **options}), int(parameters)).word_dropout == share
