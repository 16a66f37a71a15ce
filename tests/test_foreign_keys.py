"""Somebody else's data under the broker's keys of ftq: named, left as they are, and in nobody's way."""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from cli.main import main
from ftq.doctor.broker import broker as doctor
from ftq.doctor.broker import whose
from ftq.doctor.findings import Finding
from ftq.doctor.workers import workers
from ftq.doorbell import keys
from ftq.doorbell.owner import OWNER, UP
from ftq.files.run_dir import STAGES
from ftq.settings import Settings
from ftq.store.records import QUEUES
from ftq.store.store import RunStore
from tests.tools import PATIENCE, Bench, until

STEP = "\x06\x16"
LISTS = [key for key, is_a in keys.types(QUEUES).items() if is_a == "list"]
OTHERS = [key for key, is_a in keys.types(QUEUES).items() if is_a != "list"]


def occupy(broker: redis.Redis, names: list[str]) -> None:
    """Put something of another type there, in one moment."""
    with broker.pipeline() as at_once:
        for name in names:
            at_once.delete(name)
            if keys.types(QUEUES)[name] == "string":
                at_once.rpush(name, "theirs", "too")
            else:
                at_once.set(name, f"theirs at {name!r}")
        at_once.execute()


def held(broker: redis.Redis, names: list[str]) -> list[Any]:
    return [broker.lrange(name, 0, -1) if broker.type(name) == b"list" else broker.get(name) for name in names]


def clear(broker: redis.Redis, names: list[str]) -> None:
    """What their owner does."""
    assert broker.delete(*names) == len(names)


def started(bench: Bench) -> Path:
    bench.start_worker()
    until(bench.client.store.live_queues)
    return bench.logs / "w1.log"


def problems(bench: Bench) -> list[Finding]:
    return [one for one in doctor(bench.settings) if one.level == "problem"]


@pytest.mark.long
@pytest.mark.parametrize("first", ["the worker", "the keys"])
def test_every_run_goes_on_where_keys_that_are_no_queues_hold_something_else(bench: Bench, first: str) -> None:
    """Bindings, what is handed out, whose the broker is: all at once, before and while the worker is up."""
    theirs = bench.redis()
    log = started(bench) if first == "the worker" else None
    until(lambda: not log or theirs.get(UP))
    occupy(theirs, OTHERS)
    before = held(theirs, OTHERS)
    log = log or started(bench)
    run = bench.submit("one")
    bench.wait_for("one")
    assert [stage.attempt for stage in bench.run("one").stages] == [1] * 5
    assert bench.workers[0].alive and held(theirs, OTHERS) == before
    until(lambda: all(f"under the key {key}, where" in log.read_text() for key in OTHERS))
    assert {finding.message.partition("under the key ")[2].partition(",")[0] for finding in problems(bench)} == {
        *OTHERS
    }
    clear(theirs, OTHERS)
    until(lambda: theirs.get(UP) and theirs.get(OWNER))
    until(lambda: not bench.client.store.workers()[0].foreign)
    bench.submit("two")
    bench.wait_for("two")
    assert bench.workers[0].alive and problems(bench) == [] and run.name == "one"


@pytest.mark.long
@pytest.mark.parametrize("first", ["the worker", "the keys"])
def test_nothing_is_lost_where_all_queues_hold_something_else(bench: Bench, first: str) -> None:
    theirs = bench.redis()
    log = started(bench) if first == "the worker" else None
    occupy(theirs, LISTS)
    before = held(theirs, LISTS)
    log = log or started(bench)
    note = sent(bench, "one").partition("The run is recorded")[0]
    assert note.startswith(
        "The broker holds a string under the key ask, where ftq has a list, and holds a string under "
    )
    until(lambda: all(f"under the key {ascii(key)[1:-1]}, where" in log.read_text() for key in LISTS))
    until(lambda: len(bench.client.store.workers()[0].foreign) == len(LISTS))
    assert bench.workers[0].alive and bench.run("one").status == "queued" and held(theirs, LISTS) == before
    clear(theirs, LISTS)
    bench.wait_for("one")
    assert [stage.attempt for stage in bench.run("one").stages] == [1] * 5
    assert log.read_text().count("where ftq has a list: it is left out") == len(LISTS)
    assert "Traceback" not in log.read_text()


def sent(bench: Bench, name: str, **options: Any) -> str:
    """The last note of a submit."""
    folder = bench.settings.home.parent / "sent" / name
    folder.mkdir(parents=True)
    (folder / "text.md").write_text(f"# {name}\n\nThis is the text of the run {name}.\n" * 12)
    given = {"model": "smollm2-135m", "documents": str(folder), "max_steps": 1, **options}
    return bench.client.submit(given, name).notes[-1]


def test_a_key_is_told_once_for_all_workers(home: Path) -> None:
    home.mkdir(exist_ok=True)
    with closing(RunStore(f"sqlite:///{home}/ftq.db")) as store:
        for name, foreign in (("a1", ["holds x", "holds y"]), ("a2", ["holds x"]), ("a3", [])):
            store.see_worker(name, "box", list(QUEUES), None, 1, {"stages": list(STAGES), "foreign": foreign})
        told = workers(Settings.from_env(), ask=lambda *_: {"a1", "a2", "a3"})
        assert [one.message for one in told if one.level == "warning"] == [
            "a1, a2 leave a key out: their broker holds x",
            "a1 leaves a key out: its broker holds y",
        ]


