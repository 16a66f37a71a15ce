"""What is killed at each of its steps: what others see then is whole, the same command goes on, and nothing is left."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from ftq import queue
from ftq.client.client import Client
from ftq.client.remote.connection import Connection
from ftq.client.remote.mirror import Mirror
from ftq.client.remote.submit import _copied
from ftq.errors import LeaseLost
from ftq.files.remote import limit
from ftq.files.remote.bucket import Bucket
from ftq.files.remote.share import Share
from ftq.files.run_dir import RunDir, put_text
from ftq.settings import Settings
from ftq.store.store import RunStore
from tests.deaths import age, clear, each_death
from tests.gateway_tools import settings_of
from worker.attempt import holders
from worker.attempt.supervisor import Supervisor
from worker.flower import login
from worker.host import broker
from worker.stages.train import checkpoints

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cache")]
MODEL = "smollm2-135m"


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """A home with an empty database."""
    using(tmp_path / "ready", lambda client: client.store.count())
    return tmp_path / "ready"


@pytest.fixture(params=["home", pytest.param("home and bucket", marks=pytest.mark.long)])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with a home that has an empty database, with and without a bucket."""
    (tmp_path / "ready" / request.param.rpartition(" ")[2]).mkdir(parents=True)
    using(tmp_path / "ready", lambda client: client.store.count())
    return tmp_path / "ready"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "homes"
    place.mkdir()
    return place


def using(place: Path, act: Callable[[Client], Any]) -> Any:
    """Call it with a client of the home that the place is, or that is in it beside a bucket."""
    bucket, home = place / "bucket", place / "home"
    url = f"file://{bucket}" if bucket.is_dir() else ""
    settings = Settings.from_env({"FTQ_HOME": str(home if url or home.is_dir() else place), "FTQ_ARTIFACTS_URL": url})
    with closing(Client(settings)) as client:
        return act(client)


def cleared(place: Path) -> dict[str, set[str]]:
    """{run: its files} once `ftq gc` has cleared what was left; the bucket has these runs and nothing else."""
    age(place)
    using(place, clear)
    runs = {run.id for run in using(place, Client.all)}
    if (place / "bucket").is_dir():
        assert {path.name for path in (place / "bucket").iterdir()} == runs
    return {run: set(tree(place / "home" / run)) for run in runs}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# ---- runs -------------------------------------------------------------------------------------------------


def test_a_submit_makes_a_run_or_none(either: Path, place: Path, documents: Path) -> None:
    options = {"model": MODEL, "documents": str(documents)}
    for home in each_death(lambda home: using(home, lambda client: client.submit(options)), either, place):
        name = using(home, lambda client: client.submit(options)).run.name
        runs = cleared(home)
        assert name == f"{MODEL}-{len(runs)}" and len(runs) <= 2
        assert all(files >= {"run.json", "documents/a.md", "documents/b.json"} for files in runs.values())


def test_the_first_command_makes_a_database_or_none(tmp_path: Path, place: Path) -> None:
    (tmp_path / "ready").mkdir()
    for home in each_death(lambda home: using(home, lambda client: client.store.count()), tmp_path / "ready", place):
        assert using(home, lambda client: client.store.count()) == 0


@pytest.mark.parametrize("again", [True, False])
def test_a_run_is_deleted_with_its_files(either: Path, place: Path, documents: Path, again: bool) -> None:
    run = using(either, lambda client: client.submit({"model": MODEL, "documents": str(documents)})).run
    whole = tree(either / "home" / run.id)

    def remove(client: Client) -> None:
        client.room.remove(client.store.get(run.id))

    for home in each_death(lambda home: using(home, remove), either, place):
        there = using(home, Client.all)
        if there:
            files = tree(home / "home" / run.id)
            assert {name: data for name, data in files.items() if name != ".submitting"} == whole
        if again and there:
            using(home, remove)
        assert cleared(home) == ({run.id: set(whole)} if there and not again else {})
        assert (home / "home" / run.id).exists() == bool(there and not again)


def test_what_the_bucket_has_goes_from_this_machine_as_a_whole(tmp_path: Path, place: Path, documents: Path) -> None:
    (tmp_path / "ready" / "bucket").mkdir(parents=True)
    run = using(tmp_path / "ready", lambda client: client.submit({"model": MODEL, "documents": str(documents)})).run
    for home in each_death(lambda home: limit.drop(home / "home" / run.id), tmp_path / "ready", place):
        shutil.copytree(home, home.with_name("fetched"))
        folder = home.with_name("fetched") / "home" / run.id
        share = Share(Bucket(f"file://{home.with_name('fetched')}/bucket"), folder.parent)
        share.fetch(run.id, "submit", 1)
        assert limit.drop(folder) and set(tree(folder)) == {".bucket/lock", ".bucket/use"}
        shutil.rmtree(home.with_name("fetched"))
        limit.trim(Settings(home / "home", "", "", cache_gb=1e-9))
        assert set(tree(home / "home" / run.id)) == {".bucket/lock", ".bucket/use"}


