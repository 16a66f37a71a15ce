"""The examples' tokens: written once, read back the same, made again where something they depend on has changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ftq.errors import UserError
from ftq.examples.report import DatasetReport
from ftq.files.run_dir import write_jsonl
from tests.tiny import make_tiny_model
from worker.stages.model import rows
from worker.stages.model.tokens import IGNORED, Tokens

STOP = "<|im_end|>"
REPORT = DatasetReport(stop=STOP, max_seq_length=512)
EXAMPLES = [{"instruction": f"What is {n}?", "input": "", "output": f"It is {n}. " * (n + 1)} for n in range(5)]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "dataset"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", EXAMPLES[:4])
    write_jsonl(folder / "valid.jsonl", EXAMPLES[4:])
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


def lists(found: list[rows.Row]) -> list[tuple[list[int], list[int]]]:
    return [(row["input_ids"].tolist(), row["labels"].tolist()) for row in found]


def no_tokeniser(*_: Any) -> Any:
    raise AssertionError("tokenised again")


def test_what_was_written_is_read_back_without_tokenising(
    dataset: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [Tokens(model).row(example, STOP) for example in EXAMPLES]
    assert rows.write(dataset, model, STOP) == [len(ids) for ids, _ in expected]
    monkeypatch.setattr(Tokens, "rows", no_tokeniser)
    train, valid = rows.read(dataset, model, REPORT, train_on_prompt=False)
    assert lists(train) + lists(valid) == expected
    assert all(labels[0] == IGNORED for _, labels in expected)
    both = lists(rows.read(dataset, model, REPORT, train_on_prompt=True)[0])
    assert both == [(ids, ids) for ids, _ in expected[:4]]


def test_a_changed_dataset_a_torn_file_or_none_is_tokenised_again(dataset: Path, model: Path) -> None:
    rows.write(dataset, model, STOP)
    write_jsonl(dataset / "train.jsonl", EXAMPLES[1:3])
    expected = [Tokens(model).row(example, STOP) for example in EXAMPLES[1:3]]
    assert lists(rows.read(dataset, model, REPORT, False)[0]) == expected
    rows.write(dataset, model, STOP)
    whole = (dataset / rows.FILE).read_bytes()
    for left in (whole[: len(whole) // 2], b"", b"something else"):
        (dataset / rows.FILE).write_bytes(left)
        assert lists(rows.read(dataset, model, REPORT, False)[0]) == expected
    (dataset / rows.FILE).unlink()
    assert lists(rows.read(dataset, model, REPORT, False)[0]) == expected


def test_another_stop_token_is_tokenised_again(dataset: Path, model: Path) -> None:
    rows.write(dataset, model, STOP)
    other = "<|endoftext|>"
    train, _ = rows.read(dataset, model, replace(REPORT, stop=other), False)
    assert {row["input_ids"][-1] for row in train} == {Tokens(model).id_of(other)}


def test_a_part_without_examples_has_none(dataset: Path, model: Path) -> None:
    (dataset / "valid.jsonl").write_text("")
    rows.write(dataset, model, STOP)
    train, valid = rows.read(dataset, model, REPORT, False)
    assert len(train) == 4
    assert valid == []


def test_a_row_without_the_stop_token_or_too_long_is_refused(dataset: Path, model: Path) -> None:
    rows.check([5, 6, 2], [-100, 6, 2], 2, 3, "train.jsonl:1")
    for ids, labels, limit, message in [
        ([5, 6, 7], [-100, 6, 7], 3, "train.jsonl:1: the answer doesn't end with the stop token"),
        ([5, 6, 2], [-100, 6, -100], 3, "train.jsonl:1: the answer doesn't end with the stop token"),
        ([5, 6, 2], [-100, 6, 2], 2, r"train.jsonl:1: 3 tokens, but a row holds 2 \(max_seq_length\)"),
    ]:
        with pytest.raises(UserError, match=message):
            rows.check(ids, labels, 2, limit, "train.jsonl:1")
    with pytest.raises(UserError, match=r"valid.jsonl:1: \d+ tokens"):
        rows.read(dataset, model, replace(REPORT, max_seq_length=35), False)


def test_a_tokenizer_saved_with_truncation_and_padding_cuts_and_fills_nothing(model: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    left_on = Tokenizer.from_file(str(model / "tokenizer.json"))
    left_on.enable_truncation(8)
    left_on.enable_padding(pad_id=2, pad_token=STOP, length=64)
    left_on.save(str(tmp_path / "tokenizer.json"))
    saved, whole = Tokens(tmp_path), Tokens(model)
    assert saved.rows(EXAMPLES, STOP) == whole.rows(EXAMPLES, STOP)
    assert saved.prompt("What is the longest question of all?") == whole.prompt("What is the longest question of all?")
