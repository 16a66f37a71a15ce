"""The workers: who is up and does what, drained ones, labels; by a real broker and real workers with fake stages."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from ftq import queue
from ftq.client import view, workers
from ftq.client.asking import Asking
from ftq.client.workers import START, Fleet
from ftq.errors import FtqError
from ftq.files.run_dir import STAGES
from ftq.store.store import RunStore
from ftq.version import VERSION
from tests.test_store import Clock, clock, run, store, url
from tests.tools import Bench, until

__all__ = ["clock", "run", "store", "url"]  # fixtures
FACTS = {"gpus": 1, "gpu": "H100", "memory": 80 * 2**30, "labels": ["big"], "stages": list(STAGES), "version": VERSION}


def ftq(bench: Bench, *arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env={"FTQ_HOME": str(bench.settings.home)})


def test_who_is_up_and_does_what(store: RunStore, clock: Clock) -> None:
    store.see_worker("old@b", "b", ["cpu"], None, 1)
    clock.now += 100
    store.see_worker("gpu0@a", "a", ["cpu", "gpu"], "H100", 2, FACTS)
    store.see_worker("stops@a", "a", ["cpu"], None, 3)
    store.drain_worker("stops@a", True)
    store.create("abc", "first", {"model": "m"}, "hash")
    store.claim("abc", "prepare", 1, "gpu0@a", 60)
    clock.now += 5
    members = Fleet(store).all()
    assert [(one.worker.name, one.state, one.silent) for one in members] == [
        ("gpu0@a", "up", 5), ("old@b", "silent", 105), ("stops@a", "stopping", 5)]  # fmt: skip
    assert [(part.run, part.stage, part.since) for part in members[0].work] == [("first", "prepare", clock.now - 5)]
    assert members[0].worker.served == ["cpu.big", "gpu.big", "cpu", "gpu"]


def test_a_worker_that_its_broker_refuses_is_no_worker_for_what_waits(store: RunStore, clock: Clock) -> None:
    refused = {
        "refused": "the broker refuses the user or password (x)",
        "refused_fix": "Correct FTQ_BROKER_URL.\nMore.",
    }
    store.create("one", "one", {"model": "m"}, "hash")
    store.see_worker("w1", "box", ["ask", "cpu", "gpu"], None, 1, FACTS | refused)
    why = f"orker w1 takes nothing from its broker: {refused['refused']}. On box: Correct FTQ_BROKER_URL."
    assert workers.missing_for((store.get("one"),), store) == f"one waits: w{why}"
    assert workers.would_wait({"model": "m"}, store, "") == f"W{why}"
    assert store.live_queues() == set()
    assert [one.state for one in Fleet(store).all()] == ["refused"]
    store.see_worker("w2", "box", ["cpu"], None, 1, FACTS | refused)
    assert "workers w1, w2 take nothing from their broker: " in workers.missing_for((store.get("one"),), store)
    clock.now += 700
    store.see_worker("w1", "box", ["cpu"], None, 1, FACTS | refused)
    assert store.note_stalled(600) == ["one"]
    assert store.events("one")[-1].message == "waits for 11:40: the broker refuses the workers of the queue cpu"
    store.see_worker("w3", "box", ["cpu", "gpu"], None, 1, FACTS)
    assert workers.missing_for((store.get("one"),), store) == ""


def test_a_drained_worker_takes_nothing_new_and_finishes_what_it_has(store: RunStore, clock: Clock) -> None:
    store.see_worker("w1", "host", ["cpu"], None, 1)
    for name in ("one", "two"):
        store.create(name, name, {"model": "m"}, "hash")
    token = store.claim("one", "prepare", 1, "w1", 60)
    assert token
    fleet = Fleet(store)
    assert (fleet.drain("w1")[0].state, store.live_queues()) == ("draining", set())
    assert store.claim("two", "prepare", 1, "w1", 60) is None
    assert store.check(token) == ("run", False)  # nobody asks it to hand back
    store.renew(token, 60)
    store.succeed(token, None, [])
    assert [one.state for one in fleet.all()] == ["drained"]
    assert store.see_worker("w1", "host", ["cpu"], None, 1), "its sign of life doesn't undo it"
    assert store.claim("two", "prepare", 1, "w2", 60)
    assert (fleet.undrain("w")[0].state, store.live_queues()) == ("up", {"cpu"})
    assert store.claim("one", "train", 1, "w1", 60)


def test_who_cannot_be_drained(store: RunStore, clock: Clock) -> None:
    fleet = Fleet(store)
    with pytest.raises(FtqError, match=r"^no worker w") as nobody:
        fleet.drain("w")
    assert nobody.value.hint == START
    store.see_worker("w1", "host", ["cpu"], None, 1)
    store.see_worker("w2", "host", ["cpu"], None, 1)
    with pytest.raises(FtqError, match=r"^w matches 2 workers: w1, w2$"):
        fleet.drain("w")
    with pytest.raises(FtqError, match=r"^a name is empty$"):
        fleet.undrain("")
    clock.now += 60
    with pytest.raises(FtqError, match=r"^w1 is silent: it takes nothing$"):
        fleet.drain("w1")


def test_a_drained_worker_answers_nobody(store: RunStore) -> None:
    store.see_worker("w1", "host", ["ask", "cpu"], None, 1)
    asking = Asking(store, lambda question: None, str)
    asking.check_worker()
    store.set_drained("w1", True)
    with pytest.raises(FtqError, match=r"^all workers are drained \(w1\), so nobody can answer$") as drained:
        asking.check_worker()
    assert drained.value.hint == "`ftq workers undrain w1` lets it take work."
    store.set_drained("w1", False)
    store.see_worker("w1", "host", ["cpu"], None, 1)
    with pytest.raises(FtqError, match=r"nobody can answer \(w1 serves cpu\)$"):
        asking.check_worker()


def test_a_run_that_waits_for_drained_workers_names_them_all(store: RunStore, clock: Clock) -> None:
    for name, served in (("c1", "cpu"), ("g1", "gpu"), ("g2", "gpu")):
        store.see_worker(name, "host", [served], None, 1)
        store.set_drained(name, True)
    spec = {"model": "m"}
    waits, runs = store.create("one", "one", spec, "hash"), (store.get("one"),)
    waiting, undrain = "so one waits until one takes work again", "`ftq workers undrain c1 g1` is enough."
    assert workers.missing_for(runs, store) == f"All workers are drained (c1, g1, g2), {waiting}. {undrain}"
    assert workers.would_wait(spec, store, "") == f"All workers are drained (c1, g1, g2). {undrain}"
    store.set_drained("c1", False)
    gpus = "All workers of the queue gpu are drained (g1, g2)"
    undrain = "`ftq workers undrain g1` is enough."
    assert workers.missing_for(runs, store) == f"{gpus}, {waiting}. {undrain}"
    assert store.claim("one", "prepare", 1, "c1", 60)
    assert workers.missing_for((store.get("one"),), store) == f"{gpus}, so one waits after this stage. {undrain}"
    store.set_drained("c1", True)
    store.set_drained("g1", False)
    said = workers.missing_for((store.get("one"),), store)
    cpus = "All workers of the queue cpu are drained (c1), so one waits after this stage"
    assert said == f"{cpus}. `ftq workers undrain c1` lets it take work."
    clock.now += 60
    assert workers.missing_for((waits,), store).startswith("No worker is up. "), "drained and gone"


def test_a_run_behind_others_says_whose_work_it_waits_for(store: RunStore) -> None:
    for name in ("one", "two", "waits"):
        store.create(name, name, {"model": "m"}, "hash")
    for name in ("w1", "w2"):
        store.see_worker(name, "host", ["cpu", "gpu"], None, 1)
    store.see_worker("asks", "host", ["ask"], None, 1)

    def turn(name: str) -> str:
        return view.turn(store.get(name), Fleet(store).all())

    assert store.claim("one", "prepare", 1, "w1", 60)
    assert turn("waits") == "", "w2 is free"
    assert store.claim("two", "prepare", 1, "w2", 60)
    assert turn("waits") == "waits waits for its turn: w1 does one (prepare), w2 does two (prepare)"
    assert turn("one") == ""
    theirs = [replace(one, work=tuple(replace(part, run_id="") for part in one.work)) for one in Fleet(store).all()]
    assert view.turn(store.get("waits"), theirs).endswith(
        "w1 does another run (prepare), w2 does another run (prepare)"
    )
    store.pause("waits")
    assert turn("waits") == ""
    store.resume("waits")
    store.set_drained("w1", True)
    assert turn("waits") == "waits waits for its turn: w2 does two (prepare)"
    store.set_drained("w2", True)
    assert turn("waits") == "", "nobody takes it: that is another note"


def test_of_many_drained_workers_some_are_named(store: RunStore) -> None:
    for number in range(8):
        store.see_worker(f"w{number}", "host", ["cpu", "gpu", "ask"], None, 1)
        store.set_drained(f"w{number}", True)
    named = "all workers are drained (w0, w1, w2, w3, w4 and 3 more)"
    undrain = "`ftq workers undrain w0` is enough."
    assert workers.would_wait({"model": "m"}, store, "") == f"A{named[1:]}. {undrain}"
    with pytest.raises(FtqError) as nobody:
        Asking(store, lambda question: None, str).check_worker()
    assert nobody.value.text == f"{named}, so nobody can answer\n{undrain}"


def test_where_a_drained_worker_is_not_all_that_is_missing(store: RunStore) -> None:
    store.see_worker("c1", "host", ["cpu"], None, 1)
    store.set_drained("c1", True)
    said = workers.would_wait({"model": "m"}, store, "")
    assert said == "No worker serves the queue gpu. `ftq worker --queues gpu` starts one."


def test_a_stage_that_stalls_for_drained_workers_says_so(store: RunStore, clock: Clock) -> None:
    store.create("one", "one", {"model": "m"}, "hash")
    clock.now += 700
    store.see_worker("c1", "host", ["cpu"], None, 1)
    store.set_drained("c1", True)
    assert store.note_stalled(600) == ["one"]
    assert store.events("one")[-1].message == "waits for 11:40: all workers of the queue cpu are drained (c1)"


def test_several_workers_are_drained_at_once_or_none(store: RunStore, clock: Clock) -> None:
    fleet = Fleet(store)
    store.see_worker("gone", "host", ["cpu"], None, 1)
    store.see_worker("lost", "host", ["cpu"], None, 1)
    clock.now += 60
    for name in ("c1", "c2", "g1"):
        store.see_worker(name, "host", ["cpu"], None, 1)
    with pytest.raises(FtqError) as wrong:
        fleet.drain("g1", "x", "c", "y")
    assert wrong.value.message == "no worker x\nc matches 2 workers: c1, c2\nno worker y"
    assert wrong.value.hint == "There are: c1, c2, g1, gone, lost\nType more of the name."
    with pytest.raises(FtqError) as silent:
        fleet.drain("g1", "gone", "lost")
    assert silent.value.message == "gone is silent: it takes nothing\nlost is silent: it takes nothing"
    with pytest.raises(FtqError) as alive:
        fleet.forget("gone", "c1")
    assert alive.value.message == "c1 is up: only a silent worker can be forgotten"
    assert [(one.worker.name, one.state) for one in fleet.all()] == [
        ("c1", "up"), ("c2", "up"), ("g1", "up"), ("gone", "silent"), ("lost", "silent")]  # fmt: skip
    assert [(one.worker.name, one.state) for one in fleet.drain("g1", "c2", "g1")] == [
        ("g1", "drained"),
        ("c2", "drained"),
    ]
    assert [(one.worker.name, one.state) for one in fleet.undrain("c2", "g1")] == [("c2", "up"), ("g1", "up")]
    assert [one.worker.name for one in fleet.forget("lost", "gone")] == ["lost", "gone"]
    assert [one.worker.name for one in fleet.all()] == ["c1", "c2", "g1"]


# ---- gone for good ----------------------------------------------------------------------------------------


def test_a_worker_that_is_gone_can_be_forgotten_and_a_living_one_cannot(store: RunStore, clock: Clock) -> None:
    fleet = Fleet(store)
    store.see_worker("gone@a", "a", ["cpu"], None, 1)
    clock.now += 60
    for name in ("up@b", "drained@b", "stops@b"):
        store.see_worker(name, "b", ["cpu"], None, 1)
    store.set_drained("drained@b", True)
    store.drain_worker("stops@b", True)
    clock.now += 5
    for name, state in (("up@b", "up"), ("drained@b", "drained"), ("stops@b", "stopping")):
        with pytest.raises(FtqError, match=f"^{name} is {state}: only a silent worker can be forgotten$") as alive:
            fleet.forget(name)
        assert alive.value.hint == "Stop it on b (Ctrl-C or SIGTERM): it leaves the list by itself."
    assert [one.worker.name for one in fleet.forget("gone")] == ["gone@a"]
    assert [one.worker.name for one in fleet.all()] == ["drained@b", "stops@b", "up@b"]
    with pytest.raises(FtqError, match=r"^no worker gone$"):
        fleet.forget("gone")
    store.see_worker("gone@a", "a", ["cpu"], None, 1)  # it was only cut off
    assert [one.state for one in fleet.all() if one.worker.name == "gone@a"] == ["up"]


def test_a_worker_that_died_while_it_stopped_is_listed_as_long_as_it_has_a_stage(store: RunStore, clock: Clock) -> None:
    store.see_worker("w1", "host", ["cpu"], None, 1)
    store.create("abc", "first", {"model": "m"}, "hash")
    store.claim("abc", "prepare", 1, "w1", 60)
    store.drain_worker("w1", True)
    clock.now += 15
    store.drain_worker("w1", True)  # it says so until it ends
    clock.now += 15
    assert [one.state for one in Fleet(store).all()] == ["stopping"]
    clock.now += 15
    assert [one.state for one in Fleet(store).all()] == ["silent"]
    clock.now += 60
    assert store.expire(60) == ["abc"] and Fleet(store).all() == []
    store.see_worker("w1", "host", ["cpu"], None, 1)
    store.drain_worker("w1", False)  # started again
    assert [one.state for one in Fleet(store).all()] == ["up"]
    clock.now += 60
    assert [one.state for one in Fleet(store).all()] == ["silent"]  # killed: nobody asked it to stop


@pytest.mark.slow
def test_a_drained_worker_is_left_and_comes_back(bench: Bench) -> None:
    bench.submit("long", {"train": {"1": "wait"}}, max_steps=20)
    first = bench.start_worker("cpu,gpu")
    until(lambda: bench.has("long", "checkpoint", "train"))
    said = ftq(bench, "workers", "drain", first.name.partition("@")[0])
    assert said.exit_code == 0, said.output
    assert said.stdout == f"{first.name} takes nothing new and finishes long (train).\n"
    assert "Note: no other worker serves cpu, gpu: what comes there waits." in said.stderr
    bench.let_go("long")
    until(lambda: bench.client.find("long").stage("train").status == "succeeded")
    until(lambda: "drained: nothing new is taken" in (bench.logs / "w1.log").read_text())
    listed = json.loads(ftq(bench, "workers", "--json").stdout)
    assert [(one["name"], one["state"], one["version"], one["stages"], one["doing"]) for one in listed] == [
        (first.name, "drained", VERSION, list(STAGES), [])
    ]
    left = {f"{bench.client.find('long').id}.export.1", f"{bench.submit('next').id}.prepare.1"}
    until(lambda: left <= queue.messages(bench.client._doorbell.app, 0))  # they stay in the broker, for others
    assert [run.status for run in bench.client.all()] == ["queued", "queued"]
    assert ftq(bench, "workers", "undrain", first.name).stdout == f"{first.name} takes work again.\n"
    bench.wait_for_all()
    assert {stage.worker for run in bench.client.all() for stage in run.stages} == {first.name}


@pytest.mark.slow
def test_a_run_with_a_label_goes_to_the_workers_that_have_it(bench: Bench) -> None:
    other = bench.start_worker("cpu,gpu")
    until(lambda: bench.client.store.live_queues() == {"cpu", "gpu"})
    labelled = bench.submit("labelled", worker="bigmem")
    assert bench.client.missing_worker(labelled).startswith("No worker with the label bigmem is up. ")
    bench.submit("any")
    until(lambda: bench.client.find("any").is_finished)
    assert bench.client.find("labelled").status == "queued"
    big = bench.start_worker("cpu,gpu", labels="bigmem")
    until(lambda: bench.client.find("labelled").is_finished)
    assert {stage.worker for stage in bench.client.find("labelled").stages} == {big.name}
    assert {stage.worker for stage in bench.client.find("any").stages} == {other.name}
    bench.stop_broker()  # what was sent is gone; the reconciler looks into the queues of labels too
    again = bench.submit("again", worker="bigmem")
    bench.wipe_broker()
    bench.start_broker()
    until(lambda: bench.client.find("again").status == "succeeded")
    assert {stage.worker for stage in bench.client.find("again").stages} == {big.name}
    sent = [event.kind for event in bench.client.store.events(again.id)]
    assert sent.count("claimed") == len(STAGES)


def begin(store: RunStore, run_id: str, stage: str = "prepare") -> str | None:
    """Begin a stage; the owner and name of the run whose turn it is next."""
    assert store.claim(run_id, stage, 1, "w1", 60)
    following = store.next_in_turn(run_id, stage)
    return following and following.name


def test_the_owners_take_turns(store: RunStore, clock: Clock) -> None:
    for name in ("a1", "a2", "a3", "b1", "b2"):
        store.create(name, name, {"model": "m", "priority": "normal", "gpus": 1}, "hash", owner=f"user:{name[0]}")
        clock.now += 1
    assert begin(store, "a1") == "b1"
    assert begin(store, "b1") == "a2"  # both have one at work; a's began earlier
    assert begin(store, "a2") == "b2"
    assert begin(store, "b2") is None  # a alone waits, in the order that there is
    high = {"model": "m", "priority": "high", "gpus": 1}
    store.create("h1", "h1", high, "hash", owner="user:c")
    store.create("h2", "h2", {**high, "worker": "big"}, "hash", owner="user:d")
    store.create("p1", "p1", high, "hash", owner="user:e")
    store.pause("p1")
    assert begin(store, "a3") is None and begin(store, "h1") is None  # others wait elsewhere, or not at all


@pytest.mark.slow
def test_many_runs_of_one_owner_keep_no_other_waiting(bench: Bench) -> None:
    for name, owner in (*((f"many-{number}", "user:ana") for number in range(5)), ("one", "user:bo")):
        bench.submit(name, owner=owner)
    bench.start_worker("cpu,gpu")
    assert bench.submit("mine").owner.startswith("user:")
    bench.wait_for_all()
    ends = {run.name: run.finished_at or 0.0 for run in bench.client.all()}
    assert sum(ends[f"many-{number}"] < ends["one"] for number in range(5)) <= 2


def test_a_label_is_checked_where_it_is_given(bench_home: Path) -> None:
    said = CliRunner().invoke(main, ["worker", "--label", "a b"], env={"FTQ_HOME": str(bench_home)})
    assert said.exit_code == 2 and "a label has letters, digits" in said.stderr
    given = ["submit", "--model", "smollm2-135m", "--documents", str(bench_home), "--set", "worker=a.b"]
    said = CliRunner().invoke(main, given, env={"FTQ_HOME": str(bench_home / "artifacts")})
    assert said.exit_code == 2 and "worker=a.b: a label has letters, digits" in said.stderr


@pytest.fixture
def bench_home(tmp_path: Path) -> Path:
    (tmp_path / "text.md").write_text("# A\n\nA text.\n")
    return tmp_path