# ---- files ------------------------------------------------------------------------------------------------


def test_of_a_text_there_is_the_old_or_the_new(tmp_path: Path, place: Path) -> None:
    file = tmp_path / "ready" / "abcdefgh" / "report.html"
    file.parent.mkdir(parents=True)
    put_text(file, "old")
    for home in each_death(lambda home: put_text(home / "abcdefgh" / "report.html", "new"), tmp_path / "ready", place):
        assert (home / "abcdefgh" / "report.html").read_text() in ("old", "new")
        age(home)
        put_text(home / "abcdefgh" / "report.html", "newer")
        assert tree(home) == {"abcdefgh/report.html": b"newer"}


def test_two_who_write_a_text_at_once_leave_one_of_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync, waiting = os.fsync, ["second", "third"]

    def meanwhile(descriptor: int) -> None:
        sync(descriptor)
        if waiting:
            put_text(tmp_path / "a", waiting.pop())

    monkeypatch.setattr(os, "fsync", meanwhile)
    put_text(tmp_path / "a", "first, which is longer")
    assert tree(tmp_path) == {"a": b"first, which is longer"}


def test_a_text_that_a_full_disk_refuses_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_text(tmp_path / "a", "old")

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        put_text(tmp_path / "a", "new")
    assert tree(tmp_path) == {"a": b"old"}


def test_what_a_stage_publishes_replaces_the_old_in_the_next_attempt(ready: Path, place: Path, documents: Path) -> None:
    run = using(ready, lambda client: client.submit({"model": MODEL, "documents": str(documents)})).run
    folder = RunDir(ready / run.id)
    submitted = tree(folder.path)
    fill(folder.path, "old", "dataset/train.jsonl", "dataset/old")
    fill(folder.partial("prepare", 2), "new", "dataset/train.jsonl", "dataset/new")
    new = {"dataset/train.jsonl": b"new", "dataset/new": b"new"}
    for home in each_death(lambda home: publish(home / run.id, 2), ready, place):
        cancelled = home.with_name("cancelled")
        shutil.copytree(home, cancelled)
        age(cancelled)
        using(cancelled, lambda client: client.cancel(run.id))
        using(cancelled, clear)
        shutil.rmtree(cancelled)
        fill(RunDir(home / run.id).partial("prepare", 3), "new", "dataset/train.jsonl", "dataset/new")
        publish(home / run.id, 3)
        assert tree(home / run.id) == submitted | new


def publish(path: Path, attempt: int) -> None:
    folder = RunDir(path)
    folder.clear_partials("prepare", attempt - 1)
    folder.publish("prepare", folder.partial("prepare", attempt))


