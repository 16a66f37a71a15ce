"""`ftq doctor --deep`: the real stages, on a model that trains in a second."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import make_tiny_model

from ftq.files.run_dir import STAGES, RunDir, read_jsonl
from worker.doctor import deep
from worker.doctor.deep import begin_training, examine, make_run, tail

pytestmark = pytest.mark.slow


def test_every_stage_is_run_and_timed(tmp_path: Path, forks: None) -> None:
    model = make_tiny_model(tmp_path / "tiny")
    found = list(examine(tmp_path / "deep", options={"model": str(model), "engine": "trl", "max_steps": 2}))
    assert [finding.check for finding in found][:6] == ["torch", *STAGES]
    assert {finding.level for finding in found} <= {"ok", "warning"}  # random weights may answer nothing
    assert all(finding.seconds for finding in found[:6])
    assert "model-q8_0.gguf" in found[3].message


def test_a_stage_that_fails_shows_why_and_where(tmp_path: Path, forks: None) -> None:
    found = list(examine(tmp_path / "deep", options={"model": "nobody/has-this-model"}))
    assert [finding.level for finding in found][:-1] == ["ok"] * (len(found) - 1)
    failed, log = found[-1], RunDir(tmp_path / "deep" / "run").log(found[-1].check)
    assert failed.level == "problem" and "nobody/has-this-model" in failed.message
    assert failed.fix == f"The whole log: less {log}" and log.is_file()


def test_a_training_of_a_named_model_is_only_begun(tmp_path: Path, forks: None) -> None:
    model = make_tiny_model(tmp_path / "tiny")
    findings = list(begin_training(tmp_path / "deep", str(model), {"engine": "trl"}))
    assert [finding.check for finding in findings] == ["torch", "prepare", "train"]
    assert {finding.level for finding in findings} == {"ok"}
    run = RunDir(tmp_path / "deep" / "run")
    lengths = [len(row["output"]) for row in read_jsonl(run.dataset / "train.jsonl")]
    assert max(lengths) > 20 * min(lengths)  # of all lengths, as documents have them
    assert list(read_jsonl(run.metrics))[-1]["step"] == deep.STEPS


def test_a_stage_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep, "STAGE_SECONDS", 0.01)
    run = make_run(tmp_path, deep.OPTIONS)
    finding = deep._stage(run, "prepare")
    assert (finding.level, finding.message) == ("problem", "not done after 0 s")


def test_torch_that_cant_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep, "TORCH", "raise ImportError('libcudart.so.13: cannot open shared object file')")
    assert deep._torch().message.endswith("libcudart.so.13: cannot open shared object file")
    monkeypatch.setattr(deep, "TORCH", "print('[\"2.13.0\", null]')")
    monkeypatch.setattr(deep, "gpus", lambda: ["NVIDIA L4"])
    assert deep._torch().message == "torch 2.13.0 can't use NVIDIA L4: it doesn't say why"


def test_the_end_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"{number}\n" for number in range(100)))
    assert tail(log, 2) == "98\n99"
    assert tail(tmp_path / "none") == ""
