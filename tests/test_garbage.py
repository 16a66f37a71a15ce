"""What isn't a message of ftq's, in a real broker, before a real worker: it lives, tells, and takes what follows."""

from __future__ import annotations

import base64
import json
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftq.doctor.findings import Finding
from ftq.doctor.workers import workers as doctor
from ftq.store.records import ASK, Worker
from tests.tools import PATIENCE, Bench, until
from worker.incoming import message as messages

STEP = "\x06\x164"  # of the list in which messages of normal priority wait
Message = dict[str, Any]


@pytest.fixture
def sent(bench: Bench) -> Message:
    """What `ftq submit` sends, of a run that nobody wants any more: a worker takes it and finds nothing to claim."""
    run = bench.submit("gone")
    (raw,) = bench.redis().lrange(f"cpu{STEP}", 0, -1)
    assert bench.redis().delete(f"cpu{STEP}")
    bench.client.cancel(run.id)
    message: Message = json.loads(raw)
    message["body"] = json.loads(base64.b64decode(message["body"]))
    del message["body"][2]["chain"][1:]  # one link is as good as four
    return message


def packed(message: Message) -> bytes:
    """As it lies in the broker; the body may be anything."""
    body = base64.b64encode(json.dumps(message.get("body")).encode()).decode()
    return json.dumps(message | {"body": body} if "body" in message else message).encode()


def but(message: Message, **changes: Any) -> bytes:
    """The message with other headers; `body` is another body, `type` another content type, `encoding` another one."""
    parts = {"body": "body", "type": "content-type", "encoding": "content-encoding"}
    others = {parts[name]: changes.pop(name) for name in parts if name in changes}
    return packed(message | others | {"headers": message["headers"] | changes})


def garbage(sent: Message) -> dict[str, tuple[str, bytes]]:
    """{kind: (why it isn't taken, what lies in the queue)}."""
    (run, attempt), _, chain = sent["body"]
    return {
        "bytes": (messages.NOT_JSON, b"\xff\xfe\x00\x1b[2J"),
        "text": (messages.NOT_JSON, b"not json"),
        "nothing": (messages.NOT_JSON, b""),
        "truncated": (messages.NOT_JSON, packed(sent)[:-200]),
        "deep": (messages.NOT_JSON, b"[" * 200_000),
        "pickled": (messages.NOT_JSON, pickle.dumps({"a": 1})),
        "of a type of kombu's": (messages.NOT_JSON, b'{"__type__": "datetime", "__value__": 3}'),
        "a number": (messages.NO_MESSAGE, b"1"),
        "a list": (messages.NO_MESSAGE, b"[]"),
        "an object": (messages.NO_MESSAGE, b"{}"),
        "no task": (messages.NO_MESSAGE, but(sent, task=None)),
        "no id": (messages.NO_MESSAGE, but(sent, id=7)),
        "of another type": (messages.OTHER_TYPE, but(sent, type="application/x-python-serialize")),
        "of no type": (messages.OTHER_TYPE, but(sent, type=None)),
        "of a sum": (messages.NOT_JSON, b'{"__type__": "decimal", "__value__": "x"}'),
        "otherwise encoded": (messages.OTHER_TYPE, but(sent, encoding="klingon")),
        "of a newer ftq": (messages.OTHER_TASK, but(sent, task="ftq.judge")),
        "of another app": (messages.OTHER_TASK, but(sent, task="shop.tasks.mail")),
        "of Celery itself": (messages.OTHER_TASK, but(sent, task="celery.chain")),
        "compressed": (messages.OTHER_FORM, but(sent, compression="application/x-gzip")),
        "for later": (messages.OTHER_FORM, but(sent, eta="2999-01-01T00:00:00")),
        "with a limit": (messages.OTHER_FORM, but(sent, timelimit="abc")),
        "with another chain": (messages.OTHER_FORM, but(sent, body=[[run, attempt], {}, {**chain, "chain": "x"}])),
        "with more arguments": (messages.OTHER_ARGUMENTS, but(sent, body=[[run, attempt, "gpu"], {}, chain])),
        "with names": (messages.OTHER_ARGUMENTS, but(sent, body=[[run, attempt], {"fast": True}, chain])),
    }


def the_worker(bench: Bench) -> Worker:
    (worker,) = bench.client.store.workers()
    return worker


def started(bench: Bench, queues: str = "cpu,gpu,ask") -> Path:
    """The log of a worker that takes messages."""
    bench.start_worker(queues)
    until(bench.client.store.live_queues)
    return bench.logs / "w1.log"


def all_taken(bench: Bench) -> None:
    until(lambda: not [key for key in bench.redis().keys("*") if re.match(rb"(cpu|gpu|ask)(\x06|$)", key)])


