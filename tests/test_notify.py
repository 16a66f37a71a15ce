"""Notifications: who is told what, once, by a signature that can be checked; and what a failing receiver costs."""

from __future__ import annotations

import base64
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from cli.main import main
from ftq.doctor.notify import notify
from ftq.errors import RunError, UserError
from ftq.notify.addresses import Address, addresses
from ftq.notify.send import MISSING
from ftq.servers import NOT_FOR_STAGES
from ftq.store.gateway.tables import webhooks
from ftq.store.gateway.webhooks import FIRST_WAIT
from ftq.store.store import RunStore
from tests.test_store import Clock, clock, store, url
from tests.tools import Bench, succeed, until
from worker.notifier import STALLED_SECONDS, Notifier

__all__ = ["clock", "store", "url"]  # fixtures
SECRET = "whsec_" + base64.b64encode(b"a" * 32).decode()
TOKEN = "TIiajkdnlazkcOXrIdevi7FQ"
SLACK = f"slack://T1JJ3T3L2/A1BRTD4JD/{TOKEN}/"


class Receiver:
    """A server that answers with these statuses, then 200, and keeps what it got."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.taken: list[tuple[bytes, dict[str, str]]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.taken.append((self.rfile.read(int(self.headers["content-length"])), dict(self.headers)))
                status = receiver.statuses.pop(0) if receiver.statuses else 200
                self.send_response(status)
                if status == 302:
                    self.send_header("location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        self.place = f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def sent_as(self) -> set[str]:
        return {value for _, headers in self.taken for name, value in headers.items() if name.lower() == "webhook-id"}

    @property
    def told(self) -> list[tuple[str, str]]:
        """(type, title) of what came as signed JSON; each signature is checked as OpenAI's client does it."""
        client = openai.OpenAI(api_key="x", webhook_secret=SECRET)
        bodies = []
        for body, headers in self.taken:
            client.webhooks.verify_signature(body, headers)
            bodies.append(json.loads(body))
        return [(body["type"], body["data"]["title"]) for body in bodies]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def webhook(receiver: Receiver) -> Address:
    return addresses({"FTQ_NOTIFY_URL": f"http://{receiver.place}/hook", "FTQ_WEBHOOK_SECRET": SECRET})[0]


# ---- who is told -----------------------------------------------------------------------------------------