def fill(folder: Path, text: str, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_a_checkpoint_is_valid_when_it_is_sealed(tmp_path: Path, place: Path) -> None:
    (tmp_path / "ready").mkdir()
    for step in (1, 2):
        train(tmp_path / "ready", 1, step)
    for home in each_death(lambda home: train(home, 1, 3), tmp_path / "ready", place):
        newest = checkpoints.newest_valid(RunDir(home), "mark")
        assert newest and newest.step in (2, 3)
        train(home, 2, newest.step + 1)
        newest = checkpoints.newest_valid(RunDir(home), "mark")
        assert newest and newest.attempt == 2
        valid = [one.step for one in checkpoints.find_all(RunDir(home)) if checkpoints.is_valid(one, "mark")]
        assert sorted(valid) == [newest.step - 1, newest.step]


def train(folder: Path, attempt: int, step: int) -> None:
    """Write a checkpoint as the trainer does, seal it, and remove what is too old."""
    run = RunDir(folder)
    path = run.checkpoints / str(attempt) / f"checkpoint-{step}"
    fill(path, "weights", "adapter_model.safetensors")
    (path / "trainer_state.json").write_text(f'{{"global_step": {step}}}')
    checkpoints.seal(path, "mark", {})
    checkpoints.prune(run, attempt, "mark")


# ---- the supervisor ---------------------------------------------------------------------------------------


def test_an_attempt_is_done_or_taken_up_by_the_next(
    ready: Path, place: Path, documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files come from the cache, so that there is nothing but what the supervisor does."""
    options = {"model": MODEL, "documents": str(documents)}
    first, second = (using(ready, lambda client: client.submit(options)).run for _ in range(2))
    key = "key"
    monkeypatch.setattr("worker.attempt.cache.key", lambda *_, **__: key)
    fill(ready / first.id, "row", "dataset/train.jsonl", "dataset/valid.jsonl")
    token = using(ready, lambda client: client.store.claim(first.id, "prepare", 1, "w1", 60))
    artifacts = RunDir(ready / first.id).artifacts("prepare")
    using(ready, lambda client: client.store.succeed(token, key, artifacts))
    for home in each_death(lambda home: supervise(home, second.id), ready, place):
        supervise(home, second.id, hours=2)
        run = using(home, lambda client: client.store.get(second.id))
        assert run.stage("prepare").status == "succeeded" and run.stage("prepare").attempt <= 2
        assert {name for name in tree(home / run.id) if name.startswith("dataset")} == {
            "dataset/train.jsonl", "dataset/valid.jsonl",
        }  # fmt: skip
        age(home)
        using(home, clear)
        holders.end_the_dead(home, lambda holder: None)
        assert not list((home / holders.FOLDER).iterdir())


def supervise(home: Path, run_id: str, hours: int = 1) -> None:
    """What a worker does that finds the run's first stage queued, or held by a supervisor that is dead."""
    settings = settings_of(home)
    app = queue.make_quick_app(settings)
    with closing(RunStore(settings.database_url)) as store:
        now = store.now() + 3600 * hours
        store.clock = lambda: now

        def lose(holder: holders.Holder) -> None:
            with suppress(LeaseLost):  # it had given the stage back
                store.lose(holder.token, "it died")

        holders.end_the_dead(home, lose)
        store.expire(settings.lease_seconds)
        stage = store.get(run_id).stage("prepare")
        if stage.status == "queued":
            Supervisor(app, settings, store, "w1", lambda _: None).run(run_id, "prepare", stage.attempt)


# ---- what `ftq up` writes ---------------------------------------------------------------------------------


def test_flowers_login_is_whole_and_stays(ready: Path, place: Path) -> None:
    def make(home: Path) -> list[str]:
        login.make(home / "flower" / "login")
        return login.read({"FTQ_FLOWER_AUTH_FILE": str(home / "flower" / "login")})

    for home in each_death(make, ready, place):
        file = home / "flower" / "login"
        there = file.read_text().splitlines() if file.exists() else None
        assert make(home) == (there or make(home))
        age(home)
        using(home, clear)
        assert set(tree(home / "flower")) == {"login"}
        assert file.stat().st_mode & 0o777 == 0o600


def test_the_place_of_the_brokers_socket_is_the_old_or_the_new(ready: Path, place: Path) -> None:
    (ready / "broker").mkdir()

    def say(home: Path) -> None:
        broker._say_place(settings_of(home), Path("/tmp/socket"))

    for home in each_death(say, ready, place):
        told = settings_of(home).socket_place
        assert not told.exists() or told.read_bytes() == b"/tmp/socket"
        age(home)
        using(home, clear)


# ---- the client of a server -------------------------------------------------------------------------------


class Server(Connection):
    """Has one file."""

    def __init__(self) -> None:
        self.url = "http://server"

    def bytes(self, path: str, **query: Any) -> Iterator[bytes]:
        yield from (b"first ", b"second")


def test_a_fetched_file_is_whole(tmp_path: Path, cache: Path, place: Path) -> None:
    (tmp_path / "ready").mkdir()

    def mirror(home: Path) -> Mirror:
        mirror = Mirror(Server())
        mirror.home = home
        return mirror

    for home in each_death(lambda home: mirror(home).fetch("abcdefgh", "eval.json", 1.0), tmp_path / "ready", place):
        file = home / "abcdefgh" / "eval.json"
        assert not file.exists() or file.read_bytes() == b"first second"
        age(home)
        assert mirror(home).fetch("abcdefgh", "eval.json", 2.0)
        assert tree(home) == {"abcdefgh/eval.json": b"first second"}


def test_documents_that_were_not_sent_go_with_the_next_submit(
    tmp_path: Path, cache: Path, place: Path, documents: Path
) -> None:
    (tmp_path / "ready").mkdir()
    spec = {"documents": str(documents), "validation": "", "questions_file": ""}

    def send(home: Path) -> None:
        mirror = Mirror(Server())
        mirror.home = home
        with _copied(mirror, spec) as (folder, _):
            assert set(tree(folder)) == {"documents/a.md", "documents/b.json"}

    for home in each_death(send, tmp_path / "ready", place):
        age(home)
        send(home)
        assert not list(home.iterdir())
