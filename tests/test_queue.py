"""The queue as it is: a real broker and real workers as processes; only the stages take no time."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from benchmarks import drill, drill_verdict
from benchmarks.drill_faults import FAULTS
from benchmarks.drill_machine import Worker, tell
from ftq import queue
from ftq.files.run_dir import STAGES
from tests import tools
from tests.tools import PATIENCE, container, freeze, until

pytestmark = pytest.mark.slow
WAITS = {"train": {"1": "wait"}}


class Bench(tools.Bench):
    """What it started is in a journal."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.journal = home.parent / "journal.jsonl"
        super().__init__(home, FTQ_JOURNAL=str(self.journal), **environment)

    def waiting(self) -> int:
        """Messages in the broker's queues."""
        return len(queue.messages(self.client._doorbell.app, 0))

    def redis(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.settings.broker_socket))

    def starts(self) -> Counter[tuple[str, str]]:
        """How often a process of (run's name, stage) was started."""
        names = {run.id: run.name for run in self.client.all()}
        lines = map(json.loads, self.journal.read_text().splitlines())
        return Counter((names[line["run"]], line["stage"]) for line in lines if line["event"] == "start")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench(tmp_path / "artifacts") as bench:
        yield bench


def once(*names: str) -> Counter[tuple[str, str]]:
    return Counter((name, stage) for name in names for stage in STAGES)


def test_a_run_goes_through_its_stages(bench: Bench) -> None:
    bench.submit("one")
    bench.start_worker()
    bench.wait_for_all()
    said = [(event.stage, event.kind) for event in bench.events("one") if event.kind not in ("checkpoint", "progress")]
    each = [(stage, kind) for stage in STAGES for kind in ("claimed", "started", "succeeded")]
    assert said == [(None, "submitted"), *each, (STAGES[-1], "version")]
    folder = bench.client.run_dir(bench.run("one").id)
    assert {path.name for path in folder.path.iterdir() if not path.name.startswith(".")} == {
        "run.json", "documents", "logs", "dataset", "adapter", "metrics.jsonl", "merged", "model-q4_k_m.gguf",
        "answers.jsonl", "eval.json",
    }  # fmt: skip
    until(lambda: bench.waiting() == 0)


def test_priorities_and_first_come_first_served_within_one(bench: Bench) -> None:
    names = ["low-1", "normal-1", "high-1", "low-2", "normal-2", "high-2"]
    for name in names:
        bench.submit(name, priority=name.partition("-")[0], max_steps=1)
    bench.start_worker()
    bench.wait_for_all()
    claimed = sorted((event.at, name) for name in names for event in bench.events(name) if event.kind == "claimed")
    order = list(dict.fromkeys(name for _, name in claimed))
    assert order == ["high-1", "high-2", "normal-1", "normal-2", "low-1", "low-2"]


def test_a_run_that_was_handed_back_keeps_its_place(bench: Bench) -> None:
    names = ["first", "second", "third"]
    for name in names:
        bench.submit(name, WAITS if name == "first" else None, max_steps=1)
    bench.start_worker()
    until(lambda: bench.has("first", "started", "train"))
    bench.workers[0].process.terminate()
    bench.workers[0].process.wait(timeout=PATIENCE)
    bench.replace_the_dead()
    bench.wait_for_all()
    assert sorted(names, key=lambda name: bench.run(name).finished_at or 0.0) == names


def test_no_worker_hoards_a_message(bench: Bench) -> None:
    bench.environment["FTQ_HASTE"] = str(PATIENCE)  # what is slowly begun isn't sent again: it would count as waiting
    for name in "abcd":
        bench.submit(name, WAITS if name in "ab" else None)
    bench.start_worker()
    until(lambda: bench.has("a", "started", "train"))
    # The only worker is busy: it takes no more. Its main process acknowledges what the pool child has begun meanwhile.
    until(lambda: (bench.waiting(), bench.redis().hlen("unacked")) == (3, 0))
    bench.start_worker()
    until(lambda: bench.has("b", "started", "train"))
    until(lambda: (bench.waiting(), bench.redis().hlen("unacked")) == (2, 0))
    assert {bench.run(name).stage("train").worker for name in "ab"} == {worker.name for worker in bench.workers}
    for name in "ab":
        bench.client.cancel(name)
    until(lambda: all(bench.run(name).status == "succeeded" for name in "cd"))


