"""Every path of a run, publishing by rename, links between runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftq.files import disk, run_dir
from ftq.files.run_dir import OUTPUTS, STAGES, RunDir


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def fill(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_paths(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    names = {
        run.run_json: "run.json", run.documents: "documents", run.dataset: "dataset", run.adapter: "adapter",
        run.metrics: "metrics.jsonl", run.merged: "merged", run.answers: "answers.jsonl",
        run.checkpoints: "checkpoints", run.gguf("q8_0"): "model-q8_0.gguf", run.log("train"): "logs/train.log",
        run.partial("train", 2): "train.2.partial",
    }  # fmt: skip
    assert {str(path.relative_to(tmp_path)) for path in names} == set(names.values())
    assert all(path == tmp_path / name for path, name in names.items())
    assert list(tmp_path.iterdir()) == []  # nothing is created by looking


def test_a_run_is_named_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fill(tmp_path / "run", {"run.json": "{}"}))
    assert RunDir(".").path.name == RunDir("../run").path.name == "run"
    (tmp_path / "link").symlink_to("run")
    assert RunDir(tmp_path / "link").path.name == "link"  # what deletes a run deletes no other


def test_publishing_replaces_what_an_earlier_attempt_published_and_nothing_else(tmp_path: Path) -> None:
    run = RunDir(fill(tmp_path, {
        "run.json": "{}", "adapter/old.json": "old", "metrics.jsonl": "old", "model-q8_0.gguf": "old",
        "merged/w": "old", "README.md": "old", "logs/export.log": "log", "export.2.partial/model-f16.gguf": "new",
        "export.2.partial/Modelfile": "new", "train.1.partial/adapter/a": "half",
    }))  # fmt: skip
    run.publish("export", run.partial("export", 2))
    assert tree(tmp_path) == {
        "run.json": "{}", "adapter/old.json": "old", "metrics.jsonl": "old", "model-f16.gguf": "new",
        "Modelfile": "new", "logs/export.log": "log", "train.1.partial/adapter/a": "half",
    }  # fmt: skip
    assert not run.partial("export", 2).exists()


def test_clearing_partials_is_for_one_stage_and_spares_later_attempts(tmp_path: Path) -> None:
    names = ("train.1.partial/a", "train.9.partial/a", "train.12.partial/a", "export.1.partial/a", "b")
    run = RunDir(fill(tmp_path, dict.fromkeys(names, "")))
    run.clear_partials("train", 9)
    assert set(tree(tmp_path)) == {"train.12.partial/a", "export.1.partial/a", "b"}


def test_old_checkpoints_go_with_their_plan_and_later_ones_stay_with_theirs(tmp_path: Path) -> None:
    names = {f"checkpoints/{name}": "" for name in ("1/checkpoint-5/a", "2/checkpoint-9/a", "10/metrics.jsonl")}
    run = RunDir(fill(tmp_path, {**names, "checkpoints/train.json": "{}", "b": ""}))
    run.forget_checkpoints(before=3)
    assert set(tree(tmp_path)) == {"checkpoints/10/metrics.jsonl", "checkpoints/train.json", "b"}
    run.forget_checkpoints(before=11)
    assert set(tree(tmp_path)) == {"b"} and not run.checkpoints.exists()


def test_artifacts_are_named_with_kind_and_size(tmp_path: Path) -> None:
    run = RunDir(fill(tmp_path, {
        "dataset/train.jsonl": "12", "dataset/deep/report.json": "3", "adapter/a": "1234", "metrics.jsonl": "1",
        "merged/w": "12", "model-q8_0.gguf": "123", "model-f16.gguf": "12345", "Modelfile": "1", "README.md": "12",
        "answers.jsonl": "1", "eval.json": "{}", "report.html": "123", "loss.png": "1",
    }))  # fmt: skip
    listed = {stage: [(file.kind, file.path, file.bytes) for file in run.artifacts(stage)] for stage in STAGES}
    assert listed == {
        "prepare": [("dataset", "dataset", 3)],
        "train": [("adapter", "adapter", 4), ("metrics", "metrics.jsonl", 1)],
        "export": [
            ("modelfile", "Modelfile", 1), ("model_card", "README.md", 2), ("merged", "merged", 2),
            ("gguf", "model-f16.gguf", 5), ("gguf", "model-q8_0.gguf", 3),
        ],
        "infer": [("answers", "answers.jsonl", 1)],
        "evaluate": [("eval", "eval.json", 2), ("loss", "loss.png", 1), ("report", "report.html", 3)],
    }  # fmt: skip
    assert set(OUTPUTS) == set(STAGES)
    assert run.ggufs() == [tmp_path / "model-f16.gguf", tmp_path / "model-q8_0.gguf"]


def test_json_is_never_half_written(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    run_dir.write_json(path, {"ü": 1})
    with pytest.raises(TypeError):
        run_dir.write_json(path, {"a": object()})
    assert tree(tmp_path) == {"x.json": '{\n  "ü": 1\n}\n'}


def test_half_a_character_is_written_as_its_escape(tmp_path: Path) -> None:
    value = {"\ud800": "a\udcff"}
    run_dir.write_json(tmp_path / "x", value)
    run_dir.write_jsonl(tmp_path / "y", [value])
    assert json.loads((tmp_path / "x").read_bytes()) == value
    assert list(run_dir.read_jsonl(tmp_path / "y")) == [value]


def test_jsonl_there_and_back(tmp_path: Path) -> None:
    rows = [{"a": "line\nbreak"}, [1, None], "ü\u2028"]
    run_dir.write_jsonl(tmp_path / "x", rows)
    assert list(run_dir.read_jsonl(tmp_path / "x")) == rows
    assert (tmp_path / "x").read_text(encoding="utf-8").count("\n") == 3


def test_run_json(tmp_path: Path) -> None:
    run_dir.write_json(RunDir(tmp_path).run_json, {"id": "r"})
    assert RunDir(tmp_path).read_run() == json.loads((tmp_path / "run.json").read_text()) == {"id": "r"}


def test_links_share_the_disk_and_survive_the_source(tmp_path: Path) -> None:
    large = "w" * run_dir.LINKED_FROM
    source = fill(tmp_path / "one", {"adapter/a": large, "adapter/sub/b": large, "x.gguf": large})
    other = tmp_path / "two"
    other.mkdir()
    run_dir.link_tree(source / "adapter", other / "adapter")
    run_dir.link_tree(source / "x.gguf", other / "x.gguf")
    assert tree(other) == tree(source)
    assert (other / "adapter" / "a").samefile(source / "adapter" / "a")
    size = 3 * len(large)
    freed = [disk.freed_by([source]), disk.freed_by([source, other])]
    assert (disk.size_of(source), freed) == (size, [0, size])
    run_dir.remove(source)
    assert tree(other) == {"adapter/a": large, "adapter/sub/b": large, "x.gguf": large}
    assert disk.freed_by([other]) == size


def test_a_model_card_that_is_edited_in_place_is_that_of_its_run_alone(tmp_path: Path) -> None:
    source = fill(tmp_path / "one", {"README.md": "# One\n", "m/w": "w" * run_dir.LINKED_FROM, "m/config.json": "{}"})
    for name in ("README.md", "m"):
        run_dir.link_tree(source / name, tmp_path / name)
    for name in ("README.md", "m/config.json"):
        with (tmp_path / name).open("a") as file:
            file.write("mine")
    assert [(source / name).read_text() for name in ("README.md", "m/config.json")] == ["# One\n", "{}"]
    assert (tmp_path / "m" / "w").samefile(source / "m" / "w")


def test_where_there_are_no_hard_links_bytes_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(run_dir.os, "link", refuse)
    monkeypatch.setattr(run_dir, "LINKED_FROM", 2)
    monkeypatch.setattr(run_dir, "COPIED_AT_ONCE", 2)
    copied: list[int] = []
    source = fill(tmp_path / "one", {"a/b": "12345"})
    run_dir.link_tree(source, tmp_path / "two", lambda: copied.append(len(copied)))
    assert tree(tmp_path / "two") == {"a/b": "12345"} and copied == [0, 1, 2]
    assert (tmp_path / "two" / "a" / "b").stat().st_mtime_ns == (source / "a" / "b").stat().st_mtime_ns
    assert not (tmp_path / "two" / "a" / "b").samefile(source / "a" / "b")


def test_removing_a_link_spares_what_it_leads_to_and_nothing_is_no_error(tmp_path: Path) -> None:
    kept = fill(tmp_path / "kept", {"a": "1"})
    (tmp_path / "link").symlink_to(kept)
    run_dir.remove(tmp_path / "link")
    run_dir.remove(tmp_path / "none")
    assert tree(tmp_path) == {"kept/a": "1"}
