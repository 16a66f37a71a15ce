"""A worker that can't reach its bucket leaves the work to others, says why, and comes back by itself."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from ftq import queue
from ftq.client import workers
from ftq.client.workers import Fleet
from ftq.doctor import web
from ftq.doctor.workers import workers as doctor
from ftq.files.remote.bucket import Bucket, OutOfReach
from ftq.files.remote.share import Share
from ftq.files.run_dir import STAGES
from ftq.settings import Settings
from ftq.store.store import RunStore
from tests import cli_tools
from tests.bucket_server import BucketServer, own_server
from tests.ceph_server import CephServer
from tests.test_broker_owner import server
from tests.test_object_storage import Site, site
from tests.test_store import Clock, clock, run, store, url
from tests.tools import PATIENCE, until
from worker import app as worker_app
from worker import strays
from worker.attempt.remote.exchange import Exchange
from worker.attempt.remote.moving import Stopped
from worker.attempt.watch import Watch
from worker.incoming import reach
from worker.incoming.reach import Reach
from worker.reconciler import Reconciler

__all__ = ["clock", "run", "server", "site", "store", "url"]  # fixtures
NOWHERE = "http://127.0.0.1:1"
KNOWN = {"stages": list(STAGES), "bucket": "s3://b/ftq"}
WAITS = {**KNOWN, "waits": "bucket s3://b/ftq is unreachable (x)", "waits_fix": "Is it up?\nMore."}
SPEC = {"model": "m"}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[BucketServer]:
    with own_server("reach", monkeypatch) as bucket:
        yield bucket


@pytest.fixture
def known(home: Path) -> Iterator[RunStore]:
    """This machine's own database."""
    home.mkdir(exist_ok=True)
    with closing(RunStore(f"sqlite:///{home}/ftq.db")) as known:
        yield known


@pytest.fixture
def strict(ceph: CephServer, monkeypatch: pytest.MonkeyPatch, cache: Path) -> CephServer:
    """A server that checks keys; moto takes any."""
    for name, value in ceph.environment.items():
        monkeypatch.setenv(name, value)
    return ceph


# ---- by whole workers -----------------------------------------------------------------------------------