def test_a_run_on_two_gpus_waits_for_a_worker_that_has_them(bench: Bench) -> None:
    bench.start_worker()
    bench.submit("wide", gpus=2)
    bench.submit("narrow")
    until(lambda: bench.run("narrow").status == "succeeded")
    until(lambda: bench.run("wide").stage("prepare").status == "succeeded")
    assert "wide needs a worker with 2 GPUs" in bench.client.missing_worker(bench.run("wide"))
    bench.stop_broker()
    bench.wipe_broker()
    bench.start_broker()
    bench.environment["CUDA_VISIBLE_DEVICES"] = "0,1"
    wide = bench.start_worker()
    bench.wait_for_all()
    workers = {stage.name: stage.worker for stage in bench.run("wide").stages}
    assert workers["train"] == wide.name
    assert bench.starts() == once("wide", "narrow")


def test_a_cancelled_run_never_starts(bench: Bench) -> None:
    bench.submit("cancelled")
    bench.client.cancel("cancelled")  # no worker is up that could hear it
    assert bench.client.cancel("cancelled").status == "cancelled"
    bench.submit("other")
    bench.start_worker()
    until(lambda: bench.run("other").is_finished)
    until(lambda: bench.waiting() == 0)
    assert [run.status for run in (bench.run("cancelled"), bench.run("other"))] == ["cancelled", "succeeded"]
    assert [event.kind for event in bench.events("cancelled")] == ["submitted", "cancelled"]
    assert bench.starts() == once("other")


def test_a_running_stage_is_cancelled_within_seconds(bench: Bench) -> None:
    run = bench.submit("long", WAITS)
    bench.start_worker()
    until(lambda: bench.has("long", "started", "train"))
    pid = bench.stage_pid(run)
    assert pid
    bench.client.cancel("long")
    until(lambda: bench.run("long").status == "cancelled")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    bench.submit("next")
    until(lambda: bench.run("next").status == "succeeded")  # and its worker is free


def both_up(bench: Bench, name: str) -> tuple[Worker, Worker]:
    """The worker that trains the run of 20 steps, no further than the tenth, and another that is ready for it."""
    busy = bench.start_worker()
    other = bench.start_worker()
    log = bench.logs / "w2.log"
    until(lambda: len(bench.client.store.live_workers()) == 2)
    bench.client.store.set_drained(other.name, True)
    until(lambda: " drained: " in log.read_text())
    bench.submit(name, WAITS, max_steps=20)
    until(lambda: bench.has(name, "checkpoint", "train"))
    bench.client.store.set_drained(other.name, False)
    until(lambda: " undrained: " in log.read_text())
    assert bench.run(name).stage("train").worker == busy.name
    return busy, other


def test_a_stopped_worker_hands_over_and_another_goes_on_at_once(bench: Bench) -> None:
    bench.environment["FTQ_HASTE"] = str(PATIENCE)
    busy, other = both_up(bench, "one")
    busy.process.terminate()
    assert busy.process.wait(timeout=PATIENCE) == 0
    bench.wait_for_all()
    train = [event for event in bench.events("one") if event.stage == "train" and event.kind != "progress"]
    kinds = [(event.kind, event.attempt) for event in train if event.kind != "checkpoint"]
    assert kinds == [("claimed", 1), ("started", 1), ("handed_back", 1), ("claimed", 2), ("started", 2),
                     ("resumed", 2), ("succeeded", 2)]  # fmt: skip
    assert bench.run("one").stage("train").worker == other.name
    assert "sent again" not in (bench.logs / "w2.log").read_text()  # no reconciler had to help
    _expect_each_step_once(bench, "one", 20)


def test_a_question_whose_pool_child_is_killed_is_answered_with_that(bench: Bench) -> None:
    run = bench.submit("one")
    worker = bench.start_worker()
    bench.wait_for_all()
    question = bench.client.store.ask(run.id, "slow", {})
    queue.send_question(bench.client._doorbell.app, question)
    until(lambda: bench.client.store.read_answer(question).status == "running")
    tell(worker.child(), signal.SIGKILL)
    until(lambda: bench.client.store.read_answer(question).status == "failed")
    error = bench.client.store.read_answer(question).error
    assert error and error.message == "the worker's process that was to answer died"
    bench.submit("next")
    bench.wait_for_all()  # and its worker is free


