"""One training on several ranks: the same result as on one, and processes that live and die together."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftq.errors import UserError
from tests.tiny import make_run, make_tiny_model
from tests.tools import PATIENCE, gone, until
from worker.attempt import stage_process
from worker.attempt.stage_process import StageProcess
from worker.machine import hardware
from worker.stages import STOPPED
from worker.stages.process import ranks
from worker.stages.process.main import Report

LEASE = 60.0


# ---- one rank ---------------------------------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a cluster's launcher may have left for the worker; put back after the test."""
    for name in ranks._NAMES:
        monkeypatch.setenv(name, "3")


@pytest.mark.usefixtures("environment")
def test_one_rank_is_alone_whatever_started_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of it would fail
    assert not ranks.follow()
    ranks.start(1, Report())
    assert ranks.current() == (0, 1)
    assert [name for name in ranks._NAMES if name in os.environ] == []
    assert ranks.agree([True, False]) == [True, False]
    ranks.barrier()
    ranks.finish()


@pytest.mark.usefixtures("environment")
def test_more_ranks_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "own_gpus", lambda: ["0", "1"])
    with pytest.raises(UserError) as caught:
        ranks.start(3, Report())
    assert caught.value.message == "gpus=3, but this process was given 2 (0,1)"
    assert caught.value.hint == "Start a worker with more: `ftq worker --gpus 0,1,2`"
    assert ranks.current() == (0, 1)


# ---- two ranks on the CPU ---------------------------------------------------------------------------------


class Training:
    """tests/rank_stage.py under a supervisor's StageProcess; `reports` grows while it is waited for."""

    def __init__(self, folder: Path, model: Path, **options: Any) -> None:
        self.folder, self.out = make_run(folder, model, **options), folder / "train.1.partial"
        self.reports: list[dict[str, Any]] = []
        self.process: StageProcess

    def __enter__(self) -> Training:
        self.process = StageProcess(
            "rank_stage", [str(self.folder), "--attempt", "1"], self.folder / "log", LEASE, self.folder
        )
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.__exit__()

    def until(self, reached: Callable[[], Any], seconds: float = 240) -> None:
        end = time.monotonic() + seconds
        while not reached():
            self.process.beat()
            self.reports += self.process.reports(0.05)
            alive = self.process.running and time.monotonic() < end
            assert alive or reached(), (self.folder / "log").read_text()[-3000:]

    def end(self, seconds: float = 240) -> int:
        self.until(lambda: not self.process.running, seconds)
        self.reports += self.process.last_reports()
        return self.process.exit_code

    def seen(self, rank: int) -> dict[str, Any]:
        path = self.folder / "ranks" / f"{rank}.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"step": -1}
        return found

    def until_both_train(self) -> None:
        self.until(lambda: min(self.seen(0)["step"], self.seen(1)["step"]) >= 2)

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [report for report in self.reports if report["event"] == kind]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(autouse=True)
def _stages_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_process, "PACKAGE", "tests")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


ONE_BATCH = {"batch_size": 2, "gradient_accumulation_steps": 2}