@pytest.mark.long
def test_a_worker_with_a_wrong_server_takes_nothing_and_others_do_the_work(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.machine("b", AWS_ENDPOINT_URL=NOWHERE).start_worker(name="b1")
    here = site.here.client
    until(lambda: any(one.waits for one in here.store.workers()))
    (wrong,) = here.store.workers()
    runs = [site.here.submit(f"run{number}") for number in range(3)]
    why = f"worker {wrong.name} waits for its bucket: bucket {site.bucket.url} at {NOWHERE} is unreachable ("
    assert f"run0 waits: {why}" in here.missing_worker(here.find("run0"))
    warnings = [one for one in doctor(site.here.settings) if one.level == "warning"]
    assert any(one.fix.startswith(f"On {wrong.host}: ") for one in warnings)
    assert wrong.facts["endpoint"] == ""
    site.machine("a").start_worker(name="a1")
    site.here.wait_for_all()
    stages = [stage for run in runs for stage in here.find(run.id).stages]
    assert {(str(stage.worker).split("@")[0], stage.attempt) for stage in stages} == {("a1", 1)}
    assert site.started() == Counter((run.name, stage) for run in runs for stage in STAGES)
    ends = {one.name.split("@")[0]: one.facts["endpoint"] for one in here.store.workers()}
    assert ends == {"a1": site.bucket.environment["AWS_ENDPOINT_URL"], "b1": ""}


@pytest.mark.long
def test_runs_stay_queued_while_the_bucket_is_away_for_all_and_go_by_themselves_afterwards(site: Site) -> None:
    site.machine("a").start_worker(name="a1")
    here = site.here.client
    until(here.store.live_queues)
    first, last = site.here.submit("low", priority="low"), site.here.submit("high", priority="high")
    site.here.wait_for_all()
    site.bucket.stop()
    until(lambda: any(one.waits for one in here.store.workers()))
    for one in (first, last):
        here.retry(one.id, "evaluate")
    both = {f"{run.id}.evaluate.2" for run in (first, last)}
    until(lambda: queue.messages(here._doorbell.app, 0) == both)  # what the worker was just taking is put back
    assert {here.find(run.id).status for run in (first, last)} == {"queued"}
    site.bucket.start()
    site.here.wait_for_all()
    ended = [here.find(run.id).stage("evaluate") for run in (last, first)]
    assert [stage.attempt for stage in ended] == [2, 2]
    assert (ended[0].started_at or 0) < (ended[1].started_at or 0), "in the order of their priorities"


@pytest.mark.long
def test_what_a_worker_took_as_its_bucket_went_goes_to_another(site: Site) -> None:
    """Each machine reaches the same bucket by a server of its own."""
    theirs = BucketServer(site.bucket.bucket)
    site.machine("b", AWS_ENDPOINT_URL=theirs.environment["AWS_ENDPOINT_URL"]).start_worker(name="b1")
    here = site.here.client
    until(here.store.live_queues)
    theirs.stop()
    run = site.here.submit("one")
    until(lambda: any(one.waits for one in here.store.workers()))
    site.machine("a").start_worker(name="a1")
    site.here.wait_for_all()
    assert {str(stage.worker).split("@")[0] for stage in here.find(run.id).stages} == {"a1"}
    assert here.find(run.id).stage("prepare").losses == 0
    theirs.start()
    until(lambda: not any(one.waits for one in here.store.workers()))
    theirs.close()


# ---- the parts ------------------------------------------------------------------------------------------


def test_a_look_tells_of_a_bucket_that_goes_and_comes(bucket: BucketServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "ANSWER_SECONDS", PATIENCE)
    changes, server = list[str](), bucket.environment["AWS_ENDPOINT_URL"]
    looked = Reach(bucket.url, lambda: changes.append(looked.error.message if looked.error else "there"))
    assert (looked.known, looked.facts()) == (False, {"bucket": bucket.url, "endpoint": ""})
    bucket.stop()
    looked.look()
    looked.look()
    (why,) = changes
    assert why.startswith(f"bucket {bucket.url} at {server} is unreachable (")
    assert looked.facts() == {"bucket": bucket.url, "endpoint": "", "waits": why, "waits_fix": looked.error.hint}  # type: ignore[union-attr]
    bucket.start()
    looked.look()
    looked.look()
    assert changes == [why, "there"]
    assert looked.facts() == {"bucket": bucket.url, "endpoint": server}
    assert bucket.keys() == [], "it leaves nothing behind"
    bucket.stop()
    looked.look()
    assert len(changes) == 3 and looked.facts()["endpoint"] == server
    assert Reach("", list).known, "without a bucket there is nothing to wait for"


def test_a_folder_that_is_not_mounted_any_more_counts_as_away(tmp_path: Path) -> None:
    folder = tmp_path / "mount"
    folder.mkdir()
    looked = Reach(f"file://{folder}", lambda: None)
    looked.look()
    assert looked.error is None
    folder.rmdir()
    looked.look()
    assert looked.error and looked.error.hint == f"Mount its disk, or make it: mkdir -p {folder}"


def test_only_what_has_not_begun_is_left_to_others(bucket: BucketServer, documents: Path, tmp_path: Path) -> None:
    cli_tools.ok("submit", "--model", "smollm2-135m", "--documents", str(documents), "--name", "one")
    settings = Settings.from_env()
    with closing(RunStore(settings.database_url)) as store:
        run = store.all(1)[0]
        token = store.claim(run.id, "prepare", 1, "w1", 600.0)
        assert token
        replaced = list[bool]()
        there = Share(Bucket(settings.artifacts_url), tmp_path / "there", store.identity)
        watch = Watch(store, settings, token, time.monotonic(), lambda *_: None)
        exchange = Exchange(there, settings, store, watch, lambda: bool(replaced.append(True)) or len(replaced) > 1)
        bucket.stop()
        with pytest.raises(Stopped) as stopped:
            exchange.fetch_submitted(run)
        assert (stopped.value.asked, len(replaced)) == ("bucket", 2), "it waits while nobody else could"
        tries = iter([there.bucket.probe, lambda: 1 / 0])
        with pytest.raises(ZeroDivisionError):  # the second try: what is to be sent waits, whoever else is there
            exchange.moving.insist("sending prepare", lambda _: next(tries)(), finishes=True)


def test_a_message_that_came_as_the_worker_began_to_rest_goes_back_in_its_place(server: str, known: RunStore) -> None:
    app = queue.make_app(Settings.from_env({"FTQ_BROKER_URL": server}))
    known.create("abc", "one", {**SPEC, "priority": "high"}, "hash")
    known.see_worker("w1", "host", ["cpu"], None, 1, WAITS)
    assert known.claim("abc", "prepare", 1, "w1", 60) is None
    for stage, attempt, back in (("train", 1, False), ("prepare", 2, False), ("prepare", 1, True)):
        request = SimpleNamespace(
            id=f"abc.{stage}.{attempt}", hostname="w1", args=["abc", attempt], headers={}, chain=None, argsrepr="one",
            delivery_info={"routing_key": "cpu", "priority": 1},
        )  # fmt: skip
        strays.put_back(app, known, request, f"ftq.{stage}", "abc")
        assert bool(queue.messages(app, 0)) == back
    with app.connection_for_read() as connection:
        assert connection.default_channel.client.llen("cpu\x06\x161") == 1
    known.see_worker("w1", "host", ["cpu"], None, 1, KNOWN)
    assert known.claim("abc", "prepare", 1, "w1", 60)


def test_a_worker_begins_with_no_queue_and_takes_from_those_it_is_let(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_app, "_queues", [])
    selected, done = {"gpu": 1, "cpu": 2, "ask": 3}, list[str]()
    queues = SimpleNamespace(consume_from=selected, deselect=selected.pop)
    app = SimpleNamespace(amqp=SimpleNamespace(queues=queues), serves=[])
    worker_app._take_nothing_yet(SimpleNamespace(app=app))
    assert (selected, app.serves) == ({}, ["gpu", "cpu", "ask"])
    consumer = SimpleNamespace(
        app=app,
        call_soon=lambda action: action(),
        add_task_queue=lambda name: (selected.update({name: 0}), done.append(f"+{name}")),
        cancel_task_queue=lambda name: (selected.pop(name), done.append(f"-{name}"), 1 / 0),
    )
    worker_app._take_from(consumer, {"ask"})
    worker_app._take_from(consumer, {"ask", "cpu", "gpu"})
    assert done == ["+ask", "-ask", "+gpu", "+cpu", "+ask"], "they are asked in this order"


def test_questions_go_to_others_while_a_bucket_is_away_and_stay_where_nobody_else_answers(known: RunStore) -> None:
    taken = list[set[str]]()
    reconciler = Reconciler(Settings.from_env(), "b1", ["cpu", "ask"], taken.append)

    def turn() -> set[str]:
        reconciler._beat()
        reconciler._take_or_not()
        return taken[-1]

    reconciler._take_or_not()
    assert taken == [], "nothing is known yet"
    assert turn() == {"cpu", "ask"}
    reconciler._reach.error = OutOfReach("bucket s3://b/ftq is unreachable", "Is it up?")
    assert turn() == {"ask"}
    known.see_worker("a1", "box", ["ask"], None, 1, KNOWN)
    assert turn() == set()
    known.see_worker("a1", "box", ["ask"], None, 1, WAITS)
    assert turn() == {"ask"}
    reconciler._reach.error = None
    assert turn() == {"cpu", "ask"}
    known.set_drained("b1", True)
    assert turn() == set()
    reconciler.store.close()


# ---- what people are told -------------------------------------------------------------------------------


def test_a_worker_that_waits_is_no_worker_for_what_waits(store: RunStore, clock: Clock) -> None:
    store.create("one", "one", SPEC, "hash")
    store.see_worker("b1", "box", ["cpu", "gpu"], None, 1, WAITS)
    why = f"orker b1 waits for its bucket: {WAITS['waits']}. On box: Is it up?"
    assert workers.missing_for((store.get("one"),), store) == f"one waits: w{why}"
    assert workers.would_wait(SPEC, store, "") == f"W{why}"
    assert ([one.state for one in Fleet(store).all()], store.live_queues()) == (["waiting"], set())
    assert not store.is_replaced("b1", "cpu")
    store.see_worker("b2", "box", ["gpu"], None, 1, WAITS)
    assert "workers b1, b2 wait for their bucket: " in workers.missing_for((store.get("one"),), store)
    store.see_worker("a1", "box", ["cpu"], None, 1, KNOWN)
    assert (store.is_replaced("b1", "cpu"), store.is_replaced("b1", "gpu"), store.is_replaced("a1", "cpu")) == (
        True, False, False)  # fmt: skip
    assert store.claim("one", "prepare", 1, "a1", 60)
    assert workers.missing_for((store.get("one"),), store).startswith("one waits after this stage: workers b1, b2 ")
    store.see_worker("b2", "box", ["gpu"], None, 1, KNOWN)
    assert workers.missing_for((store.get("one"),), store) == ""


def test_a_stage_that_stalls_for_a_bucket_says_so(store: RunStore, clock: Clock) -> None:
    store.create("one", "one", SPEC, "hash")
    clock.now += 700
    store.see_worker("b1", "box", ["cpu"], None, 1, WAITS)
    assert store.note_stalled(600) == ["one"]
    assert store.events("one")[-1].message == "waits for 11:40: the workers of the queue cpu wait for their bucket"


def test_workers_and_doctor_name_what_is_waited_for(known: RunStore) -> None:
    known.see_worker("b1", "box", ["ask", "cpu", "gpu"], None, 1, WAITS)
    listed = cli_tools.run("workers")
    assert f"b1 waits for its bucket: {WAITS['waits']}. On box: Is it up?" in listed.stderr
    findings = [one for one in doctor(Settings.from_env(), ask=lambda *_: {"b1"}) if one.level == "warning"]
    assert [(one.message, one.fix) for one in findings] == [
        (f"b1 (ask,cpu,gpu) waits for its bucket and takes no stage: {WAITS['waits']}", "On box: Is it up?\nMore.")
    ]


# ---- whose server is recommended ------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("key", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_who_is_refused_is_sent_to_no_other_server(
    key: str, strict: CephServer, known: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(key, "other")
    known.see_worker("w1", "host", ["cpu"], None, 1, {"bucket": strict.url, "endpoint": "http://other:9000"})
    (finding,) = web.bucket(Settings.from_env())
    assert "is closed (" in finding.message and "http://other:9000" not in finding.fix
    assert finding.fix.startswith("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")


def test_only_the_server_of_a_worker_that_reached_the_bucket_is_named(
    bucket: BucketServer, known: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", NOWHERE)

    def advice(name: str, **facts: str) -> str:
        """What the doctor says once a worker has said this of itself."""
        known.see_worker(name, "host", ["cpu"], None, 1, {"bucket": bucket.url, **facts})
        (finding,) = web.bucket(Settings.from_env())
        return finding.fix

    right = "http://right:9000"
    assert "export" not in advice("w1", endpoint="http://wrong:9000", waits="it is away", waits_fix="")
    assert "export" not in advice("w2", endpoint="")
    said = f"worker w3 reaches this bucket through {right}: export AWS_ENDPOINT_URL={right}\n"
    assert said in advice("w3", endpoint=right)
    assert "export" not in advice("w4", endpoint=NOWHERE), "others reach it through the one that is named here"


def test_the_server_that_most_workers_reach_is_named(
    bucket: BucketServer, known: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a tunnel on one worker's machine is a server to that machine alone."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", NOWHERE)
    right, own = "http://right:9000", "http://127.0.0.1:9000"
    for name, place in (("w1", right), ("w2", own), ("w3", right), ("w4", "http://other:9000")):
        known.see_worker(name, "host", ["cpu"], None, 1, {"bucket": bucket.url, "endpoint": place})
    (finding,) = web.bucket(Settings.from_env())
    assert f" reaches this bucket through {right}: export AWS_ENDPOINT_URL={right}\n" in finding.fix
