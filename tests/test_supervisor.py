"""The supervisor with real processes: the stages are fakes that take no time, the store is real, there is no broker."""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from power_cut import Disk

from ftq import queue
from ftq.client import view
from ftq.errors import LeaseLost, RunError, Unavailable
from ftq.evaluation.evaluation import Asked, Evaluation, Kind, Question, Said, Scores, Verdict
from ftq.files.run_dir import STAGES, RunDir, write_json
from ftq.plan import calibration
from ftq.plan.plan import Handover, Plan
from ftq.settings import Settings
from ftq.spec.options import parse
from ftq.store.attempts import MOST_LOSSES
from ftq.store.store import RunStore
from tests.tools import PATIENCE, gone, succeed, until
from worker.attempt import stage_process, supervisor, watch
from worker.attempt.remote.exchange import Exchange
from worker.attempt.supervisor import Supervisor
from worker.reconciler import Reconciler

WORKER = "w1"
PLAN = Plan("trl", False, "float32")
BEHIND = ("checkpoint", "progress")  # events that come as often as the clock lets them


class Rig:
    """A worker's pool child, so to speak."""

    def __init__(self, home: Path, lease_seconds: float = 60.0) -> None:
        self.settings = Settings(home, f"redis+socket://{home}/nobody.sock", f"sqlite:///{home}/ftq.db",
                                 lease_seconds=lease_seconds)  # fmt: skip
        app = queue.make_app(self.settings)
        app.conf.task_publish_retry_policy = {"max_retries": 0}
        app.conf.broker_transport_options |= {"max_retries": 0}
        self.store = RunStore(self.settings.database_url)
        self.shown: list[dict[str, Any]] = []
        self.supervisor = Supervisor(app, self.settings, self.store, WORKER, self.shown.append)

    def submit(self, run_id: str, behave: dict[str, Any] | None = None, *, done: int = 0, **options: Any) -> RunDir:
        """A run with its folder; `done` stages of it count as succeeded."""
        spec = parse({"model": "qwen3-4b", **options}).model_dump()
        folder = RunDir(self.settings.home / run_id)
        folder.documents.mkdir(parents=True)
        if behave:
            write_json(folder.documents / "behave.json", behave)
        write_json(folder.run_json, {"id": run_id, "name": run_id, "spec": spec, "documents_hash": "h"})
        self.store.create(run_id, run_id, spec, "h", "family")
        if done:
            succeed(self.store, run_id, *STAGES[:done])
        return folder

    def start(self, stage: str, attempt: int = 1) -> threading.Thread:
        thread = threading.Thread(target=self.supervisor.run, args=("r", stage, attempt))
        thread.start()
        return thread

    def said(self, run_id: str = "r") -> list[tuple[str | None, int | None, str]]:
        events = self.store.events(run_id)
        return [(event.stage, event.attempt, event.kind) for event in events if event.kind not in BEHIND]

    def messages(self, kind: str) -> list[str]:
        return [event.message for event in self.store.events("r") if event.kind == kind]

    def wait_for(self, kind: str) -> dict[str, Any]:
        """The data of the first event of this kind."""
        event = until(lambda: next((event for event in self.store.events("r") if event.kind == kind), None))
        return event.data or {}


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(stage_process, "PACKAGE", "tests.fake_stages")
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.1)
    monkeypatch.chdir(Path(__file__).parent.parent)  # where the stages' processes find `tests`
    rig = Rig(tmp_path)
    yield rig
    rig.store.close()


def names(folder: RunDir) -> set[str]:
    return {str(path.relative_to(folder.path)) for path in folder.path.rglob("*") if path.is_file()} - {
        f".{stage}.lock" for stage in STAGES
    }


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("this shouldn't be executed")


# ---- success, cache -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (
            None,
            "family:2 (not promoted, family:latest stays family:1: the latest version has no evaluation to compare by)",
        ),
        (
            "right",
            "family:2 (not promoted, family:latest stays family:1: of 1 questions that both were asked it has 0 "
            "right, the latest version 1, which may be chance)",
        ),
        ("wrong", "family:2 (family:latest)"),
    ],
)
def test_a_run_may_become_the_latest_version_only_if_it_is_no_worse(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, before: str | None, expected: str
) -> None:
    """It gets the one question wrong."""

    def evaluated(folder: RunDir, verdict: str) -> None:
        question = Question(Kind.HELD_BACK, "Why?", ("So.",))
        asked = Asked(question, {"q8_0": Said("", Verdict(verdict), 0.0, True, 1)})
        made = Evaluation(
            model="m",
            counts={},
            available={},
            max_tokens=1,
            seconds=0.0,
            questions=(asked,),
            subjects=(Scores(subject="q8_0", tally={}),),
        )
        write_json(folder.evaluation, made.to_json())

    earlier = rig.submit("before", done=len(STAGES))
    if before:
        evaluated(earlier, before)
    publish = RunDir.put_in_place

    def published(folder: RunDir, stage: str, partial: Path) -> None:
        publish(folder, stage, partial)
        evaluated(folder, "wrong")

    monkeypatch.setattr(RunDir, "put_in_place", published)
    rig.submit("r", done=len(STAGES) - 1, promote="better")
    assert rig.supervisor.run("r", STAGES[-1], 1)
    assert rig.messages("version") == [expected]


