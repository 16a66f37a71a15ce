"""What is decided at the end of a training's steps: from losses alone, without a model."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ftq.errors import UserError
from ftq.files.run_dir import RunDir, read_jsonl
from ftq.spec.options import parse
from tests.tiny import sealed
from worker.stages.engine.speed import Moment, Step
from worker.stages.process.main import Report
from worker.stages.train import checkpoints, train
from worker.stages.train.watcher import Watcher


def watch(folder: Path, losses: list[float], **options: Any) -> tuple[Watcher, list[tuple[bool, bool]]]:
    """A watcher that has seen these validation losses, at steps 10, 20...: (should stop, should save) after each."""
    spec = parse({"model": "m", **options})
    watcher = Watcher(RunDir(folder), 0, spec, Report(), "mark", {}, evaluates=True, checkpoint=None)
    wishes = []
    for number, loss in enumerate(losses, start=1):
        state = SimpleNamespace(global_step=10 * number, max_steps=1000, epoch=number / 10)
        control = SimpleNamespace(should_evaluate=True, should_training_stop=False, should_save=False)
        watcher.logs(state, control, {"loss": 1.0, "learning_rate": 0.1})
        watcher.logs(state, control, {"eval_loss": loss, "eval_runtime": 1.234})
        wishes.append((control.should_training_stop, control.should_save))
    return watcher, wishes


def test_it_stops_after_so_many_evaluations_without_a_better_loss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watcher, wishes = watch(tmp_path, [3.0, 2.0, 2.5, 2.0], early_stopping=2)
    assert wishes == [(False, False)] * 3 + [(True, True)]
    assert watcher.has_stopped_early
    assert "stopped early at step 40: the validation loss was best at step 20 (2.0000)" in capsys.readouterr().err
    lines = list(read_jsonl(watcher.metrics))
    assert [(line["valid_loss"], line["valid_seconds"]) for line in lines] == [
        (loss, 1.23) for loss in (3.0, 2.0, 2.5, 2.0)
    ]


def test_it_says_that_without_held_out_examples_nothing_is_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for evaluates, options in [(False, {"keep_best": True}), (False, {"early_stopping": 1}), (False, {}),
                               (True, {"keep_best": True})]:  # fmt: skip
        Watcher(RunDir(tmp_path), 0, parse({"model": "m", **options}), Report(), "mark", {}, evaluates, checkpoint=None)
        said = "early_stopping and keep_best have nothing to judge by" in capsys.readouterr().err
        assert said == (not evaluates and bool(options))


@pytest.mark.parametrize(("losses", "patience"), [([3.0, 2.5, 2.0, 1.0], 1), ([1.0, 2.0], 2), ([1.0, 2.0, 3.0], None)])
def test_it_goes_on_while_the_loss_gets_better_or_nobody_asked(
    tmp_path: Path, losses: list[float], patience: int | None
) -> None:
    watcher, wishes = watch(tmp_path, losses, early_stopping=patience)
    assert not any(stop for stop, _ in wishes)
    assert not watcher.has_stopped_early


def test_each_better_loss_is_saved_and_the_best_is_kept_and_taken(tmp_path: Path) -> None:
    watcher, wishes = watch(tmp_path, [3.0, 2.0, 2.5, 1.9, 1.95], keep_best=True)
    assert [save for _, save in wishes] == [True, True, False, True, False]
    for step in (40, 50, 60, 70):
        path = sealed(RunDir(tmp_path), 0, step, mark="mark")
        watcher.saved(SimpleNamespace(global_step=step))
    assert watcher.result.name == "checkpoint-40"
    steps = sorted(found.step for found in checkpoints.find_all(RunDir(tmp_path)))
    assert steps == [40, 60, 70]  # the last two, and the best
    plain, _ = watch(tmp_path / "plain", [2.0, 3.0])
    plain.last = path
    assert plain.result == path


def test_a_validation_loss_that_is_no_number_is_the_worst(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nan = float("nan")
    watcher, wishes = watch(tmp_path, [nan, 3.0, nan, 2.0, float("inf")], keep_best=True, early_stopping=3)
    assert [save for _, save in wishes] == [True, True, False, True, False]
    assert "the validation loss at step 10 is nan: worse than any number" in capsys.readouterr().err
    for step in (10, 40, 50):
        sealed(RunDir(tmp_path), 0, step, mark="mark")
        watcher.saved(SimpleNamespace(global_step=step))
    assert watcher.result.name == "checkpoint-40"
    text = watcher.metrics.read_text()
    assert "NaN" not in text and "Infinity" not in text
    lines = list(read_jsonl(watcher.metrics))
    assert [line.get("valid_loss") for line in lines] == [None, 3.0, None, 2.0, None]
    found = checkpoints.find_all(RunDir(tmp_path), "mark")[0]
    again = Watcher(RunDir(tmp_path), 1, watcher.spec, Report(), "mark", {}, evaluates=True, checkpoint=found)
    assert again.losses == [(loss, step) for loss, step in watcher.losses if step <= found.step]
    _, wishes = watch(tmp_path / "early", [1.0, nan, nan], early_stopping=2)
    assert wishes[-1] == (True, True)
    assert "was best at step 10 (1.0000)" in capsys.readouterr().err


@pytest.mark.parametrize(("attempt", "first"), [(1, 60), (2, 30), (3, 20), (9, 10)])
def test_the_first_checkpoint_comes_early_and_sooner_after_attempts_that_brought_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attempt: int, first: int
) -> None:
    now = [1000.0]
    monkeypatch.setattr("worker.stages.train.watcher.time.monotonic", lambda: now[0])
    spec = parse({"model": "m"})
    watcher = Watcher(RunDir(tmp_path), attempt, spec, Report(), "mark", {}, evaluates=False, checkpoint=None)
    now[0] += 200  # the model is loaded
    watcher.begins(SimpleNamespace(global_step=0))
    saved = []
    for second in range(1, 1000):
        now[0] += 1
        if watcher._is_time_to_save(second):
            saved.append(second)
            sealed(RunDir(tmp_path), attempt, second, mark="mark")
            watcher.saved(SimpleNamespace(global_step=second))
    assert saved == list(range(first, 1000, 300))


def test_what_another_machine_s_training_left_is_neither_the_best_nor_in_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(tmp_path)
    for step in (20, 200, 300):
        sealed(run, 0, step, mark="another's")
    watcher, _ = watch(tmp_path, [3.0, 2.0, 2.5], keep_best=True)
    assert "note: message=starts anew: the checkpoint at step 300 is of a training run" in capsys.readouterr().err
    assert watcher.best_path is watcher._find_best() is None
    path = sealed(run, 0, 30, mark="mark")
    watcher.saved(SimpleNamespace(global_step=30))
    assert watcher.result == path and path.is_dir()


def test_a_step_is_not_saved_for_a_lack_of_memory_before_its_evaluation_is_done(tmp_path: Path) -> None:
    watcher, _ = watch(tmp_path, [], eval_steps=2)
    saved: list[Path] = []
    control = SimpleNamespace(should_training_stop=False)
    watcher.begins(SimpleNamespace(global_step=0))
    for step in (1, 2):
        state = SimpleNamespace(global_step=step, max_steps=9, epoch=0.5)
        trainer = SimpleNamespace(
            state=state, model=SimpleNamespace(zero_grad=lambda **_: None),
            _save_checkpoint=lambda *_, step=step: saved.append(sealed(watcher.run, 0, step)),
        )  # fmt: skip
        watcher.step_ends(state, control)
        train._rescue(trainer, watcher)
    assert [path.name for path in saved] == ["checkpoint-1"]
    watcher.logs(state, control, {"eval_loss": 2.0, "eval_runtime": 1.0})
    train._rescue(trainer, watcher)
    assert [path.name for path in saved] == ["checkpoint-1", "checkpoint-2"]


def test_a_loss_that_is_no_number_stops_the_training(tmp_path: Path) -> None:
    spec = parse({"model": "m"})
    watcher = Watcher(RunDir(tmp_path), 0, spec, Report(), "mark", {}, evaluates=False, checkpoint=None)
    state = SimpleNamespace(global_step=3, max_steps=9, epoch=0.5)
    control = SimpleNamespace(should_evaluate=False)
    watcher.logs(state, control, {"loss": 1.0, "learning_rate": 0.1, "grad_norm": float("inf")})
    assert [line["grad_norm"] for line in read_jsonl(watcher.metrics)] == [None]
    with pytest.raises(UserError, match=r"^the training diverged: at step 3 the loss is nan, it was 1\.000 at step 3$"):
        watcher.logs(state, control, {"loss": float("nan"), "learning_rate": 0.1})


STEADY = [2.3, 2.1, 2.0, 1.9, 2.1]


@pytest.mark.parametrize(
    ("losses", "valid", "options", "outcome"),
    [
        ([2.31, 9.0, 15.2, 18.0, 16.7], None, {}, "fails"),
        ([2.31, 9.0, 15.2, 18.0, 16.7], 15.0, {}, "fails"),
        ([2.31, 9.0, 15.2, 18.0, 16.7], 3.1, {}, "nothing"),  # what stands at the end is no worse than it was
        ([2.31, 9.0, 15.2, 18.0, 16.7], 15.0, {"keep_best": True}, "nothing"),  # another adapter is taken
        ([2.31, 15.2, 18.0, 4.1, 3.9], None, {}, "warns"),
        ([2.31, 15.2, 18.0, 16.7, 3.0], None, {}, "nothing"),
        ([2.31, 15.2, 18.0], None, {}, "nothing"),  # nobody knows what more steps bring
        (STEADY, None, {}, "nothing"),
        ([12.0, 13.1, 12.9, 12.5, 12.8], None, {}, "nothing"),  # it was so before the training
    ],
)
def test_a_training_that_ends_worse_than_guessing_is_the_users_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], losses: list[float], valid: float | None,
    options: dict[str, Any], outcome: str,
) -> None:  # fmt: skip
    spec = parse({"model": "m", **options})
    watcher = Watcher(RunDir(tmp_path), 0, spec, Report(), "mark", {}, True, None, calmer="Lower learning_rate.")
    if options:
        watcher.best_path = tmp_path
    for step, loss in enumerate(losses, start=1):
        line = {"step": step, "train_loss": loss} | ({"valid_loss": valid} if valid and step == len(losses) else {})
        with watcher.metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")
    if outcome == "fails":
        with pytest.raises(UserError) as told:
            watcher.ended(49_152)
        said = "its loss rose from 2.310 (step 1) to 16.700 (step 5)"
        assert told.value.message == f"the training diverged: {said}, and guessing gives 10.8"
        assert (told.value.hint, told.value.about) == ("Lower learning_rate.", "options")
    else:
        watcher.ended(49_152)
        said = "its loss rose from 2.310 (step 1) to 3.900 (step 5): the model may have"
        assert (said in capsys.readouterr().err) == (outcome == "warns")


class Point:
    """A moment of a device whose clock the test sets."""

    def __init__(self, now: float, is_past: bool = True) -> None:
        self.now, self.is_past = now, is_past

    def until(self, later: Point) -> float:
        return later.now - self.now


def test_the_speed_is_that_of_steps_without_those_that_compile_and_what_lies_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watcher, _ = watch(tmp_path, [])
    monkeypatch.setattr("worker.stages.train.watcher.gc.freeze", lambda: None)
    moments = iter([0.0, 20.0, 28.0, 29.0, 45.0, 46.0, 47.0])
    monkeypatch.setattr("worker.stages.train.watcher.Moment", lambda: Point(next(moments)))
    watcher.steps_per_epoch = 5
    watcher.begins(SimpleNamespace(global_step=0))
    control = SimpleNamespace(should_evaluate=False, should_training_stop=False, should_save=False)
    for step in range(1, 6):
        watcher.tokens += 100
        watcher.step_ends(SimpleNamespace(global_step=step, max_steps=5), control)
        if step == 3:
            watcher.goes_on()  # after an evaluation of 16 seconds
    assert watcher.speed.now() == (100.0, 1.0)
    watcher.speed.add(Step(Point(47.0), 500, Point(99.0, is_past=False), 1000))  # type: ignore[arg-type]  # not yet there
    assert watcher.speed.now() == (100.0, 1.0)
    watcher.ends(SimpleNamespace(global_step=5), played=3)
    assert "'played': 3, 'step_seconds': 1.0, 'tokens_per_second': 100.0, 'starting': 26.0" in capsys.readouterr().err


def test_a_moment_is_told_by_the_host_s_clock_where_there_is_no_gpu() -> None:
    first, second = Moment(), Moment()
    assert first.is_past and first.until(second) >= 0
