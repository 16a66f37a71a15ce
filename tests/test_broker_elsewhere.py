"""A client on a broker on which nobody listens, while the workers of its database listen on another: said at once."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner

from cli.main import main
from ftq.client.client import Client
from ftq.doctor.broker import whose
from ftq.doctor.findings import Finding
from ftq.doorbell import away
from ftq.doorbell.owner import UP
from ftq.errors import FtqError
from ftq.settings import Settings
from ftq.store.records import Worker
from tests.tools import Bench, free_port, listens, until
from worker.host import broker

MINE = "redis://h:6379/3"


def worker(name: str, place: str | None, live: bool = True) -> Worker:
    return Worker(name, ["cpu"], {} if place is None else {"broker": place}, live, "ada", None, 0.0, False)


@pytest.mark.parametrize(
    ("broker_url", "workers", "says"),
    [
        (MINE, [], None),
        (MINE, [worker("w1", "redis://h:6379/0", live=False)], None),
        (MINE, [worker("of an earlier ftq", None)], None),
        (MINE, [worker("w1", "redis://h:6379/0"), worker("w2", MINE)], None),
        (MINE, [worker("w2", ""), worker("w1", "redis://h:6379/0")],
         (f"no worker listens on {MINE}; worker w1 listens on redis://h:6379/0",
          "export FTQ_BROKER_URL=redis://h:6379/0   (as ada names it; FTQ_BROKER_PASSWORD_FILE)")),
        ("redis://me:secret@h:6379/3", [worker("w1", "redis://ftq@h:6379/0")],
         ("no worker listens on redis://me@h:6379/3; worker w1 listens on redis://ftq@h:6379/0",
          "export FTQ_BROKER_URL=redis://ftq@h:6379/0   (as ada names it; FTQ_BROKER_PASSWORD_FILE)")),
        (MINE, [worker("w2", "")],
         (f"no worker listens on {MINE}; worker w2 listens on the broker of `ftq up` on ada",
          "On ada: unset FTQ_BROKER_URL. Several machines need a broker of theirs (docs/deploy.md).")),
    ],
)  # fmt: skip
def test_who_listens_where(home: Path, broker_url: str, workers: list[Worker], says: tuple[str, str] | None) -> None:
    settings = Settings.from_env({"FTQ_HOME": str(home), "FTQ_BROKER_URL": broker_url})
    assert away.deaf(settings, workers) == says


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Bench]:
    """A worker that is up on a broker on the network, which wants a password."""
    port = free_port()
    command = [broker._binary(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--requirepass", "s3cr3t"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        until(lambda: listens(port))
        bench = Bench(tmp_path / "artifacts", FTQ_BROKER_URL=f"redis://:s3cr3t@127.0.0.1:{port}/0")
        try:
            bench.start_worker()
            until(bench.client.store.live_queues)
            yield bench
        finally:
            bench.close()
            server.kill()


def on_database(settings: Settings, number: int) -> Settings:
    return dataclasses.replace(settings, broker_url=f"{settings.broker_url.rpartition('/')[0]}/{number}")


@pytest.mark.slow
def test_a_wrong_number_is_told_at_once_by_everything_that_sends(team: Bench, documents: Path) -> None:
    wrong = on_database(team.settings, 3)
    place = wrong.broker_url.replace(":s3cr3t@", "").removesuffix("/3")
    (name,) = team.client.store.live_workers()
    message = f"o worker listens on {place}/3; worker {name} listens on {place}/0"
    fix = rf"export FTQ_BROKER_URL={place}/0   \(as \S+ names it; FTQ_BROKER_PASSWORD_FILE\)"
    told = f"N{message}: {fix}\nThe run is recorded: they find it there, within a minute or two."
    with closing(Client(wrong)) as client:
        sent = client.submit({"model": "smollm2-135m", "documents": str(documents), "max_steps": 1}, "handbook")
        assert re.fullmatch(told, sent.notes[-1])
        team.wait_for("handbook")  # and so they do
        _, notes = client.retry("handbook", "infer")
        assert re.fullmatch(told, notes[-1])
        team.wait_for("handbook")
        with pytest.raises(FtqError) as refused:
            client.ask("handbook", "Why?")
    assert refused.value.message == f"n{message}, so nobody can answer" and re.fullmatch(fix, refused.value.hint)
    (problem,) = whose(wrong)
    assert (problem.level, problem.message) == ("problem", f"n{message}")
    environment = {**team.environment, "FTQ_BROKER_URL": wrong.broker_url}
    asked = CliRunner().invoke(main, ["infer", "handbook", "Why?"], env=environment)
    assert asked.exit_code == 1 and re.fullmatch(f"Error: n{message}, so nobody can answer\n{fix}\n", asked.stderr)


@pytest.mark.slow
def test_the_right_one_is_told_nothing_by_whichever_name(team: Bench, documents: Path) -> None:
    named = dataclasses.replace(team.settings, broker_url=team.settings.broker_url.replace("127.0.0.1", "localhost"))
    with closing(Client(named)) as client:
        assert client._doorbell.deaf() is None
        sent = client.submit({"model": "smollm2-135m", "documents": str(documents), "max_steps": 1}, "handbook")
        assert not [note for note in sent.notes if "listens" in note]
        team.wait_for("handbook")
    assert list(whose(named)) == [Finding("broker", "ok", "belongs to this database")]


@pytest.mark.slow
def test_who_may_not_look_is_told_nothing_wrong(team: Bench) -> None:
    wrong = on_database(team.settings, 3)
    with redis.Redis.from_url(wrong.broker_url) as admin:
        admin.acl_setuser("me", enabled=True, passwords=["+pw"], keys=["*"], channels=["*"], commands=["+@all", "-get"])
    limited = dataclasses.replace(wrong, broker_url=wrong.broker_url.replace(":s3cr3t@", "me:pw@"))
    with closing(Client(limited)) as client:
        assert client._doorbell.deaf() is None
    with redis.Redis.from_url(team.settings.broker_url) as right:
        assert right.exists(UP)