def test_a_run_from_documents_to_answers_and_the_next_one_from_the_cache(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftq.files.run_dir.LINKED_FROM", 0)
    first = rig.submit("r", max_steps=4, quantizations=["q8_0", "f16"], prompts=["why?"])
    assert [rig.supervisor.run("r", stage, 1) for stage in STAGES] == [True] * len(STAGES)
    made = {"dataset/train.jsonl", "adapter/steps.json", "metrics.jsonl", "model-q8_0.gguf", "model-f16.gguf",
            "answers.jsonl", "eval.json"}  # fmt: skip
    assert names(first) == {"run.json", *made, *(f"logs/{stage}.log" for stage in STAGES)}
    run = rig.store.get("r")
    assert (run.status, {stage.attempt for stage in run.stages}) == ("succeeded", {1})
    assert [[file.path for file in stage.artifacts or []] for stage in run.stages] == [
        ["dataset"], ["adapter", "metrics.jsonl"], ["model-f16.gguf", "model-q8_0.gguf"], ["answers.jsonl"],
        ["eval.json"],
    ]  # fmt: skip
    assert rig.said() == [
        (None, None, "submitted"),
        *((stage, 1, kind) for stage in STAGES for kind in ("claimed", "started", "succeeded")),
        (STAGES[-1], None, "version"),
    ]
    assert rig.messages("progress") == [f"{25 * n} %, step {n} of 4, loss {1 / n:.4f}" for n in (1, 2, 3)]
    assert [report["step"] for report in rig.shown] == [1, 2, 3, 4]
    assert run.stage("train").progress is not None
    assert run.stage("train").progress["percent"] == 100
    assert list(first.read_run()["spec"]) == list(run.spec)

    monkeypatch.setattr(supervisor, "StageProcess", refuse)
    second = rig.submit("s", max_steps=4, quantizations=["q8_0", "f16"], prompts=["why?"])
    assert [rig.supervisor.run("s", stage, 1) for stage in STAGES] == [True] * len(STAGES)
    assert rig.said("s") == [
        (None, None, "submitted"), *((stage, 1, kind) for stage in STAGES for kind in ("claimed", "cache_hit")),
        (STAGES[-1], None, "version"),
    ]  # fmt: skip
    assert names(second) == {"run.json", *made, "report.html"}  # the fake stage made none: that is no reason to lack it
    assert all((second.path / name).samefile(first.path / name) for name in made)
    cached = rig.store.get("s")
    assert {stage.cached for stage in cached.stages} == {True}
    assert [stage.artifacts for stage in cached.stages][:-1] == [stage.artifacts for stage in run.stages][:-1]
    assert [stage.key for stage in cached.stages] == [stage.key for stage in run.stages]


def test_a_training_run_from_the_cache_shows_the_loss_of_the_one_that_was_taken(rig: Rig) -> None:
    for name in ("r", "s", "t"):
        rig.submit(name, max_steps=4, epoch_adapters=1)
        assert [rig.supervisor.run(name, stage, 1) for stage in ("prepare", "train")] == [True, True]
    trained, *cached = (rig.store.get(name) for name in ("r", "s", "t"))
    assert [view.loss(one) for one in (trained, *cached)] == [0.25, 0.25, 0.25]
    assert {view.remark(one.stage("train")) for one in cached} == {
        "cached: its inputs haven't changed; step 4, loss 0.250"
    }


def test_what_a_paused_attempt_measured_is_not_compared_with_the_plan_of_the_cache(rig: Rig) -> None:
    plan = {"engine": "trl", "steps": 100, "predicted": {"peak": 1000, "seconds": 180.0, "step_seconds": 1.7}}
    for name, steps in (("r", 100), ("s", 40)):
        rig.submit(name, max_steps=4)
        assert rig.supervisor.run(name, "prepare", 1) is True
        token = rig.store.claim(name, "train", 1, WORKER, 60)
        assert token
        rig.store.plan(token, "a plan", {**plan, "measured": {"seconds": 67.0, "steps": steps}})
        rig.store.release(token, "paused", "paused")
        if name == "r":
            assert rig.supervisor.run("r", "train", 2) is True
    assert rig.supervisor.run("s", "train", 2) is True
    trained, cached = (rig.store.get(name).stage("train") for name in ("r", "s"))
    assert (trained.cached, cached.cached) == (False, True)
    assert calibration.compare(trained.plan)
    assert cached.plan and calibration.compare(cached.plan) == {}


def test_what_is_said_while_files_are_sent_leaves_the_loss_of_the_cache(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = Exchange.publish

    def say_and_publish(exchange: Exchange, folder: RunDir, stage: str, attempt: int) -> None:
        exchange.watch.doing(f"sending {stage}: 1.0 MB of 2.0 MB")
        publish(exchange, folder, stage, attempt)
        exchange.watch.doing(None)

    monkeypatch.setattr(Exchange, "publish", say_and_publish)
    for name in ("r", "s"):
        rig.submit(name, max_steps=4, epoch_adapters=1)
        assert [rig.supervisor.run(name, stage, 1) for stage in ("prepare", "train")] == [True, True]
    trained, cached = (rig.store.get(name).stage("train") for name in ("r", "s"))
    assert (trained.cached, cached.cached) == (False, True)
    for stage in (trained, cached):
        assert stage.progress
        assert [stage.progress[name] for name in ("percent", "step", "loss", "doing")] == [100.0, 4, 0.25, None]


def test_a_stage_has_succeeded_when_its_files_are_on_the_disk(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = rig.submit("r", done=1, max_steps=1)
    disk, succeed, left = Disk(folder.path, monkeypatch), rig.store.succeed, list[dict[str, str]]()

    def succeeded(*given: Any) -> None:
        left.append(disk.after_power_cut())
        succeed(*given)

    monkeypatch.setattr(rig.store, "succeed", succeeded)
    assert rig.supervisor.run("r", "train", 1) is True
    made = {name: (folder.path / name).read_text() for name in ("adapter/steps.json", "metrics.jsonl")}
    assert disk.too_early == [] and made.items() <= left[0].items()


def test_the_key_of_prepare_has_the_commit_that_it_downloaded(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    main = tmp_path / "hub" / "models--Qwen--Qwen3-4B" / "refs" / "main"
    put = RunDir.put_in_place

    def downloaded(*given: Any) -> None:
        main.parent.mkdir(parents=True)
        main.write_text("a" * 40)
        put(*given)

    rig.submit("r")
    rig.submit("s")
    with monkeypatch.context() as patch:
        patch.setattr(RunDir, "put_in_place", downloaded)
        assert rig.supervisor.run("r", "prepare", 1) is True
    assert rig.supervisor.run("s", "prepare", 1) is True
    assert [rig.store.get(run).stages[0].cached for run in ("r", "s")] == [False, True]


def test_the_lease_outlives_a_slow_disk(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.submit("r")
    passed, monotonic, renewed = [0.0], time.monotonic, threading.Event()
    rig.store.clock = lambda: time.time() + passed[0]
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + passed[0])
    renew = rig.store.renew

    def slow(_: int) -> None:
        passed[0] = 40.0  # of a lease of 60
        assert renewed.wait(PATIENCE)

    def note(token: str, lease: float) -> None:
        renew(token, lease)
        if passed[0]:
            renewed.set()

    monkeypatch.setattr("ftq.files.run_dir.SYNC_SECONDS", 0.01)
    monkeypatch.setattr(rig.store, "renew", note)
    monkeypatch.setattr(os, "fsync", slow)
    assert rig.supervisor.run("r", "prepare", 1) is True


def test_copying_from_the_cache_where_there_are_no_hard_links_keeps_the_lease(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.submit("old", quantizations=["q8_0", "f16"])
    assert [rig.supervisor.run("old", stage, 1) for stage in STAGES] == [True] * len(STAGES)
    folder = rig.submit("r", quantizations=["q8_0", "f16"])
    assert [rig.supervisor.run("r", stage, 1) for stage in STAGES[:2]] == [True] * 2
    passed, monotonic = [0.0], time.monotonic
    rig.store.clock = lambda: time.time() + passed[0]
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + passed[0])

    def slow(*_: Any) -> None:
        passed[0] += 40  # of a lease of 60
        assert rig.store.expire(60) == []
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("ftq.files.run_dir.LINKED_FROM", 0)
    monkeypatch.setattr(os, "link", slow)
    assert rig.supervisor.run("r", "export", 1) is True
    assert passed[0] == 80 and rig.said()[-1] == ("export", 1, "cache_hit")
    assert len(folder.ggufs()) == 2


def test_what_the_user_wants_anew_comes_neither_from_the_cache_nor_from_an_old_checkpoint(rig: Rig) -> None:
    folder = rig.submit("r", done=1, max_steps=1)
    assert rig.supervisor.run("r", "train", 1)
    rig.store.cancel("r")
    rig.store.retry("r", "train")
    (folder.checkpoints / "1" / "1.json").write_text("[77]")  # it stays until the export has succeeded
    assert rig.supervisor.run("r", "train", 2)
    assert json.loads((folder.adapter / "steps.json").read_text())["steps"] == [1]
    assert ("train", 2, "started") in rig.said()


def test_anew_holds_for_later_attempts_too_if_the_first_is_lost_early(rig: Rig) -> None:
    folder = rig.submit("r", {"train": {"1": "user", "3": "kill"}}, done=1, max_steps=4)
    assert rig.supervisor.run("r", "train", 1) is False
    Handover(plan=replace(PLAN, batch_size=1)).write(folder)
    assert [path.name for path in folder.checkpoints.glob("1/*.json")]
    rig.store.retry("r", "train")
    assert rig.store.claim("r", "train", 2, "a worker that is lost at once", 60)
    expire(rig)
    assert rig.supervisor.run("r", "train", 3) is False
    assert rig.messages("resumed") == [] and Handover.read(folder) == Handover()
    kept = Handover(plan=replace(PLAN, batch_size=2))
    kept.write(folder)
    assert rig.supervisor.run("r", "train", 4) is True
    assert Handover.read(folder) == kept
    assert rig.messages("resumed") == ["resumed from step 1"]  # what was done since then is kept
    assert json.loads((folder.adapter / "steps.json").read_text())["steps"] == [1, 2, 3, 4]


# ---- failures -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        ("user", ("user", "the documents are in Klingon", "Translate them.")),
        ("bug", ("bug", "RuntimeError: this is a bug",
                 "`ftq logs r` has the details; `ftq retry r` tries again.")),
        ("exit", ("bug", "prepare ended with exit code 3 and said nothing",
                  "`ftq logs r --stage prepare` has the full log.")),
        ("abort", ("bug", "prepare ended inside native code (llama.cpp, CUDA): SIGABRT",
                   "`ftq logs r --stage prepare` has the full log.")),
    ],
)  # fmt: skip
def test_what_is_not_tried_again(rig: Rig, wish: str, error: tuple[str, str, str]) -> None:
    folder = rig.submit("r", {"prepare": {"1": wish}})
    assert rig.supervisor.run("r", "prepare", 1) is False
    run, about = rig.store.get("r"), "training" if wish == "user" else ""
    assert (run.status, run.error, run.stages[0].attempt) == ("failed", RunError(*error, "prepare.1 on w1", about), 1)
    assert rig.said()[1:] == [("prepare", 1, "claimed"), ("prepare", 1, "started"), ("prepare", 1, "failed")]
    assert rig.messages("failed") == [f"failed ({error[0]}): {error[1]}"]
    assert names(folder) == {"run.json", "documents/behave.json", "logs/prepare.log"}
    assert not folder.partial("prepare", 1).exists()
    log = folder.log("prepare").read_text()
    assert ("Traceback" in log) is (wish == "bug")
    assert log.endswith(f"--- failed ({error[0]}): {error[1]}\n{error[2]}\n")


def test_a_killed_process_is_explained_and_tried_again_after_a_wait(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(queue, "send", lambda _, run: sent.append(run.stages[0].attempt))
    rig.submit("r", {"prepare": {"1": "kill", "2": "kill"}})
    now = time.time()
    rig.store.clock = lambda: now  # however long the processes take, the wait of 2 s isn't over
    assert [rig.supervisor.run("r", "prepare", attempt) for attempt in (1, 2, 3)] == [False] * 3
    why = "prepare was killed by signal 9: a memory limit, or kill -9"
    assert rig.messages("lost") == [why, f"{why}; tried again in 2 s, as it was lost 2 times in a row"]
    assert sent == [2]  # nobody would take the third one yet
    stage = rig.store.get("r").stages[0]
    assert (stage.status, stage.attempt, stage.tries, stage.losses) == ("queued", 3, 0, 2)
    rig.store.clock = lambda: now + 2
    assert rig.supervisor.run("r", "prepare", 3) is True


def test_a_killed_training_goes_on_from_its_checkpoint(rig: Rig) -> None:
    folder = rig.submit("r", {"train": {"1": "kill"}}, done=1, max_steps=4)
    assert rig.supervisor.run("r", "train", 1) is False
    assert rig.supervisor.run("r", "train", 2) is True
    assert rig.messages("resumed") == ["resumed from step 1"]
    assert json.loads((folder.adapter / "steps.json").read_text())["steps"] == [1, 2, 3, 4]
    stage = rig.store.get("r").stage("train")
    assert (stage.tries, stage.losses) == (1, 0)
    assert list(folder.checkpoints.glob("*/*.json"))  # what the adapter was taken from stays until something read it
    assert rig.supervisor.run("r", "export", 1) is True
    assert not folder.checkpoints.exists()


def test_checkpoints_outlive_an_export_that_failed(rig: Rig) -> None:
    folder = rig.submit("r", {"export": {"1": "user"}}, done=1, max_steps=1)
    assert rig.supervisor.run("r", "train", 1) is True
    saved = names(folder) & {"checkpoints/1/1.json"}
    assert rig.supervisor.run("r", "export", 1) is False
    assert saved <= names(folder) and saved
    rig.store.retry("r")
    assert rig.supervisor.run("r", "export", 2) is True
    assert not folder.checkpoints.exists()


def test_memory_is_adapted(rig: Rig) -> None:
    folder = rig.submit("r", {"train": {"1": "memory"}}, done=1, max_steps=1)
    assert rig.supervisor.run("r", "train", 1) is False
    assert rig.messages("retried") == ["retried with less memory: batch_size=1, gradient_accumulation_steps=8"]
    assert rig.store.get("r").stage("train").changes == {"batch_size": 1, "gradient_accumulation_steps": 8}
    assert rig.supervisor.run("r", "train", 2) is True
    assert json.loads((folder.adapter / "steps.json").read_text()) == {"steps": [1], "batch_size": 1}
    plan = rig.store.get("r").stage("train").plan
    assert plan and (plan["batch_size"], plan["gradient_accumulation_steps"]) == (1, 8)
    assert Handover.read(folder).changes == {"batch_size": 1, "gradient_accumulation_steps": 8}
    log = folder.log("train").read_text()
    assert log.count("changed for lack of memory: batch_size=1, gradient_accumulation_steps=8\n") == 1


def test_what_earlier_trainings_have_shown_is_laid_before_the_next_one(rig: Rig) -> None:
    plan = {"card": "CPU", "engine": "trl", "load_in_4bit": False, "gradient_checkpointing": False, "steps": 10,
            "predicted": {"peak": 1000, "seconds": 10.0, "step_seconds": 1.0},
            "measured": {"peak": None, "seconds": 13.5, "steps": 10, "step_seconds": 1.5}}  # fmt: skip
    rig.submit("old", done=1)
    token = rig.store.claim("old", "train", 1, WORKER, 60)
    assert token
    rig.store.plan(token, "", plan)
    rig.store.succeed(token, None, [])
    folder = rig.submit("r", {"train": {"1": "kill"}}, done=1, max_steps=1)
    assert rig.supervisor.run("r", "train", 1) is False
    way = ["trl", False, False, False, "", False, 1]
    correction = {"way": way, "peak": None, "seconds": 1.5, "bound": "", "fills": None, "here": True, "alike": True}
    start = {"way": way, "began": "first", "seconds": None, "here": True, "alike": "rows"}
    told = {"changes": {}, "corrections": [correction], "plan": None, "starts": [start]}
    assert json.loads(folder.train_json.read_text()) == told
    rig.store.delete("old")
    assert rig.supervisor.run("r", "train", 2) is True
    assert Handover.read(folder) == Handover()


# ---- asked to stop ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("deaf", [False, True])
def test_cancel_of_a_running_stage(rig: Rig, monkeypatch: pytest.MonkeyPatch, deaf: bool) -> None:
    monkeypatch.setattr(watch, "CANCEL_GRACE", 0.3)
    stage = "train" if deaf else "prepare"  # a training takes note of SIGTERM and saves; this one never looks again
    folder = rig.submit("r", {stage: {"1": "hang"}}, done=int(deaf), max_steps=1)
    thread = rig.start(stage)
    pid = rig.wait_for("started")["pid"]
    if deaf:
        until(lambda: rig.shown)  # it has come to its hang
    rig.store.cancel("r")
    thread.join(PATIENCE)  # what hangs would never end by itself
    assert not thread.is_alive() and gone(pid)
    run = rig.store.get("r")
    assert (run.status, run.current and run.current.attempt, run.error) == ("cancelled", 1, None)
    assert rig.messages("cancelled") == ["cancelled by the user", "stopped: cancelled by the user"]
    assert not list(folder.path.glob("*.partial"))


def told_to_stop(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once a stage's process has been asked to stop."""
    told, terminate = threading.Event(), stage_process.StageProcess.terminate

    def tell(self: stage_process.StageProcess) -> None:
        terminate(self)
        told.set()

    monkeypatch.setattr(stage_process.StageProcess, "terminate", tell)
    return told


def test_a_cancel_after_a_pause_doesnt_wait_for_the_pauses_grace(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "CANCEL_GRACE", 0.3)
    told = told_to_stop(monkeypatch)
    rig.submit("r", {"train": {"1": "hang"}}, done=1, max_steps=1)
    thread = rig.start("train")
    until(lambda: rig.shown)  # it has come to its hang
    rig.store.pause("r")
    assert told.wait(PATIENCE)
    rig.store.cancel("r")
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert rig.store.get("r").status == "cancelled"


def test_the_grace_of_a_cancel_is_below_ten_seconds() -> None:
    assert watch.CANCEL_GRACE + watch.LOOK_SECONDS < 10


def test_a_pause_keeps_what_was_done_and_resume_goes_on_at_that_step(rig: Rig) -> None:
    folder = rig.submit("r", {"train": {"1": "wait"}}, done=1, max_steps=10, save_steps=1000)
    thread = rig.start("train")
    until(lambda: len(rig.shown) == 5)  # half of its steps: it waits
    rig.store.pause("r")
    thread.join(PATIENCE)
    run = rig.store.get("r")
    assert (run.status, run.stages[1].attempt, run.stages[1].tries) == ("paused", 2, 0)
    assert rig.messages("handed_back") == ["stopped for a pause; what was done is kept"]
    assert [path.name for path in folder.checkpoints.glob("1/*.json")] == ["5.json"]  # which the pause made it save
    assert rig.supervisor.run("r", "train", 2) is False  # not while it is paused
    rig.store.resume("r")
    assert rig.supervisor.run("r", "train", 2) is True
    assert rig.messages("resumed") == ["resumed by the user", "resumed from step 5"]
    assert [report["step"] for report in rig.shown] == list(range(1, 11))  # none twice, none left out
    assert json.loads((folder.adapter / "steps.json").read_text())["steps"] == list(range(1, 11))


def test_a_worker_that_is_told_to_stop_hands_its_run_back(rig: Rig) -> None:
    rig.store.see_worker(WORKER, "host", ["gpu"], None, 1)
    rig.submit("r", {"prepare": {"1": "hang"}})
    thread = rig.start("prepare")
    pid = rig.wait_for("started")["pid"]
    rig.store.drain_worker(WORKER, True)
    thread.join(PATIENCE)
    assert gone(pid)
    stage = rig.store.get("r").stages[0]
    assert (stage.status, stage.attempt, stage.tries) == ("queued", 2, 0)
    assert rig.said()[-1] == ("prepare", 1, "handed_back")


def test_sigterm_to_the_pool_child_says_nothing_by_itself(rig: Rig) -> None:
    folder = rig.submit("r", {"train": {"1": "wait"}}, done=1, max_steps=2)

    def terminate() -> None:
        rig.wait_for("started")
        os.kill(os.getpid(), signal.SIGTERM)
        (folder.documents / "go").touch()

    thread = threading.Thread(target=terminate)
    thread.start()
    assert rig.supervisor.run("r", "train", 1) is True
    thread.join()
    assert rig.store.get("r").stage("train").status == "succeeded"


@pytest.mark.parametrize("stops", [False, True])
def test_terminate_in_flower_is_told_by_the_main_process(rig: Rig, stops: bool) -> None:
    """A worker that stops has SIGTERM sent to its pool child too, but terminates no task."""
    rig.store.see_worker(WORKER, "host", ["gpu"], None, 1)
    rig.submit("r", {"prepare": {"1": "hang"}})
    main = Reconciler(rig.settings, WORKER, ["gpu"])
    thread = rig.start("prepare")
    rig.wait_for("started")
    if stops:
        rig.store.drain_worker(WORKER, True)
    else:
        main.cancel("r", "prepare", 1)
        main._cancel_terminated()
    thread.join(PATIENCE)
    assert rig.store.get("r").status == ("queued" if stops else "cancelled")
    assert rig.said()[-1] == ("prepare", 1, "handed_back" if stops else "cancelled")
    main.store.close()


def test_a_terminate_that_the_database_didnt_hear_is_told_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.submit("r")
    rig.submit("deleted")
    rig.store.delete("deleted")
    main = Reconciler(rig.settings, WORKER, ["gpu"])
    real, away = main.store.cancel_attempt, [Unavailable("the server is starting")]

    def flaky(*attempt: Any, **options: Any) -> None:
        if away:
            raise away.pop()
        real(*attempt, **options)

    monkeypatch.setattr(main.store, "cancel_attempt", flaky)
    for run_id in ("deleted", "r"):
        main.cancel(run_id, "prepare", 1)
    for _ in range(2):
        main._try(main._cancel_terminated)
    assert rig.store.get("r").status == "cancelled"
    main.store.close()


# ---- one execution --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "attempt"), [("train", 1), ("export", 1), ("infer", 1), ("evaluate", 1), ("prepare", 2), ("prepare", 0)]
)
def test_a_forged_message_starts_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch, stage: str, attempt: int) -> None:
    monkeypatch.setattr(supervisor, "StageProcess", refuse)
    folder = rig.submit("r")
    before = (rig.store.get("r"), rig.store.events("r"), names(folder))
    assert rig.supervisor.run("r", stage, attempt) is False
    assert rig.supervisor.run("../../etc", stage, attempt) is False
    assert (rig.store.get("r"), rig.store.events("r"), names(folder)) == before


def test_only_a_run_that_waits_for_its_next_stage_is_sent(rig: Rig) -> None:
    """False says that it was tried: there is no broker."""
    rig.submit("r")
    assert queue.send(rig.supervisor.app, rig.store.get("r")) is False
    token = rig.store.claim("r", "prepare", 1, WORKER, 60)
    assert token and queue.send(rig.supervisor.app, rig.store.get("r")) is True
    rig.store.succeed(token, None, [])
    assert queue.send(rig.supervisor.app, rig.store.get("r")) is False
    token = rig.store.claim("r", "train", 1, WORKER, 60)
    assert token
    rig.store.fail(token, RunError("bug", "it broke"))
    assert queue.send(rig.supervisor.app, rig.store.get("r")) is True
    rig.store.retry("r")
    rig.store.pause("r")
    assert queue.send(rig.supervisor.app, rig.store.get("r")) is True


def test_a_message_that_comes_twice_is_dropped(rig: Rig) -> None:
    folder = rig.submit("r")
    assert rig.supervisor.run("r", "prepare", 1) is True
    before = (rig.store.get("r"), rig.store.events("r"), names(folder))
    assert rig.supervisor.run("r", "prepare", 1) is False
    assert (rig.store.get("r"), rig.store.events("r"), names(folder)) == before


def expire(rig: Rig) -> None:
    """What another worker's reconciler does when this one has been silent for long."""
    other = RunStore(rig.settings.database_url, lambda: time.time() + 1000)
    assert other.expire(60) == ["r"]
    other.close()


def test_a_lease_that_is_lost_meanwhile_stops_the_process(rig: Rig) -> None:
    folder = rig.submit("r", {"prepare": {"1": "hang"}})
    thread = rig.start("prepare")
    pid = rig.wait_for("started")["pid"]
    expire(rig)
    thread.join(PATIENCE)
    assert not thread.is_alive() and gone(pid)
    assert rig.said()[-2:] == [("prepare", 1, "lost"), ("prepare", 1, "lease_lost")]
    assert names(folder) == {"run.json", "documents/behave.json", "logs/prepare.log"}
    assert rig.supervisor.run("r", "prepare", 2) is True
    assert {path.name for path in folder.outputs("prepare")} == {"dataset"}
    assert not list(folder.path.glob("*.partial"))  # nor what the first attempt had begun


def test_one_that_was_frozen_since_its_claim_leaves_the_next_attempts_files_alone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, get = rig.submit("r", done=1), rig.store.get
    theirs = {"train.2.partial/adapter/half", "checkpoints/2/2.json", "train.1.partial/left"}

    def frozen(run_id: str) -> Any:
        monkeypatch.setattr(rig.store, "get", get)
        expire(rig)
        assert rig.store.claim("r", "train", 2, "w2", 60)
        for name in theirs:
            (folder.path / name).parent.mkdir(parents=True)
            (folder.path / name).write_text("[1, 2]")
        return get(run_id)

    monkeypatch.setattr(rig.store, "get", frozen)
    assert rig.supervisor.run("r", "train", 1) is False
    assert names(folder) == {"run.json", *theirs}
    assert rig.said()[-1] == ("train", 1, "lease_lost")


def test_a_lease_that_is_lost_at_the_last_moment_publishes_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, hold = rig.submit("r"), rig.store.hold

    def late(*given: Any) -> Any:
        expire(rig)
        return hold(*given)

    monkeypatch.setattr(rig.store, "hold", late)
    assert rig.supervisor.run("r", "prepare", 1) is False
    assert folder.outputs("prepare") == []
    assert rig.said()[-1] == ("prepare", 1, "lease_lost")
    assert (rig.store.get("r").status, rig.store.get("r").stages[0].attempt) == ("queued", 2)


def test_a_deleted_run_stops_its_process(rig: Rig) -> None:
    rig.submit("r", {"prepare": {"1": "hang"}})
    thread = rig.start("prepare")
    pid = rig.wait_for("started")["pid"]
    expire(rig)
    rig.store.delete("r")
    thread.join(PATIENCE)
    assert not thread.is_alive() and gone(pid)
    assert rig.store.all() == []


def _supervise(home: Path, lease_seconds: float) -> None:
    Rig(home, lease_seconds).supervisor.run("r", "train", 1)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_a_stage_ends_by_itself_without_its_supervisor(rig: Rig, tmp_path: Path, blow: int) -> None:
    folder = rig.submit("r", done=1, max_steps=100_000, save_steps=100_000)  # never at its end
    rig.store.close()
    child = multiprocessing.get_context("fork").Process(target=_supervise, args=(tmp_path, 60 if blow == 9 else 15))
    child.start()
    pid = rig.wait_for("started")["pid"]
    until(lambda: (rig.store.get("r").stage("train").progress or {}).get("step"))
    assert child.pid
    os.kill(child.pid, blow)
    until(lambda: gone(pid))
    assert len(list(folder.checkpoints.glob("1/*.json"))) == (1 if blow == signal.SIGKILL else 0)
    assert folder.outputs("train") == []
    child.kill()
    child.join()


# ---- the supervisor's own troubles ----------------------------------------------------------------------


def test_a_failure_of_the_supervisor_itself_is_tried_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, put, fail = rig.submit("r"), RunDir.put_in_place, [OSError(28, "No space left on device")]

    def flaky(self: RunDir, stage: str, partial: Path) -> None:
        if fail:
            raise fail.pop()
        put(self, stage, partial)

    monkeypatch.setattr(RunDir, "put_in_place", flaky)
    assert rig.supervisor.run("r", "prepare", 1) is False
    why = "the supervisor failed (OSError: [Errno 28] No space left on device); the log of w1 has the details"
    assert rig.messages("lost") == [why]
    stage = rig.store.get("r").stages[0]
    assert (stage.status, stage.attempt, stage.tries, stage.losses) == ("queued", 2, 0, 1)
    assert rig.supervisor.run("r", "prepare", 2) is True
    assert names(folder) == {"run.json", "dataset/train.jsonl", "logs/prepare.log"}
    assert not list(folder.path.glob("*.partial"))


def test_a_supervisor_that_always_fails_fails_the_run(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.submit("r")
    monkeypatch.setattr(supervisor, "StageProcess", _explode)
    passed = [0.0]
    rig.store.clock = lambda: time.time() + passed[0]
    for attempt in range(1, MOST_LOSSES + 1):
        passed[0] += 120
        assert rig.supervisor.run("r", "prepare", attempt) is False
    error = rig.store.get("r").error
    assert error and error.message == (
        "the supervisor failed (OSError: no more processes); the log of w1 has the details; lost 30 times in a row "
        "without a checkpoint, so either the machine is unstable or the run itself brings its worker down"
    )


def test_beside_an_earlier_attempt_that_doesnt_end_nothing_is_started(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_process, "LOCK_WAIT", 0.3)
    folder = rig.submit("r")
    with (folder.path / ".prepare.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert rig.supervisor.run("r", "prepare", 1) is False
        assert [kind for *_, kind in rig.said()] == ["submitted", "claimed", "lost"]
        (message,) = rig.messages("lost")
        assert f"{socket.gethostname()}: the process of an earlier attempt of prepare was asked to stop" in message
        assert "`kill -9` ends it." in message
    assert rig.supervisor.run("r", "prepare", 2) is True


def test_what_was_replaced_is_removed_when_others_may_write_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, remove, wrote = rig.submit("r"), supervisor.remove, []
    assert rig.supervisor.run("r", "prepare", 1) is True
    rig.store.cancel("r")
    rig.store.retry("r", "prepare")

    def slow(path: Path) -> None:
        if (path / ".replaced").exists():
            rig.store.see_worker("w2", "host", ["gpu"], None, 1)  # SQLite would say that it is locked
            wrote.append([file.name for file in (path / ".replaced").iterdir()])
        remove(path)

    monkeypatch.setattr(supervisor, "remove", slow)
    assert rig.supervisor.run("r", "prepare", 2) is True
    assert wrote == [["dataset"]]
    assert not list(folder.path.glob("*.partial")) and folder.dataset.is_dir()


def _explode(*_: Any) -> Any:
    raise OSError("no more processes")


@pytest.mark.parametrize("trouble", ["no process", "lease lost"])
def test_a_process_that_didnt_start_leaves_no_lock_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise LeaseLost("another process holds this stage now")

    with (tmp_path / ".prepare.lock").open("a") as lock:
        before = set(os.listdir("/proc/self/fd"))
        if trouble == "lease lost":
            fcntl.flock(lock, fcntl.LOCK_EX)  # an earlier attempt's process is still ending
        else:
            monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
        with pytest.raises(LeaseLost if trouble == "lease lost" else OSError):
            stage_process.StageProcess("prepare", [str(tmp_path)], tmp_path / "log", 60, tmp_path, fail)
        assert set(os.listdir("/proc/self/fd")) <= before  # what other tests have left may be closed meanwhile
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("error", [Unavailable("database sqlite:///x can't be used: disk I/O error"), MemoryError()])
@pytest.mark.parametrize("verb", ["progress", "note"])
def test_a_database_that_is_unreachable_for_a_moment_costs_a_report_not_the_stage(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, verb: str, error: Exception
) -> None:
    folder, real = rig.submit("r", done=1, max_steps=3), getattr(rig.store, verb)
    away = [error]

    def flaky(*arguments: Any, **data: Any) -> Any:
        if away and arguments[1:2] != ("started",):
            raise away.pop()
        return real(*arguments, **data)

    monkeypatch.setattr(rig.store, verb, flaky)
    assert rig.supervisor.run("r", "train", 1) is True
    assert not away
    assert json.loads((folder.adapter / "steps.json").read_text())["steps"] == [1, 2, 3]


def test_an_exception_without_a_text_doesnt_end_the_reconcilers_thread(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise MemoryError

    assert Reconciler._try(Reconciler.__new__(Reconciler), fail) is None
    assert caplog.messages == ["reconciler: MemoryError"]


@pytest.mark.parametrize(
    "verb", ["renew", "note", "hold", "hold's end", "succeed", "succeed's answer", "fail", "fail's answer"]
)
def test_a_database_that_is_unreachable_for_a_moment_costs_no_attempt(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    name, _, part = verb.partition("'s ")
    folder = rig.submit("r", {"prepare": {"1": "user"}} if name == "fail" else None)
    away = [Unavailable("database sqlite:///x can't be used: disk I/O error")] * (1 if part == "answer" else 2)
    real = getattr(rig.store, name)

    @contextlib.contextmanager
    def ends_badly(*arguments: Any) -> Iterator[None]:
        with real(*arguments):
            yield
        if away:
            raise away.pop()

    def flaky(*arguments: Any, **data: Any) -> Any:
        if part == "answer":
            real(*arguments, **data)
        if away:
            raise away.pop()
        return real(*arguments, **data)

    monkeypatch.setattr(rig.store, name, ends_badly if part == "end" else flaky)
    assert rig.supervisor.run("r", "prepare", 1) is (name != "fail")
    last = "failed" if name == "fail" else "succeeded"
    assert not away and rig.said()[1:] == [("prepare", 1, kind) for kind in ("claimed", "started", last)]
    assert names(folder) >= ({"logs/prepare.log"} if name == "fail" else {"dataset/train.jsonl"})


def test_a_database_that_is_unreachable_for_longer_than_the_lease_ends_the_attempt(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, monotonic, passed = rig.submit("r"), time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + passed[0])

    def away(*_: Any) -> Any:
        passed[0] += 61
        raise Unavailable("database sqlite:///x can't be used: disk I/O error")

    monkeypatch.setattr(rig.store, "hold", away)
    monkeypatch.setattr(rig.store, "say_lease_lost", away)
    assert rig.supervisor.run("r", "prepare", 1) is False
    assert folder.outputs("prepare") == [] and rig.said()[-1] == ("prepare", 1, "started")