def test_a_frozen_worker_comes_too_late(bench: Bench) -> None:
    busy, other = both_up(bench, "one")
    stage, frozen = bench.stage_pid(bench.run("one")), bench.run("one").stage("train").attempt
    with bench.client.store.writing():  # frozen while it writes, it would keep SQLite locked for all
        freeze(*filter(None, (busy.process.pid, busy.child(), stage)))
    bench.end_leases()
    until(lambda: bench.has("one", "lost", "train"))
    until(lambda: bench.run("one").stage("train").attempt > frozen and bench.run("one").status == "running")
    busy.signal(signal.SIGCONT)
    tell(stage, signal.SIGCONT)
    bench.wait_for_all()
    until(lambda: bench.has("one", "lease_lost", "train"))
    said = [(event.kind, event.attempt) for event in bench.events("one") if event.stage == "train"]
    assert ("lease_lost", frozen) in said and said.count(("succeeded", frozen + 1)) == 1
    assert bench.run("one").stage("train").worker == other.name
    _expect_each_step_once(bench, "one", 20)


@pytest.mark.parametrize("what", ["worker", "worker and stage", "container", "worker, and two come back"])
def test_a_killed_worker_that_comes_back_waits_for_no_lease(bench: Bench, what: str) -> None:
    bench.prefix = container() if what == "container" else []  # its processes die with it
    worker = bench.start_worker(name="gpu0")
    bench.submit("one", WAITS, max_steps=20)
    until(lambda: (bench.run("one").stage("train").progress or {}).get("step") == 10)
    stage = bench.stage_pid(bench.run("one"))
    worker.signal(signal.SIGKILL)
    if what == "worker and stage":
        tell(stage, signal.SIGKILL)
    for _ in range(2 if "two" in what else 1):
        bench.start_worker(name="gpu0")
    bench.wait_for_all()
    assert [event.message for event in bench.events("one") if event.kind in ("lost", "lease_lost")] == [
        f"the process of {worker.name} that held it died"
    ]
    assert bench.run("one").stage("train").attempt == 2
    _expect_each_step_once(bench, "one", 20)


def _expect_each_step_once(bench: Bench, name: str, total: int) -> None:
    adapter = bench.client.run_dir(bench.run(name).id).adapter
    assert json.loads((adapter / "steps.json").read_text())["steps"] == list(range(1, total + 1))
    assert (adapter / "made_by").read_text() == str(bench.run(name).stage("train").attempt)


def test_a_waiting_run_goes_on_after_the_broker_lost_its_data(bench: Bench) -> None:
    bench.submit("running", WAITS)
    bench.submit("waiting")
    bench.start_worker()
    until(lambda: bench.has("running", "started", "train") and bench.waiting() >= 1)
    bench.stop_broker()
    bench.wipe_broker()
    assert not (bench.settings.home / "broker").exists()
    bench.start_broker()
    bench.let_go("running")
    bench.wait_for_all()
    assert bench.starts() == once("running", "waiting")


def test_a_run_submitted_while_the_broker_is_unreachable_is_sent_later(bench: Bench) -> None:
    bench.start_worker()
    until(lambda: " ready." in (bench.logs / "w1.log").read_text())
    bench.stop_broker()
    run = bench.submit("one")
    assert (run.status, bench.run("one").status) == ("queued", "queued")
    bench.start_broker()
    bench.wait_for_all()
    assert bench.starts() == once("one")


def test_messages_that_come_twice_start_nothing_twice(bench: Bench) -> None:
    run = bench.submit("one", WAITS)
    for _ in range(3):
        queue.send(bench.client._doorbell.app, run)
    for _ in range(2):
        bench.start_worker()
    until(lambda: bench.has("one", "started", "train"))
    queue.send(bench.client._doorbell.app, bench.run("one"))
    bench.let_go("one")
    bench.wait_for_all()
    until(lambda: bench.waiting() == 0)
    assert bench.starts() == once("one")
    assert Counter(event.kind for event in bench.events("one"))["claimed"] == len(STAGES)


@pytest.mark.long
def test_a_short_drill(tmp_path: Path) -> None:
    kinds = [
        "stage killed (kill -9)", "pool child killed (kill -9)", "worker killed (kill -9), another started",
        "worker and stage asked to stop (systemd's SIGTERM to all)", "everything killed at once, the broker too",
        "broker restarted empty", "messages sent again, old ones too", "forged messages", "pause, then resume",
        "retry of a cancelled or failed run",
    ]  # fmt: skip
    assert set(kinds) <= set(FAULTS)
    with drill.make(tmp_path / "artifacts", seed=1) as drilled:
        drill.inject(drilled, len(kinds), kinds, pause=0.5)
        drilled.finish()
        verdict = drill_verdict.judge(drilled)
        assert (verdict.lost, verdict.twice) == ([], []), drill_verdict.table(drilled, verdict)
        assert max((steps for _, _, steps in verdict.repeated), default=0) <= drill.SAVE_STEPS