@pytest.mark.long
def test_other_queues_and_priorities_go_on_and_the_command_that_is_told_mends_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftq.doctor.workers.ANSWER_SECONDS", PATIENCE)
    if not shutil.which("redis-cli"):
        pytest.skip("no redis-cli: apt-get install redis-tools")
    theirs, key = bench.redis(), f"cpu{STEP}4"  # where a run of normal priority begins
    theirs.hset(key, "user", "1")
    log = started(bench)
    socket = bench.settings.broker_socket
    told = r"holds a hash under the key cpu\x06\x164, where ftq has a list"
    command = rf"redis-cli -s {socket} RENAMENX $'cpu\x06\x164' $'foreign:cpu\x06\x164'"
    fix = rf"{command}   (or DEL $'cpu\x06\x164', if nobody needs it). All goes on by itself then."
    assert sent(bench, "normal") == (
        f"The broker {told}. The run is recorded and starts as soon as it takes messages. {fix}"
    )
    sent(bench, "urgent", priority="high")
    until(lambda: bench.run("urgent").is_finished)
    until(lambda: told in log.read_text() and fix in log.read_text())
    assert bench.run("urgent").status == "succeeded" and bench.run("normal").status == "queued"
    until(lambda: bench.client.store.workers()[0].foreign == [told])
    assert problems(bench) == [Finding("broker", "problem", f"{socket} {told}", fix)]
    name = bench.client.store.workers()[0].name
    assert [one.message for one in workers(bench.settings) if one.level == "warning"] == [
        f"{name} leaves a key out: its broker {told}"
    ]
    listed = CliRunner().invoke(main, ["workers"], env=bench.environment)
    assert f"The broker of {name} {told}: that key is left out. `ftq doctor` says what to type.\n" in listed.stderr
    listed = CliRunner().invoke(main, ["workers", "--json"], env=bench.environment)
    assert [one["foreign_keys"] for one in json.loads(listed.stdout)] == [[told]]
    subprocess.run(["bash", "-c", command], check=True, timeout=PATIENCE, capture_output=True)
    bench.wait_for("normal")
    assert theirs.hgetall(f"foreign:{key}") == {b"user": b"1"}
    until(lambda: r"the broker's key cpu\x06\x164 is free for ftq again" in log.read_text())


@pytest.mark.long
def test_a_run_that_is_at_work_waits_for_the_queue_of_its_next_stage(bench: Bench) -> None:
    theirs = bench.redis()
    started(bench)
    bench.submit("busy", {"prepare": {"1": "wait"}})
    until(lambda: bench.has("busy", "started", "prepare"))
    gpu = [key for key in LISTS if key.startswith("gpu")]
    occupy(theirs, gpu)
    bench.let_go("busy")
    until(lambda: bench.run("busy").stage("prepare").status == "succeeded")
    until(lambda: len(bench.client.store.workers()[0].foreign) == len(gpu))
    assert bench.workers[0].alive
    clear(theirs, gpu)
    bench.wait_for("busy")
    assert [stage.attempt for stage in bench.run("busy").stages] == [1] * 5


@pytest.mark.long
def test_the_queues_of_a_label_are_looked_at_too(bench: Bench) -> None:
    bench.start_worker(labels="big")
    until(lambda: "cpu.big" in bench.client.store.live_queues())
    key = f"cpu.big{STEP}4"
    bench.redis().set(key, "theirs")
    told = r"holds a string under the key cpu.big\x06\x164, where ftq has a list"
    assert sent(bench, "labelled", worker="big").startswith(f"The broker {told}. The run is recorded")
    until(lambda: bench.client.store.workers()[0].foreign == [told])
    (problem,) = [one for one in whose(bench.settings) if one.level == "problem"]
    assert problem.message == f"the broker {told}" and " RENAMENX $'cpu.big" in problem.fix
    clear(bench.redis(), [key])
    bench.wait_for("labelled")


@pytest.mark.slow
def test_a_question_is_told_the_key_at_once(bench: Bench) -> None:
    started(bench)
    bench.submit("one")
    bench.wait_for("one")
    bench.redis().set("ask", "theirs")
    asked = CliRunner().invoke(main, ["infer", "one", "Why?"], env=bench.environment)
    told = "the broker holds a string under the key ask, where ftq has a list, so nobody can answer"
    assert asked.exit_code == 1 and asked.stderr.startswith(f"Error: {told}\nredis-cli -s ")
    bench.redis().delete("ask")
    assert bench.client.ask("one", "Why so?")["answer"] == "Why so?"


@pytest.mark.slow
def test_all_keys_are_known_that_a_worker_and_a_client_use(bench: Bench) -> None:
    """Another version of kombu may have others."""
    started(bench)
    bench.submit("one")
    bench.wait_for("one")
    bench.client.ask("one", "Why?")
    assert until(lambda: bench.client._doorbell.app.control.inspect(timeout=1).ping())
    used = {name.decode() for name in bench.redis().keys("*")}
    assert {name for name in used if not name.endswith(".reply.celery.pidbox")} <= keys.types(QUEUES).keys()
    assert {OWNER, UP, "_kombu.binding.cpu"} <= used


def test_what_is_typed_for_a_broker_on_the_network(home: Path) -> None:
    one = keys.Foreign("unacked", "string", "hash")
    for url, client in (
        ("redis://h:6379/3", "redis-cli -u redis://h:6379/3"),
        ("rediss://ftq:s3cr3t@h:6379/0", "redis-cli -u rediss://ftq@h:6379/0 --askpass"),
    ):
        fix = one.fix(Settings.from_env({"FTQ_HOME": str(home), "FTQ_BROKER_URL": url}))
        assert fix.startswith(f"{client} RENAMENX unacked foreign:unacked   (or DEL unacked, ")
