"""A broker belongs to one database: who comes with another is told, and no worker swallows the other's messages."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from cli.main import main
from ftq import queue
from ftq.client.client import Client
from ftq.doctor.broker import broker as look
from ftq.doctor.broker import whose
from ftq.doctor.findings import Finding
from ftq.doorbell import away, owner
from ftq.doorbell.owner import OWNER, UP, Owner
from ftq.errors import Refused, UserError
from ftq.servers import place_of
from ftq.settings import Settings
from ftq.store.records import Worker
from ftq.store.store import RunStore
from tests.tools import PATIENCE, Bench, free_port, listens, until
from worker import strays
from worker.host import broker

TEAM = "postgresql+psycopg://ftq@db.example.org/ftq"
A, B = Owner("a", TEAM, "w1@ada", "2026-11-29 18:00 UTC"), Owner("b", "sqlite:////home/me/ftq.db", "w1@laptop", "now")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The URL of a broker on the network, as a team has one."""
    port = free_port()
    command = [broker._binary(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        until(lambda: listens(port))
        yield f"redis://127.0.0.1:{port}/0"
        process.kill()


@pytest.fixture
def client(server: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server) as client:
        yield client


def doctor(settings: Settings) -> list[Finding]:
    return [*look(settings), *whose(settings)]


def up(of: Owner) -> Owner:
    return dataclasses.replace(of, up=of.worker)


# ---- who has it -----------------------------------------------------------------------------------------


def test_the_first_worker_has_the_broker_and_another_database_is_told_whose_it_is(client: redis.Redis) -> None:
    assert owner.read(client) is None
    assert owner.keep(client, A) is None
    assert owner.read(client) == up(A)
    assert owner.keep(client, B) == up(A) == owner.read(client)
    assert owner.keep(client, A) is None
    assert 0 < client.ttl(UP) <= owner.UP_SECONDS < client.ttl(OWNER) <= owner.KEPT


def test_a_worker_that_ends_says_so_for_itself_alone(client: redis.Redis) -> None:
    owner.keep(client, A)
    owner.leave(client, "another@ada")
    assert owner.read(client) == up(A)
    owner.leave(client, A.worker)
    assert owner.read(client) == A


@pytest.mark.parametrize(
    ("mine", "embedded", "had", "takes"),
    [
        (B, False, False, False),
        (B, True, False, True),  # a machine's own broker
        (B, False, True, True),  # it was this database's before another took it
        (dataclasses.replace(B, place=TEAM), False, False, True),  # the database was made anew at its place
        (dataclasses.replace(A, place="postgresql+psycopg://ftq@moved/ftq"), False, False, True),
    ],
)
def test_who_takes_over_a_broker_without_workers(
    client: redis.Redis, mine: Owner, embedded: bool, had: bool, takes: bool
) -> None:
    owner.keep(client, A)
    is_same = mine.identity == A.identity
    assert (owner.keep(client, mine, embedded, had) is None) == is_same  # while a worker is up, nobody does
    owner.leave(client, mine.worker if is_same else A.worker)
    assert owner.other(A, mine, embedded) == (not takes and not is_same) or had
    assert (owner.keep(client, mine, embedded, had) is None) == takes
    assert owner.read(client) == (up(mine) if takes else A)


def test_two_names_of_one_database_do_not_take_turns(client: redis.Redis) -> None:
    pooled = dataclasses.replace(A, place="postgresql+psycopg://ftq@pgbouncer/ftq", worker="w2@ada")
    owner.keep(client, A)
    owner.keep(client, pooled)
    now = owner.read(client)
    assert now and (now.place, now.up) == (TEAM, "w2@ada")


def test_only_a_person_takes_it_from_another_database_and_not_from_one_at_work(client: redis.Redis) -> None:
    owner.keep(client, A)
    assert owner.take(client, B) == up(A)
    owner.leave(client, A.worker)
    assert owner.take(client, B) is None
    assert owner.read(client) == B


@pytest.mark.parametrize("said", [b"", b"x", b"[]", b"{}", b'{"identity": "a"}', b"\xff"])
def test_what_nobody_can_read_says_nothing(client: redis.Redis, said: bytes) -> None:
    client.set(OWNER, said)
    assert owner.read(client) is None
    assert owner.keep(client, A) is None  # nor keeps it a worker from saying it anew
    assert owner.read(client) == up(A)


def test_no_password_is_shown() -> None:
    assert place_of("postgresql+psycopg://ftq:s3cr3t@h/ftq") == "postgresql+psycopg://ftq@h/ftq"
    assert place_of("redis://:s3cr3t@h:6379/0") == "redis://h:6379/0"
    assert place_of("redis://h:6379/0") == "redis://h:6379/0"


# ---- what people are told -------------------------------------------------------------------------------


def ftq(*arguments: str, **environment: str) -> Any:
    return CliRunner().invoke(main, list(arguments), env=environment)


@pytest.fixture
def team(client: redis.Redis) -> None:
    owner.keep(client, A)


TOLD = (
    "FTQ_DATABASE_URL isn't set, which means {mine}, but the broker {broker} belongs to another database: "
    f"{TEAM}, whose worker w1@ada is up\n"
    f"export FTQ_DATABASE_URL={TEAM}   (as w1@ada names it; FTQ_DATABASE_PASSWORD_FILE)\n"
    "For a queue of this database's own: FTQ_BROKER_URL with another number at its end, or unset."
)


@pytest.mark.usefixtures("team")
def test_submit_without_the_database_is_refused_and_makes_none(server: str, home: Path, documents: Path) -> None:
    submitted = ftq("submit", "--model", "smollm2-135m", "--documents", str(documents), FTQ_BROKER_URL=server)
    told = TOLD.format(mine=f"sqlite:///{home}/ftq.db", broker=server)
    assert (submitted.exit_code, submitted.stdout) == (2, "")
    assert f"Error: {told}" in submitted.stderr
    assert not home.exists()


@pytest.mark.usefixtures("team")
@pytest.mark.parametrize(
    "command", ["status", "status handbook", "logs handbook", "pull handbook", "rm --yes handbook"]
)
def test_where_runs_are_missing_it_is_said_whose_the_broker_is(server: str, home: Path, command: str) -> None:
    failed = ftq(*command.split(), FTQ_BROKER_URL=server)
    told = TOLD.format(mine=f"sqlite:///{home}/ftq.db", broker=server)
    assert (failed.exit_code, failed.stderr) == (2, f"Error: {told}\n")


@pytest.mark.usefixtures("team")
def test_every_command_that_sends_is_refused(server: str, documents: Path, store: Any) -> None:
    store.add("abc", "mine")
    store.runs.cancel("abc")
    client = Client(Settings.from_env({"FTQ_HOME": str(store.home), "FTQ_BROKER_URL": server}))
    for send in (client.retry, client.resume, lambda name: client.submit_once({"model": "smollm2-135m",
                 "documents": str(documents)}, "x", "x1")):  # fmt: skip
        with pytest.raises(UserError, match="FTQ_DATABASE_URL isn't set"):
            send("mine")
    with pytest.raises(UserError, match="FTQ_DATABASE_URL isn't set"):
        _ = client.room  # gc would take the other's runs for deleted ones
    assert client.find("mine").status == "cancelled"
    client.close()


@pytest.mark.usefixtures("team")
def test_a_worker_with_another_database_does_not_start(server: str, home: Path) -> None:
    command = [sys.executable, "-m", "ftq.start", "worker.host.worker"]
    settings = Settings.from_env({"FTQ_HOME": str(home)})
    started = subprocess.run(command, env={**os.environ, "FTQ_BROKER_URL": server}, capture_output=True, text=True,
                             timeout=PATIENCE)  # fmt: skip
    assert started.returncode == 2
    assert f"Error: {TOLD.format(mine=settings.database_url, broker=server)}" in started.stderr


@pytest.mark.usefixtures("team")
def test_the_doctor_tells_it_without_making_a_database(server: str, home: Path) -> None:
    home.mkdir()
    settings = Settings.from_env({"FTQ_HOME": str(home), "FTQ_BROKER_URL": server})
    (problem,) = [one for one in doctor(settings) if one.level == "problem"]
    assert f"{problem.message}\n{problem.fix}" == TOLD.format(mine=settings.database_url, broker=server)
    assert list(home.iterdir()) == []


def test_the_doctor_gives_the_broker_to_this_database(
    server: str, client: redis.Redis, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner.keep(client, A)
    monkeypatch.setenv("FTQ_BROKER_URL", server)
    settings = Settings.from_env()
    refused = ftq("doctor", "--take-broker")
    assert refused.exit_code == 1
    assert f"the broker belongs to {TEAM}, whose worker w1@ada is up\nStop all of its workers" in refused.stderr
    owner.leave(client, A.worker)
    (silent,) = [one for one in doctor(settings) if one.level == "problem"]
    assert silent.message.endswith(f"{TEAM}, as worker w1@ada has said on {A.since}; none of its workers is up")
    assert silent.fix.endswith("If that database isn't used any more: ftq doctor --take-broker")
    assert "The broker belongs to this database now." in ftq("doctor", "--take-broker").stderr
    assert "belongs to this database" in [one.message for one in doctor(settings)]


def test_a_file_on_another_machine_is_no_address() -> None:
    message, fix = owner.differs(up(B), Settings(Path("/h"), "redis://h/0", TEAM))
    assert message.startswith(f"FTQ_DATABASE_URL={TEAM}, but the broker redis://h/0 belongs to another database: ")
    assert fix.startswith("That is a file on laptop; several machines need PostgreSQL (docs/deploy.md).\n")


def test_a_user_who_may_not_look_is_told_by_the_doctor_and_submits_as_before(
    server: str, client: redis.Redis, home: Path, documents: Path
) -> None:
    owner.keep(client, A)
    client.acl_setuser("me", enabled=True, passwords=["+pw"], keys=["*"], channels=["*"], commands=["+@all", "-get"])
    settings = Settings.from_env({"FTQ_HOME": str(home), "FTQ_BROKER_URL": server.replace("//", "//me:pw@")})
    (note,) = [one for one in doctor(settings) if "which database" in one.message]
    assert (note.level, note.message) == ("note", "not allowed to look which database its workers use (GET)")
    mine = Client(settings)
    mine.submit({"model": "smollm2-135m", "documents": str(documents)})
    mine.close()


# ---- messages of other databases ------------------------------------------------------------------------


@pytest.fixture
def stranger(bench: Bench, tmp_path: Path) -> Iterator[Client]:
    """A client with a database of its own on the bench's broker, of a version of ftq that doesn't look whose it is."""
    other = tmp_path / "other"
    own = {"home": other, "database_url": f"sqlite:///{other}/ftq.db"}
    client = Client(dataclasses.replace(bench.settings, broker_url=bench.settings.broker, **own))
    client._doorbell.check = lambda: None  # type: ignore[method-assign]
    yield client
    client.close()


def send(stranger: Client, documents: Path) -> str:
    return stranger.submit({"model": "smollm2-135m", "documents": str(documents)}).run.id


def log(bench: Bench) -> str:
    return (bench.logs / "w1.log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("says", [True, False], ids=["a message says whose it is", "one of an earlier ftq doesn't"])
def test_a_stray_message_is_left_out_and_said_where_nobody_else_takes_it(
    bench: Bench, stranger: Client, documents: Path, says: bool
) -> None:
    bench.start_worker()
    until(lambda: bench.redis().get(UP))
    if not says:
        stranger._doorbell.app.database = ""
    run_id = send(stranger, documents)
    until(lambda: f"{run_id}.prepare.1 is of another database than sqlite:///" in log(bench))
    assert "left out. It came from " in log(bench)
    bench.submit("mine")  # and the worker goes on
    bench.wait_for_all()
    assert stranger.find(run_id).status == "queued"


@pytest.mark.slow
def test_a_worker_leaves_a_broker_that_another_database_took_and_comes_back(
    bench: Bench, stranger: Client, documents: Path
) -> None:
    """Its broker was restarted empty, say, and a worker with another database was faster."""
    del bench.environment["FTQ_HASTE"]  # it looks every 15 s, so it takes the message first
    bench.start_worker()
    mine, theirs = owner.of_store(stranger.settings, stranger.store, "w9@laptop"), bench.redis()
    until(bench.client.store.live_queues)
    theirs.delete(UP)
    until(lambda: theirs.get(UP))  # it has just looked
    words = {name: getattr(mine, name) for name in owner._WORDS}
    theirs.mset({UP: "w9@laptop", OWNER: json.dumps(words)})
    began = time.monotonic()
    run_id = send(stranger, documents)
    until(lambda: "Nothing is taken from it." in log(bench))
    assert f"{run_id}.prepare.1 is of another database" in log(bench)
    assert 1 <= log(bench).count("put back for sqlite:///") <= (time.monotonic() - began) / strays.PAUSE + 1
    question = stranger.store.ask(run_id, "Why?", {})
    queue.send_question(stranger._doorbell.app, question)
    kept: Callable[[], set[str]] = lambda: queue.messages(stranger._doorbell.app, 0)  # noqa: E731
    until(lambda: f"{run_id}.prepare.1" in kept())
    assert stranger.find(run_id).status == "queued"
    theirs.delete(UP)
    until(lambda: "belongs to this worker's database again" in log(bench))
    bench.submit("mine")
    bench.wait_for_all()


def test_a_broker_of_a_team_is_never_taken_by_mistake(server: str, client: redis.Redis, home: Path) -> None:
    """Nobody of the team is up: the laptop's worker is refused all the same, and told how to mean it."""
    owner.keep(client, A)
    owner.leave(client, A.worker)
    mine = Client(Settings.from_env({"FTQ_HOME": str(home), "FTQ_BROKER_URL": server}))
    with pytest.raises(UserError) as caught:
        mine._doorbell.check()
    assert caught.value.hint.endswith(owner.TAKE)
    with pytest.raises(Refused):
        owner.keep(client, A)
        mine._doorbell.take()
    mine.close()


# ---- no broker, or another one --------------------------------------------------------------------------


def settings_of(home: Path, broker_url: str = "", database_url: str = "") -> Settings:
    given = {"FTQ_HOME": str(home), "FTQ_BROKER_URL": broker_url, "FTQ_DATABASE_URL": database_url}
    return Settings.from_env(given)


UNSET = "FTQ_BROKER_URL isn't set here"
THEIRS = "Worker w1 takes its runs from another: export FTQ_BROKER_URL=redis://db/0   (and FTQ_BROKER_PASSWORD_FILE)"


@pytest.mark.parametrize(
    ("broker_url", "database_url", "theirs", "says"),
    [
        ("", "", None, f"{UNSET}: `ftq up` starts this machine's own."),
        ("", "", "", f"{UNSET}: `ftq up` starts this machine's own."),  # a worker of `ftq up`
        ("", TEAM, None, f"{UNSET}: set it to the broker of the workers, or `ftq up` starts this machine's own."),
        ("", TEAM, "redis://db/0", f"{UNSET}. {THEIRS}"),
        ("redis://:pw@db/0", TEAM, "redis://db/0", "Check that a server is there: FTQ_BROKER_URL=redis://:***@db/0"),
        ("redis://h/0", TEAM, "redis://db/0", f"Check that a server is there: FTQ_BROKER_URL=redis://h/0 {THEIRS}"),
    ],
)
def test_what_to_type_where_no_broker_answers(
    home: Path, broker_url: str, database_url: str, theirs: str | None, says: str
) -> None:
    facts = {} if theirs is None else {"broker": theirs}
    workers = [Worker("gone", [], {"broker": "redis://old/0"}, False, "h", None, 0.0, False),
               Worker("w1", [], facts, True, "h", None, 0.0, False)]  # fmt: skip
    assert away.advice(settings_of(home, broker_url, database_url), workers) == says


def test_submit_and_doctor_name_the_workers_broker(home: Path, documents: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    with closing(RunStore(url)) as store:
        store.see_worker("w1", "h", ["cpu", "gpu"], None, 1, {"broker": "redis://db/0"})
    submitted = ftq("submit", "--model", "smollm2-135m", "--documents", str(documents), FTQ_DATABASE_URL=url)
    assert submitted.exit_code == 0 and f"as soon as it is there. {UNSET}. {THEIRS}\n" in submitted.stderr
    (warning,) = doctor(settings_of(home, "", url))
    assert warning.message.startswith(f"{UNSET}, and this machine's own broker isn't running (")
    assert (warning.level, warning.fix) == ("warning", f"{UNSET}. {THEIRS}")


@pytest.mark.slow
def test_a_worker_that_waits_for_its_broker_says_what_to_type(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "artifacts")
    try:
        bench.start_worker()
        until(lambda: "tried again." in log(bench))
        assert f"{UNSET}: `ftq up` starts this machine's own." in log(bench).partition("tried again. ")[2]
    finally:
        bench.close()


@pytest.mark.slow
def test_from_a_real_worker_to_a_laptop_that_lacks_a_variable(bench: Bench, documents: Path, tmp_path: Path) -> None:
    worker = bench.start_worker()
    until(bench.client.store.live_queues)
    laptop = settings_of(tmp_path / "laptop", bench.settings.broker)
    with closing(Client(laptop)) as other, pytest.raises(UserError) as refused:
        other.submit({"model": "smollm2-135m", "documents": str(documents)})
    mine, theirs = (place_of(one.database_url) for one in (laptop, bench.settings))
    assert refused.value.message == (
        f"FTQ_DATABASE_URL isn't set, which means {mine}, but the broker {place_of(laptop.broker)} belongs to another "
        f"database: {theirs}, whose worker {worker.name} is up"
    )
    assert not laptop.home.exists()
    with closing(Client(dataclasses.replace(laptop, database_url=bench.settings.database_url))) as right:
        right._doorbell.check()
    worker.process.terminate()
    worker.process.wait(timeout=PATIENCE)
    assert bench.redis().get(UP) is None  # it has said that it ends