def test_garbage_is_dropped_and_told_and_what_follows_is_taken(bench: Bench, sent: Message) -> None:
    kinds, broker, log = garbage(sent), bench.redis(), started(bench)
    for number, (_, raw) in enumerate(kinds.values()):
        broker.rpush(["cpu", "gpu", f"cpu{STEP}"][number % 3], raw)
    run = bench.submit("real")
    bench.wait_for("real")
    all_taken(bench)
    assert bench.workers[0].alive
    assert [stage.attempt for stage in bench.client.find(run.id).stages] == [1] * 5
    facts = until(lambda: (it := the_worker(bench).facts).get("dropped") == len(kinds) and it)
    assert set(facts["dropped_last"]) == {"why", "queue", "begins"}
    told = re.findall(r"dropped from the queue (\w+): it (.*) \(number (\d+)\): b'.{0,160}'$", log.read_text(), re.M)
    assert {why for _, why, _ in told} == {why for why, _ in kinds.values()}
    assert {number for _, _, number in told} == {"1"}  # one line of each reason
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("queues", ["cpu,gpu", ASK])
def test_a_message_that_is_wrong_in_any_place(bench: Bench, sent: Message, queues: str) -> None:
    """Each part of a message taken out or replaced: some are as good as before, and none ends the worker."""
    started(bench, queues)
    worker, queue, broker = bench.workers[0], queues.partition(",")[0], bench.redis()
    child = worker.child()
    variants = [*wrong(sent), *(packed(sent)[:length] for length in range(0, len(packed(sent)), 97))]
    for variant in variants:
        broker.lpush(queue, variant)
    all_taken(bench)
    if queue == ASK:
        question = bench.client.store.ask(bench.submit("asked").id, "Why?", {})
        bench.client._doorbell.ring(question)
        until(lambda: bench.client.store.read_answer(question).status != "queued")
    else:
        bench.submit("real")
        bench.wait_for("real")
    assert worker.alive
    assert worker.child() == child


def wrong(value: Any, whole: Callable[[Any], bytes] = packed) -> Iterator[bytes]:
    """The message without each of its parts, and with something else in its place."""
    places = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    for place, part in places:

        def changed(other: Any, place: Any = place) -> bytes:
            return whole({**value, place: other} if isinstance(value, dict) else
                         [*value[:place], other, *value[place + 1 :]])  # fmt: skip

        if isinstance(value, dict):
            yield whole({name: value[name] for name in value if name != place})
        for other in (None, 0, "x", [1], {"a": 1}):
            if type(other) is not type(part):
                yield changed(other)
        yield from wrong(part, changed)


def test_garbage_that_goes_to_all_workers(bench: Bench, sent: Message) -> None:
    log, broker = started(bench), bench.redis()
    until(lambda: broker.publish("/0.celery.pidbox", b"\xff"))  # until it listens
    orders = [{"method": "x"}, {"method": "ping", "reply_to": 3}, ["shutdown"]]
    for raw in [*(raw for _, raw in garbage(sent).values()), *(but(sent, body=order) for order in orders)]:
        until(lambda raw=raw: broker.publish("/0.celery.pidbox", raw))  # it may be connecting anew
    bench.submit("real")
    bench.wait_for("real")
    assert until(lambda: bench.client._doorbell.app.control.inspect(timeout=1).ping())
    assert bench.workers[0].alive
    assert re.search(rf"dropped from the queue /0.celery.pidbox: it {messages.NO_MESSAGE}", log.read_text())


def test_what_was_never_acknowledged_and_is_no_message(bench: Bench) -> None:
    """kombu looks at it as soon as a worker starts."""
    broker = bench.redis()
    for name, raw in {"text": b"not json", "list": b"[]", "one": b'["x", "", "cpu"]'}.items():
        broker.hset("unacked", name, raw)
        broker.zadd("unacked_index", {name: 1})
    started(bench)
    until(lambda: not broker.hlen("unacked"))
    bench.submit("real")
    bench.wait_for("real")
    assert bench.workers[0].alive


@pytest.fixture
def trusting(bench: Bench) -> Bench:
    """A machine whose worker takes whatever is JSON for a message of ftq's."""
    bench.environment["FTQ_TRUSTING"] = "1"
    return bench


def test_what_nobody_foresaw_costs_a_connection_and_no_worker(trusting: Bench, sent: Message) -> None:
    kinds, log = garbage(sent), started(trusting)
    child = trusting.workers[0].child()
    for kind in ("no id", "with a limit"):  # before Celery has noted the task, and after it
        trusting.redis().rpush("cpu", kinds[kind][1] if kind != "no id" else without_id(sent))
    trusting.submit("real")
    trusting.wait_for("real")
    assert trusting.workers[0].alive
    assert trusting.workers[0].child() == child
    told = re.findall(r"dropped from the queue cpu: it (.*) \(number 1\)", log.read_text())
    assert [why.startswith(messages.FELL_OVER) for why in told] == [True, True]
    until(lambda: not trusting.redis().hlen("unacked"))  # the last one is acknowledged while it is at work


def without_id(sent: Message) -> bytes:
    return packed(sent | {"headers": {name: value for name, value in sent["headers"].items() if name != "id"}})


def test_the_doctor_names_the_worker_and_what_to_do(
    bench: Bench, sent: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftq.doctor.workers.ANSWER_SECONDS", PATIENCE)
    started(bench)
    bench.redis().rpush("gpu", b"\xffsomething")
    until(lambda: the_worker(bench).facts.get("dropped"))
    name = the_worker(bench).name
    assert [one for one in doctor(bench.settings) if "dropped" in one.message] == [
        Finding(
            "workers",
            "warning",
            f"{name} dropped 1 message that ftq can't use. The last, from the queue gpu, isn't JSON: b'\\xffsomething'",
            "Who else writes to this broker? Give ftq one of its own, or a database's number in FTQ_BROKER_URL.",
        )
    ]
    bench.redis().rpush("gpu", but(sent, task="ftq.judge"))
    until(lambda: the_worker(bench).facts.get("dropped") == 2)
    (finding,) = [one for one in doctor(bench.settings) if "dropped" in one.message]
    assert finding.message.startswith(
        f"{name} dropped 2 messages that ftq can't use. The last, from the queue gpu, {messages.OTHER_TASK}: b'"
    )
    assert finding.fix == "If a newer ftq sent it, restart this worker with that version."