def test_what_an_address_shows(tmp_path: Path) -> None:
    hook = f"https://me:pass@example.org/{TOKEN}"
    (tmp_path / "urls").write_text(f"{SLACK} {hook} https://hooks.slack.com/services/{TOKEN}  {SLACK}\n")
    known = addresses({"FTQ_NOTIFY_URL_FILE": str(tmp_path / "urls"), "FTQ_WEBHOOK_SECRET": SECRET})
    assert [one.shown for one in known] == [
        "slack:// (address 1)", "https://example.org (address 2)", "https://hooks.slack.com (address 3)"]  # fmt: skip
    assert [bool(one.key) for one in known] == [False, True, False]
    assert TOKEN not in f"{known} {[one.id for one in known]}" and SECRET not in f"{known}"
    said = known[1].without_secrets(f"no answer from {hook}: /{TOKEN} of me:pass at example.org")
    assert said == "no answer from ***: /*** of me:*** at example.org"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"FTQ_NOTIFY_URL": f"ntfy://a {TOKEN}"}, "FTQ_NOTIFY_URL: address 2 is no URL"),
        ({"FTQ_NOTIFY_URL": "https://"}, "FTQ_NOTIFY_URL: address 1 is no URL"),
        ({"FTQ_NOTIFY_URL": "https://:80"}, "FTQ_NOTIFY_URL: address 1 names no host"),
        (
            {"FTQ_NOTIFY_URL": "https://example.org/x"},
            "FTQ_NOTIFY_URL: address 1 gets signed JSON, and FTQ_WEBHOOK_SECRET isn't set",
        ),
        (
            {"FTQ_NOTIFY_URL": "https://example.org/x", "FTQ_WEBHOOK_SECRET": "abc"},
            "FTQ_WEBHOOK_SECRET: expected whsec_ and base64",
        ),
        (
            {"FTQ_NOTIFY_URL": "a://b", "FTQ_NOTIFY_URL_FILE": "c"},
            "FTQ_NOTIFY_URL and FTQ_NOTIFY_URL_FILE are both set",
        ),
    ],
)
def test_what_cannot_be_an_address(environ: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        addresses(environ)
    assert caught.value.message == message and TOKEN not in caught.value.text
    assert [(one.level, one.message) for one in notify(environ)] == [("problem", message)]


def test_no_stage_inherits_an_address() -> None:
    assert {"FTQ_NOTIFY_URL", "FTQ_NOTIFY_URL_FILE", "FTQ_WEBHOOK_SECRET"} <= set(NOT_FOR_STAGES)


# ---- what is told ----------------------------------------------------------------------------------------


def test_each_end_is_told_once_by_whoever_comes_first(
    store: RunStore, url: str, clock: Clock, receiver: Receiver
) -> None:
    for name in ("early", "done", "broken", "waits", "cancelled"):
        store.create(name, name, {"model": "m"}, "hash")
    succeed(store, "early")
    other = RunStore(url, clock)
    notifiers = [Notifier(lambda one=one: one, [webhook(receiver)]) for one in (store, other)]  # type: ignore[misc]
    assert [notifier.turn() for notifier in notifiers] == [0, 0]  # what ended before is history
    succeed(store, "done")
    token = store.claim("broken", "prepare", 1, "w1", 60)
    assert token
    store.fail(token, RunError("user", "no documents", "look"))
    store.cancel("cancelled")
    assert [notifier.turn() for notifier in notifiers] == [2, 0]
    assert sorted(receiver.told) == [
        ("ftq.run.failed", "ftq: broken has failed"),
        ("ftq.run.finished", "ftq: done has finished (done:1)"),
    ]
    clock.now += 100
    store.retry("broken")
    token = store.claim("broken", "prepare", 2, "w1", 60)
    assert token
    store.fail(token, RunError("user", "no documents", "look"))
    assert [notifier.turn() for notifier in reversed(notifiers)] == [1, 0]
    clock.now += 100
    store.delete("done")
    restarted = Notifier(lambda: store, [webhook(receiver)])
    assert (restarted.turn(), restarted.turn()) == (0, 0)
    assert [title for _, title in receiver.told].count("ftq: broken has failed") == 2
    other.close()


def test_a_run_that_nobody_takes_is_told_as_stalled(store: RunStore, clock: Clock, receiver: Receiver) -> None:
    store.see_worker("w1", "host", ["cpu"], None, 1)
    for name, label in (("waits", "big"), ("served", "")):
        store.create(name, name, {"model": "m", "worker": label}, "hash")
    notifier = Notifier(lambda: store, [webhook(receiver)])
    assert notifier.turn() == 0
    clock.now += STALLED_SECONDS + 1
    store.see_worker("w1", "host", ["cpu"], None, 1)
    assert (store.note_stalled(STALLED_SECONDS), store.note_stalled(STALLED_SECONDS)) == (["waits"], [])
    assert (notifier.turn(), receiver.told) == (1, [("ftq.run.stalled", "ftq: waits is stalled")])
    said = store.events("waits")[-1]
    assert (said.kind, said.stage, said.attempt) == ("stalled", "prepare", 1)
    assert said.message == "waits for 10:01: no worker serves the queue cpu.big"


def test_a_run_that_is_lost_again_and_again_is_told_as_stalled(store: RunStore, clock: Clock) -> None:
    store.see_worker("w1", "host", ["cpu"], None, 1)
    store.create("abc", "abc", {"model": "m"}, "hash")
    told = []
    for attempt in range(1, 6):
        token = store.claim("abc", "prepare", attempt, "w1", 60)
        assert token
        store.lose(token, "gone")
        told.append(store.note_stalled(STALLED_SECONDS))
        clock.now += 200
        store.see_worker("w1", "host", ["cpu"], None, 1)
    assert told == [[], [], ["abc"], [], []]


def test_a_worker_is_told_as_drained_when_it_has_nothing_left(
    store: RunStore, clock: Clock, receiver: Receiver
) -> None:
    notifier = Notifier(lambda: store, [webhook(receiver)])
    store.see_worker("w1@host", "host", ["cpu"], None, 1)
    store.create("abc", "abc", {"model": "m"}, "hash")
    notifier.turn()
    token = store.claim("abc", "prepare", 1, "w1@host", 60)
    assert token
    store.set_drained("w1@host", True)
    assert notifier.turn() == 0
    store.succeed(token, None, [])
    clock.now += 5
    store.set_drained("w1@host", True)  # asked for twice
    assert (notifier.turn(), notifier.turn()) == (1, 0)
    store.set_drained("w1@host", False)
    store.set_drained("w1@host", True)
    assert notifier.turn() == 1
    assert receiver.told == [("ftq.worker.drained", "ftq: w1@host is drained")] * 2


@pytest.mark.parametrize("status", [500, 302])
def test_one_that_fails_is_tried_again_and_told_as_an_event(
    store: RunStore, clock: Clock, receiver: Receiver, status: int
) -> None:
    receiver.statuses = [status, status]
    notifier = Notifier(lambda: store, [webhook(receiver)])
    notifier.turn()
    store.create("abc", "abc", {"model": "m"}, "hash")
    succeed(store, "abc")
    tries = []
    for _ in range(5):
        tries.append(notifier.turn())
        clock.now += FIRST_WAIT
    assert tries == [1, 1, 0, 1, 0]
    assert len({body for body, _ in receiver.taken}) == len(receiver.sent_as) == 1
    shown = webhook(receiver).shown
    assert [(event.kind, event.message) for event in store.events("abc")][-1:] == [
        ("warning", f"{shown} wasn't told of this (HTTP status {status}); tried again later")
    ]
    assert store.get("abc").status == "succeeded"


# ---- apprise, the command and the doctor -----------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # a plugin's import
def test_other_services_are_told_by_apprise(store: RunStore, receiver: Receiver) -> None:
    pytest.importorskip("apprise")
    known = addresses({"FTQ_NOTIFY_URL": f"json://{receiver.place}/{TOKEN}"})
    receiver.statuses = [500]
    notifier = Notifier(lambda: store, known)
    notifier.turn()
    for name in ("refused", "abc"):
        store.create(name, name, {"model": "m"}, "hash")
        succeed(store, name)
        assert notifier.turn() == 1
    body = json.loads(receiver.taken[1][0])
    assert (body["title"], body["message"], body["type"]) == (
        "ftq: abc has finished (abc:1)", 'The model is ready: ftq infer abc "A question?"', "success")  # fmt: skip
    said = store.events("refused")[-1].message
    assert said.startswith("json:// (address 1) wasn't told of this (") and TOKEN not in said


def test_the_command_tries_each_address(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"FTQ_NOTIFY_URL": f"http://{receiver.place}/a http://{receiver.place}/b", "FTQ_WEBHOOK_SECRET": SECRET}
    receiver.statuses = [404]
    said = CliRunner().invoke(main, ["notify", "--test"], env=environ)
    assert (said.exit_code, said.stdout) == (
        1, "http://127.0.0.1 (address 1): HTTP status 404\nhttp://127.0.0.1 (address 2): sent\n")  # fmt: skip
    assert receiver.told == [("ftq.test", "ftq: a test")] * 2
    assert CliRunner().invoke(main, ["notify"], env=environ).exit_code == 0
    assert len(receiver.taken) == 2
    nobody = CliRunner().invoke(main, ["notify", "--test"])
    assert nobody.exit_code == 1 and nobody.stderr.startswith("Nobody is told: FTQ_NOTIFY_URL is empty")


def test_where_apprise_is_missing_the_command_and_the_doctor_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    monkeypatch.setattr("ftq.notify.send.find_spec", lambda name: None)
    said = CliRunner().invoke(main, ["notify", "--test"], env={"FTQ_NOTIFY_URL": SLACK})
    assert (said.exit_code, said.stdout) == (1, f"slack:// (address 1): {MISSING}\n")
    assert [(one.level, one.message) for one in notify({"FTQ_NOTIFY_URL": SLACK})] == [
        ("problem", "slack:// (address 1): apprise isn't installed here")
    ]
    assert list(notify({})) == []


@pytest.mark.slow
def test_two_workers_tell_once(tmp_path: Path, receiver: Receiver) -> None:
    environ = {"FTQ_NOTIFY_URL": f"http://{receiver.place}/", "FTQ_WEBHOOK_SECRET": SECRET}
    with Bench(tmp_path / "artifacts", **environ) as bench:
        for _ in range(2):
            bench.start_worker("cpu,gpu")
        until(lambda: len(bench.client.store.workers()) == 2 and begun(bench.client.store))
        bench.submit("one")
        bench.submit("two", {"train": {"1": "user"}})
        until(lambda: len(receiver.taken) == 2)
        until(lambda: all(run.is_finished for run in bench.client.all()))
        assert sorted(receiver.told) == [
            ("ftq.run.failed", "ftq: two has failed"),
            ("ftq.run.finished", "ftq: one has finished (one:1)"),
        ]
        logs = "".join(log.read_text() for log in bench.client.settings.home.rglob("*.log"))
        assert SECRET not in logs


def begun(store: RunStore) -> bool:
    """Whether a notifier has had its first turn: what ended before isn't told."""
    with store.reading() as db:
        return db.scalar(sa.select(webhooks.c.id)) is not None