@pytest.fixture
def two(tmp_path: Path, model: Path) -> Iterator[Training]:
    """A training on two ranks that would go on for long."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/slow").touch()
    with Training(tmp_path / "run", model, gpus=2, max_steps=100_000, **ONE_BATCH) as training:
        yield training


def ends(pid: int) -> None:
    """It may take a moment longer than the training itself."""
    until(lambda: gone(pid))


TWO_GPUS = [pytest.mark.gpu, pytest.mark.skipif(len(hardware.gpus()) < 2, reason="needs two GPUs")]


@pytest.mark.long
@pytest.mark.parametrize(("gpus", "tolerance"), [("", 1e-5), pytest.param("0,1", 1e-3, marks=TWO_GPUS)])
def test_two_ranks_learn_what_one_learns(
    tmp_path: Path, model: Path, gpus: str, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from safetensors.torch import load_file

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    results = []
    for count in (1, 2):
        options = {"gpus": count, "batch_size": 2, "gradient_accumulation_steps": 4}
        with Training(tmp_path / str(count), model, max_steps=12, learning_rate=5e-2, **options) as training:
            assert training.end() == 0, (training.folder / "log").read_text()[-3000:]
        assert [report["step"] for report in training.events("progress")] == [*range(1, 13)]  # rank 0's, each once
        assert {report["event"] for report in training.reports} == {"progress"}
        adapter = training.out / "adapter"
        results.append(
            (json.loads((adapter / "losses.json").read_text()), load_file(adapter / "adapter_model.safetensors"))
        )
    (losses, weights), (their_losses, their_weights) = results
    assert losses == pytest.approx(their_losses, abs=tolerance)
    assert losses[6] < losses[0] - 0.05  # the same rows a pass later: it did learn
    assert weights.keys() == their_weights.keys()
    for name, value in weights.items():
        torch.testing.assert_close(their_weights[name], value, atol=tolerance, rtol=0)


@pytest.mark.long
def test_all_ranks_stop_at_the_same_step_when_rank_0_is_told(two: Training) -> None:
    two.until_both_train()
    first, second = two.seen(0), two.seen(1)
    assert first["environment"] | {"RANK": "1", "LOCAL_RANK": "1"} == second["environment"]
    assert (first["environment"]["RANK"], first["environment"]["WORLD_SIZE"]) == ("0", "2")
    assert (first["pid"], os.getpgid(second["pid"])) == (two.process.pid, two.process.pid)
    held = {os.readlink(path) for path in Path(f"/proc/{second['pid']}/fd").iterdir() if path.is_symlink()}
    assert str(two.folder / ".rank_stage.lock") in held
    assert os.readlink(f"/proc/{two.process.pid}/fd/{_report_fd(two)}") not in held
    os.kill(second["pid"], signal.SIGTERM)  # not its business
    until = two.seen(0)["step"] + 5
    two.until(lambda: two.seen(1)["step"] > until)
    two.process.terminate()
    assert two.end(PATIENCE) == STOPPED
    assert two.seen(0)["step"] == two.seen(1)["step"]
    assert gone(second["pid"]) and two.events("error") == []


def _report_fd(training: Training) -> str:
    environment = Path(f"/proc/{training.process.pid}/environ").read_text().split("\0")
    return next(line.partition("=")[2] for line in environment if line.startswith("FTQ_REPORT_FD="))


@pytest.mark.long
def test_a_rank_that_is_killed_ends_the_training(two: Training) -> None:
    two.until_both_train()
    os.kill(two.seen(1)["pid"], signal.SIGKILL)
    assert two.end(PATIENCE) == -signal.SIGKILL  # as if it had been killed itself: the same policy follows
    assert two.events("error") == []
    assert "rank 1 ended by signal 9, so the training run ends" in (two.folder / "log").read_text()


@pytest.mark.long
def test_no_rank_outlives_rank_0(two: Training) -> None:
    two.until_both_train()
    other = two.seen(1)["pid"]
    os.kill(two.process.pid, signal.SIGKILL)
    assert two.end(PATIENCE) == -signal.SIGKILL
    ends(other)


@pytest.mark.long
@pytest.mark.parametrize("rank", [0, 1])
def test_the_error_of_any_rank_is_the_training_s(two: Training, rank: int) -> None:
    two.until_both_train()
    other = two.seen(1)["pid"]
    (two.folder / f"fail-{rank}").touch()
    assert two.end(PATIENCE) == 1
    said = {"event": "error", "kind": "memory", "message": "MemoryError: out of memory on one of the cards"}
    blank = {"hint": "", "place": "", "about": ""}
    assert [{**report, "hint": ""} for report in two.events("error")] == [{**said, **blank}]
    ends(other)
