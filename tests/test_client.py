"""The Python API without a broker and without a worker: what is recorded, said and refused."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy as sa

from ftq import RunSpec, queue
from ftq.client.client import Client
from ftq.errors import FtqError, NotFound, Refused, RunError, Unavailable, UserError
from ftq.files.run_dir import STAGES, RunDir, write_jsonl
from ftq.servers import without_password
from ftq.settings import Settings
from ftq.spec.options import parse
from ftq.store import schema
from ftq.store.records import Run
from ftq.store.store import RunStore
from tests.deaths import age
from tests.tiny import make_tiny_model
from tests.tools import PATIENCE, instead_of_sleep, succeed

START = "Start it with `ftq up` (everything on this machine) or `ftq worker`."
AWAY = "The broker can't be reached. The run is recorded and starts as soon as it is there."


def make_settings(home: Path) -> Settings:
    return Settings(home, f"redis+socket://{home}/nobody.sock", f"sqlite:///{home / 'ftq.db'}")


def no_broker(client: Client) -> str:
    return f"{AWAY} Check that a server is there: FTQ_BROKER_URL={client.settings.broker_url}"


@pytest.fixture
def client(tmp_path: Path, cache: Path) -> Iterator[Client]:
    (tmp_path / "docs" / "sub").mkdir(parents=True)
    (tmp_path / "docs" / "a.md").write_text("# A\n\nText.")
    (tmp_path / "docs" / "sub" / "b.json").write_text('{"question": "Why?", "answer": "So."}')
    client = Client(make_settings(tmp_path / "home"))
    yield client
    client.close()


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    return {"model": "qwen3-4b", "documents": str(tmp_path / "docs"), "eval_questions": 0}  # too few to be asked


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")} if folder.exists() else set()


# ---- submit ---------------------------------------------------------------------------------------------


def test_a_validation_folder_is_part_of_what_a_run_is_made_of(client: Client, options: dict[str, Any]) -> None:
    folder = Path(options["documents"]).parent / "valid"
    with pytest.raises(NotFound, match=r"^validation .*/valid: there is no such folder"):
        client.submit({**options, "validation": str(folder)})
    folder.mkdir()
    (folder / "v.md").write_text("# V\n\nHeld out.")
    plain, held = (client.submit({**options, **more}).run for more in ({}, {"validation": str(folder)}))
    assert plain.documents_hash != held.documents_hash
    assert tree(client.run_dir(held.id).validation) == {"v.md"}
    assert not client.run_dir(plain.id).validation.exists()
    (folder / "v.md").write_text("# V\n\nAnother.")
    assert client.submit({**options, "validation": str(folder)}).run.documents_hash != held.documents_hash


def test_submit_records_the_run_and_snapshots_its_documents(client: Client, options: dict[str, Any]) -> None:
    submitted = client.submit({**options, "epochs": "5"}, "mine")
    run, home = submitted.run, client.settings.home
    assert (submitted.documents, submitted.notes) == (2, [no_broker(client)])
    assert {name for name in tree(home) if not name.startswith("ftq.db")} == {
        run.id, *(f"{run.id}/{name}" for name in
                  ("run.json", "documents", "documents/a.md", "documents/sub", "documents/sub/b.json")),
    }  # fmt: skip
    assert RunDir(home / run.id).read_run() == {
        "id": run.id, "name": "mine", "documents_hash": run.documents_hash,
        "spec": {**parse(options).model_dump(), "epochs": 5.0},
    }  # fmt: skip
    assert (run.name, run.spec, run.status) == ("mine", RunDir(home / run.id).read_run()["spec"], "queued")
    assert client.find("mine") == client.find(run.id[:5]) == run


def test_the_artifacts_are_their_owners_alone(client: Client, options: dict[str, Any]) -> None:
    client.submit(options, "mine")
    assert stat.S_IMODE(client.settings.home.stat().st_mode) == 0o700


def test_a_broker_with_a_worker_leaves_nothing_to_say(
    client: Client, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []
    monkeypatch.setattr(queue, "deliver", lambda app, run: sent.append(run.id))
    nobody = f"No worker is up. The run is recorded and starts as soon as one is there. {START}"
    assert client.submit(options).notes == [nobody]
    client.store.see_worker("w1", "host", ["cpu"], None, 1)
    no_gpu = nobody.replace("No worker is up", "No worker serves the queue gpu")
    assert client.submit(options).notes == [no_gpu.replace(START, "`ftq worker --queues gpu` starts one.")]
    client.store.see_worker("w2", "host", ["gpu"], "H100", 2)
    assert client.submit(options).notes == []
    assert sent == [run.id for run in reversed(client.all())]


def test_a_worker_too_old_for_a_stage_is_named(
    client: Client, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It drops the messages of stages that it doesn't know: whoever submits or looks at a run reads which one does."""
    monkeypatch.setattr(queue, "deliver", lambda app, run: None)
    facts = {"gpus": 0, "gpu": "CPU", "memory": 8 * 2**30}
    client.store.see_worker("old@a", "a", ["cpu"], None, 1, facts)
    client.store.see_worker("new@b", "b", ["cpu", "gpu"], None, 2, {**facts, "stages": list(STAGES)})
    submitted = client.submit(options)
    old = (
        f"old@a is of an earlier version of ftq, without the stage evaluate: {submitted.run.name} waits there until "
        "another worker takes it. Restart it with this version."
    )
    assert submitted.notes == [old] == [client.missing_worker(submitted.run)]
    client.store.see_worker("old@a", "a", ["cpu"], None, 1, {**facts, "stages": list(STAGES)})
    assert client.missing_worker(submitted.run) == ""
    client.store.see_worker("old@a", "a", ["cpu"], None, 1, facts)
    succeed(client.store, submitted.run.id)
    assert client.missing_worker(client.find(submitted.run.id)) == ""


def test_a_broker_that_is_unreachable_is_named_or_started(client: Client, options: dict[str, Any]) -> None:
    named = replace(client.settings, broker_url="redis://me:s3cr3t@127.0.0.1:1/0")
    check = "Check that a server is there: FTQ_BROKER_URL=redis://me:***@127.0.0.1:1/0"
    with closing(Client(named)) as other:
        assert other.submit(options).notes == [f"{AWAY} {check}"]
    with closing(Client(replace(client.settings, broker_url=""))) as other:
        (note,) = other.submit(options).notes
    own = "FTQ_BROKER_URL isn't set here: `ftq up` starts this machine's own."
    assert note.startswith(f"{AWAY} {own} ") and "`docker compose run --rm cli`" in note


def test_names_are_numbered_by_model(client: Client, options: dict[str, Any], tmp_path: Path) -> None:
    local = tmp_path / "my model!"
    make_tiny_model(local)
    models = ["qwen3-4b", "qwen3-4b", "Qwen/Qwen3-4B", str(local), "qwen3-4b"]
    assert [client.submit({**options, "model": model}).run.name for model in models] == [
        "qwen3-4b-1", "qwen3-4b-2", "Qwen3-4B-1", "my-model-1", "qwen3-4b-3",
    ]  # fmt: skip


def test_every_problem_at_once_and_nothing_is_written(client: Client, tmp_path: Path) -> None:
    for verb in (client.submit, client.dry_run):
        with pytest.raises(UserError) as caught:
            verb({"model": "qwen3-4", "documents": f"{tmp_path}/none", "epochs": 0}, "a name")
        assert caught.value.message.splitlines() == [
            "epochs=0: expected number over 0 to 1000",
            "unknown model qwen3-4. Did you mean qwen3-4b?",
            f"documents {tmp_path}/none: there is no such folder",
            "name 'a name': letters, digits, `.`, `_` and `-` only, 80 at most",
        ]
        assert len(caught.value.hint.splitlines()) == 3
    assert not client.settings.home.exists()


@pytest.mark.parametrize("name", [*RunSpec.model_fields, "epoch"])
def test_an_option_that_is_wrong_in_python_is_told_in_the_same_words(name: str) -> None:
    with pytest.raises(UserError) as caught:
        RunSpec(**{"model": "qwen3-4b", name: object()})
    assert re.match(rf"{name}=|{name}: |unknown option {name}\. Did you mean epochs\?$", caught.value.message)
    assert caught.value.hint == "`ftq options` lists every option with its limits."


def test_own_questions_are_checked_and_copied_with_the_documents(
    client: Client, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("q.json").write_text('{"question": "Why? ", "answers": ["So."]}')
    run = client.submit({**options, "questions_file": "q.json"}).run
    Path("q.json").write_text('{"question": "Why?", "answer": "So."}')
    copied = client.run_dir(run.id).own_questions.read_text()
    assert json.loads(copied) == [{"question": "Why?", "answers": ["So."], "source": ""}]
    assert run.spec["questions_file"] == str(tmp_path / "q.json")
    with pytest.raises(UserError) as caught:
        client.dry_run({"model": "qwen3", "documents": options["documents"], "questions_file": "q.json"})
    first, second = caught.value.message.splitlines()
    assert first.startswith("model qwen3") or first.startswith("unknown model qwen3")
    assert second == ("q.json: question 1: unknown name answer. Did you mean answers? Known: question, answers, source")
    with pytest.raises(NotFound, match=r"^nowhere\.json: can't be read"):
        client.dry_run({**options, "questions_file": "nowhere.json"})


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "x" * 81, "a b", "ü", "a\n"])
def test_names_that_are_none(client: Client, options: dict[str, Any], name: str) -> None:
    with pytest.raises(UserError, match="letters, digits"):
        client.submit(options, name)


@pytest.mark.parametrize("name", ["model", "documents"])
def test_an_empty_option_is_not_the_current_folder(client: Client, options: dict[str, Any], name: str) -> None:
    for verb in (client.submit, client.dry_run):
        with pytest.raises(UserError) as caught:
            verb({**options, name: ""})
        assert caught.value.message == f"{name}=: string should have at least 1 character"
    assert not client.settings.home.exists()


def test_one_missing_thing_is_not_found(client: Client, options: dict[str, Any]) -> None:
    with pytest.raises(NotFound):
        client.submit({**options, "model": "nonsense"})


def test_the_artifacts_folder_of_a_clone_is_closed_by_the_first_run(client: Client, options: dict[str, Any]) -> None:
    home = client.settings.home
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    (home / ".gitignore").write_text("*\n")
    client.submit(options)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    home.chmod(0o755)  # it is the user's own
    client.submit(options)
    assert stat.S_IMODE(home.stat().st_mode) == 0o755


def test_dry_run_says_what_submit_would_record_and_writes_nothing(client: Client, options: dict[str, Any]) -> None:
    asked, taken = client.dry_run(options, "mine")
    assert client.would_wait(asked) == f"No worker is up. {START}"
    assert not client.settings.home.exists()
    run = client.submit(options, "mine").run
    assert (asked, taken.hash, taken.files) == (run.spec, run.documents_hash, 2)


def test_files_left_behind_are_said(client: Client, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def open_it(path: Any, *arguments: Any, **named: Any) -> Any:
        return _deny() if str(path).endswith("/b.json") else real(path, *arguments, **named)

    monkeypatch.setattr(os, "open", open_it)
    submitted = client.submit(options)
    left = f"{options['documents']}/sub/b.json: can't be read (Permission denied)"
    assert (submitted.documents, submitted.notes) == (1, [left, no_broker(client)])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device"), r"the disk is full \({home}\)"),
        (OSError(30, "Read-only file system", "/x"), r"/x can't be written \(Read-only file system\)"),
    ],
)
def test_a_home_that_cannot_be_written_is_said_and_nothing_stays_there(
    client: Client, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, error: OSError, message: str
) -> None:
    real = open

    def open_it(path: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        if mode == "xb":
            raise error
        return real(path, mode, *arguments, **named)

    monkeypatch.setattr("builtins.open", open_it)
    with pytest.raises(Unavailable, match=f"^{message.format(home=client.settings.home)}$") as caught:
        client.submit(options)
    assert "FTQ_HOME" in caught.value.hint
    assert (client.all(), {name for name in tree(client.settings.home) if "ftq.db" not in name}) == ([], set())


def test_a_run_is_whole_when_its_submit_ends_after_the_commit(
    client: Client, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(store: RunStore, run_id: str) -> Run:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(RunStore, "get", get)
    with pytest.raises(KeyboardInterrupt):
        client.submit(options)
    [run] = client.all()
    assert client.run_dir(run.id).read_run()["id"] == run.id


def _deny() -> bytes:
    raise PermissionError(13, "Permission denied")


def _submit(barrier: Any, answers: Any, settings: Settings, options: dict[str, Any]) -> None:
    barrier.wait(PATIENCE)
    try:
        answers.put(Client(settings).submit(options).run.name)
    except Exception as error:
        answers.put(repr(error))


def test_people_who_submit_at_once_without_a_name_get_one_each(client: Client, options: dict[str, Any]) -> None:
    client.submit(options)
    client.close()
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(4), context.SimpleQueue()
    arguments = (barrier, answers, client.settings, options)
    processes = [context.Process(target=_submit, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    assert sorted(answers.get() for _ in processes) == [f"qwen3-4b-{number}" for number in (2, 3, 4, 5)]
    for process in processes:
        process.join(PATIENCE)


# ---- control and look -----------------------------------------------------------------------------------


def test_control_by_name(client: Client, options: dict[str, Any]) -> None:
    run_id = client.submit(options, "mine").run.id
    assert client.pause("mine").status == "paused"
    resumed, notes = client.resume("mine")
    assert (resumed.status, notes) == ("queued", [no_broker(client)])
    assert client.cancel(run_id[:4]).status == "cancelled"
    retried, notes = client.retry("mine")
    assert (retried.status, retried.stages[0].attempt, notes) == ("queued", 2, [no_broker(client)])
    assert [client.keep("mine").kept, client.keep("mine", False).kept] == [True, False]
    for verb in (client.pause, client.resume, client.cancel, client.retry, client.keep, client.find):
        with pytest.raises(NotFound, match=r"^no run matches nobody$"):
            verb("nobody")


def test_a_machine_without_the_worker_is_not_told_to_start_one_there(
    client: Client, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with closing(Client(Settings.from_env({"FTQ_HOME": str(client.settings.home)}))) as here:
        unset, alone = here._doorbell.no_broker().split(". ")
    assert unset == "FTQ_BROKER_URL isn't set here"
    assert alone == "Only the client is installed here: `ftq doctor` says how it finds broker and workers."
    there = "`ftq up` or `ftq worker` starts one where it is installed; `ftq doctor` says how this client finds it."
    assert client.would_wait(options) == f"No worker is up. {there}"


def test_missing_worker_is_only_said_of_a_run_that_waits(client: Client, options: dict[str, Any]) -> None:
    run = client.submit(options).run
    assert client.missing_worker(run) != ""
    assert client.missing_worker(client.pause(run.id)) == ""
    assert client.missing_worker(client.cancel(run.id)) == ""
    last = client.submit(options).run.id
    succeed(client.store, last, "prepare", "train")
    client.store.see_worker("w1", "host", ["cpu"], None, 1)
    assert client.missing_worker(client.find(last)) == ""  # nothing is left for a GPU
    client.store.see_worker("w1", "host", ["gpu"], "H100", 1)
    said = client.missing_worker(client.find(last))
    assert said.startswith("No worker serves the queue cpu. ") and said.endswith(
        "`ftq worker --queues cpu` starts one."
    )


def test_a_run_that_needs_more_gpus_than_any_worker_has(client: Client, options: dict[str, Any]) -> None:
    wide = {**options, "gpus": 4}
    recorded = "The run is recorded and starts as soon as one is there."
    run = client.submit(wide, "wide").run
    assert client.missing_worker(run) == f"No worker is up. {recorded} {START}"
    needs = "needs a worker with 4 GPUs, and no worker here has more than"
    start = "`ftq worker --gpus 0,1,2,3` starts one."
    client.store.see_worker("w1", "host", ["cpu", "gpu"], None, 1)
    assert client.missing_worker(run) == f"wide {needs} 1. {recorded} {start}"
    client.store.see_worker("w2", "host", ["gpu2", "gpu"], "2 x H100", 2)
    assert client.missing_worker(run) == f"wide {needs} 2. {recorded} {start}"
    assert client.would_wait(run.spec) == f"It {needs} 2. {start}"
    other = client.submit(options, "other").run
    assert client.missing_worker(other) == ""
    assert client.missing_worker(other, run).startswith("wide needs")
    client.store.see_worker("w3", "host", ["gpu4"], "4 x H100", 3)
    assert (client.missing_worker(other, run), client.would_wait(run.spec)) == ("", "")


def test_following_ends_with_the_run(client: Client, options: dict[str, Any]) -> None:
    run = client.submit(options).run
    seen = []
    for found in client.follow(run.id, seconds=0):
        seen.append(found.status)
        if len(seen) == 2:
            client.cancel(run.id)
    assert seen == ["queued", "queued", "cancelled"]
    assert [event.kind for event in client.follow_events(run.id, follow=True)] == ["submitted", "cancelled"]


def test_an_event_that_is_committed_after_a_later_one_is_followed_too(
    client: Client, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = client.submit(options).run

    def commit(*ids: int) -> None:
        with client.store.engine.begin() as db:
            for event in ids:
                db.execute(schema.events.insert().values(id=event, run_id=run.id, at=0, kind="note", message=""))

    steps = [lambda: commit(*range(10, 100), 102), lambda: commit(101), lambda: commit(104), lambda: commit(103),
             lambda: client.cancel(run.id)]  # fmt: skip
    instead_of_sleep(monkeypatch, lambda seconds: steps.pop(0)())
    seen = [event.id for event in client.follow_events(run.id, follow=True)]
    assert seen == [1, *range(10, 100), 102, 101, 104, 103, 105]


@pytest.mark.parametrize("verb", ["get", "events"])
def test_following_outlasts_a_database_that_is_unreachable_for_less_than_a_lease(
    client: Client, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    run, real = client.submit(options).run, getattr(client.store, verb)
    away = [Unavailable("the server is starting")] * 3

    def flaky(*arguments: Any, **more: Any) -> Any:
        if steps == [] and away:
            raise away.pop()
        return real(*arguments, **more)

    steps = [lambda: client.pause(run.id)]
    instead_of_sleep(monkeypatch, lambda seconds: (steps or [lambda: client.cancel(run.id)]).pop(0)())
    monkeypatch.setattr(client.store, verb, flaky)
    seen = [event.kind for event in client.follow_events(run.id, follow=True)]
    assert (seen, away) == (["submitted", "paused", "cancelled"], [])


def test_following_without_a_database_for_a_lease_is_an_error(client: Client, options: dict[str, Any]) -> None:
    client = Client(replace(client.settings, lease_seconds=0))
    states = client.follow(client.submit(options).run.id, seconds=0)
    next(states)
    client.store.engine.dispose()
    (client.settings.home / "ftq.db").unlink()
    (client.settings.home / "ftq.db").mkdir()
    with pytest.raises(Unavailable):
        next(states)


def test_a_run_that_is_deleted_while_it_is_followed_is_no_bad_usage(client: Client, options: dict[str, Any]) -> None:
    run = client.submit(options, "mine").run
    states = client.follow(run.id, seconds=0)
    next(states)
    client.room.remove(run)
    with pytest.raises(FtqError, match=r"^run mine was deleted meanwhile$") as caught:
        next(states)
    assert not isinstance(caught.value, UserError)


def test_logs_in_pieces_with_nothing_left_out(client: Client, options: dict[str, Any]) -> None:
    run = client.submit(options).run
    folder = client.run_dir(run.id)
    assert list(client.follow_logs(run.id, ["prepare", "train"], follow=False)) == []
    folder.log("train").parent.mkdir()
    folder.log("train").write_bytes(b"x" * 100_000 + b"\xff")
    pieces = list(client.follow_logs(run.id, ["prepare", "train"], follow=False))
    assert {stage for stage, _ in pieces} == {"train"}
    assert b"".join(piece for _, piece in pieces) == b"x" * 100_000 + b"\xff"


# ---- make room ------------------------------------------------------------------------------------------


def test_what_gc_may_delete(client: Client, options: dict[str, Any]) -> None:
    ids = [client.submit(options).run.id for _ in range(5)]
    for run_id in ids[:4]:
        succeed(client.store, run_id)
    client.keep(ids[1])
    assert [run.id for run, _ in client.room.removable(last=1)] == [ids[2], ids[0]]
    assert [run.id for run, _ in client.room.removable(last=0)] == [ids[2], ids[0]]  # that of ids[3] is latest
    assert client.room.removable(last=9) == []
    folder = client.run_dir(ids[0])
    assert dict((run.id, size) for run, size in client.room.removable(last=1))[ids[0]] == sum(
        path.stat().st_size for path in folder.path.rglob("*") if path.is_file()
    )


def test_what_gc_spares_of_the_failed_and_cancelled_is_counted_by_itself(
    client: Client, options: dict[str, Any]
) -> None:
    ids = [client.submit(options).run.id for _ in range(6)]
    for run_id in ids[:3]:
        succeed(client.store, run_id)
    for run_id in ids[3:5]:
        client.cancel(run_id)
    token = client.store.claim(ids[5], "prepare", 1, "w1", PATIENCE)
    assert token
    client.store.fail(token, RunError("user", "no documents", ""))
    for last, stay in [(1, [2, 5]), (2, [1, 2, 4, 5]), (3, [0, 1, 2, 3, 4, 5]), (0, [2])]:
        gone = {run.id for run, _ in client.room.removable(last)}
        assert [number for number, run_id in enumerate(ids) if run_id not in gone] == stay, last


def test_removing_a_run(client: Client, options: dict[str, Any]) -> None:
    run, other = client.submit(options).run, client.submit(options).run
    write_jsonl(client.run_dir(run.id).answers, ["x" * 100])
    os.link(client.run_dir(run.id).answers, client.run_dir(other.id).answers)
    linked = [*client.run_dir(run.id).documents.rglob("*.*"), client.run_dir(run.id).answers]  # those of the second too
    shared = sum(path.stat().st_size for path in linked)
    assert client.room.freed([run]) == client.room.size(run) - shared
    token = client.store.claim(run.id, "prepare", 1, "w", 60)
    with pytest.raises(Refused):
        client.room.remove(client.find(run.id))
    assert client.run_dir(run.id).answers.exists()
    assert token
    client.store.release(token, "handed_back", "back")
    client.room.remove(run)
    assert [found.id for found in client.all()] == [other.id]
    assert not client.run_dir(run.id).path.exists()
    assert client.run_dir(other.id).answers.exists()


@pytest.mark.parametrize("stop", [PermissionError(13, "Permission denied", "a.md"), KeyboardInterrupt()])
def test_what_a_stopped_deletion_leaves_can_be_cleared(
    client: Client, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    run = client.submit(options).run
    size, left = client.room.size(run), client.settings.home / f".{run.id}.deleted"

    def rmtree(path: Path) -> None:
        raise stop

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", rmtree)  # root may delete everything
        with pytest.raises((Unavailable, KeyboardInterrupt)) as caught:
            client.room.remove(run)
        if isinstance(stop, OSError):
            assert str(caught.value) == f"{left} can't be deleted: a.md (Permission denied)"
    assert (client.all(), client.room.leftovers()) == ([], [(left, size)])
    client.room.clear(left)
    client.room.clear(left)
    assert client.room.leftovers() == []


def test_a_run_that_stays_recorded_keeps_its_files(
    client: Client, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = client.submit(options).run
    folder = client.run_dir(run.id).path
    before = tree(client.settings.home)

    def touch(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "touch", touch)
        with pytest.raises(Unavailable, match=rf"^{folder} can't be written \(Permission denied\)$"):
            client.room.remove(run)
    sa.event.listen(client.store.engine, "commit", raise_lost)
    with pytest.raises(RuntimeError):
        client.room.remove(run)
    sa.event.remove(client.store.engine, "commit", raise_lost)
    assert (client.all(), tree(client.settings.home)) == ([run], before)
    client.room.remove(run)
    assert {path.name for path in client.settings.home.iterdir()} <= {"ftq.db", "ftq.db-wal", "ftq.db-shm"}


def raise_lost(_: object) -> None:
    raise RuntimeError("the server went away")


def test_a_submit_that_died_before_it_was_recorded_is_a_leftover(client: Client, options: dict[str, Any]) -> None:
    """And no run is one: neither one that this database knows, whose mark goes, nor a whole one that it doesn't."""
    died, known, others = (client.submit(options).run.id for _ in range(3))
    for run_id in (died, known):
        client.run_dir(run_id).submitting.touch()
    assert client.room.leftovers() == []
    for run_id in (died, others):
        client.store.delete(run_id)
    for path in client.settings.home.rglob("*"):
        os.utime(path, (1, time.time() - 2 * 3600))
    [(left, size), (mark, _)] = client.room.leftovers()
    assert (left, mark) == (client.run_dir(died).path, client.run_dir(known).submitting) and size > 0
    client.room.clear(left)
    client.room.clear(mark)
    assert client.room.leftovers() == [] and not left.exists()
    assert [run.id for run in client.all()] == [known] and client.run_dir(known).read_run()["id"] == known


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(28, "No space left on device")])
def test_a_run_is_deleted_though_its_folder_cannot_be_renamed_or_marked(
    client: Client, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    run = client.submit(options).run
    folder = client.run_dir(run.id).path

    def refuse(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Path, "touch" if error.errno == 28 else "rename", refuse)
        if error.errno == 28:  # which keeps nobody from making room
            client.room.remove(run)
        else:
            with pytest.raises(Unavailable, match=rf"is deleted, its files aren't yet: {folder} can't be renamed"):
                client.room.remove(run)
    age(client.settings.home)
    for left, _ in client.room.leftovers():
        client.room.clear(left)
    assert client.all() == [] and not folder.exists()


def test_a_submit_that_was_killed_is_a_leftover_after_an_hour(client: Client, options: dict[str, Any]) -> None:
    client.submit(options)
    for name, hours in [("old", 2), ("new", 0), ("empty", 2)]:
        folder = client.settings.home / f".{name}.partial"
        (folder / "documents").mkdir(parents=True)
        if name != "empty":
            (folder / "documents" / "a.md").write_text("12345")
            os.utime(folder / "documents" / "a.md", (1, time.time() - hours * 3600))
        os.utime(folder, (1, 1))
    home = client.settings.home
    (home / ".links.partial" / "documents").mkdir(parents=True)  # at this moment, of what was sent hours ago
    os.link(home / ".old.partial" / "documents" / "a.md", home / ".links.partial" / "documents" / "a.md")
    assert client.room.leftovers() == [(home / ".empty.partial", 0), (home / ".old.partial", 5)]


# ---- settings -------------------------------------------------------------------------------------------


def test_settings_from_an_empty_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "artifacts"
    found = Settings.from_env({})
    assert found == Settings(home, "", f"sqlite:///{home}/ftq.db", 60.0, 60.0, 3)
    assert (found.embedded, found.broker) == (True, f"redis+socket://{found.broker_socket}?virtual_host=0")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A socket's path has 107 bytes at most, and pytest's folders may be as long."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_a_home_whose_name_has_a_meaning_in_a_url(short_path: Path, options: dict[str, Any], client: Client) -> None:
    home = short_path / "C#;50%20 ä?b=c"
    with closing(Client(Settings.from_env({"FTQ_HOME": str(home)}))) as odd:
        assert not odd.has_database()
        odd.submit(options)
        assert odd.has_database() and (home / "ftq.db").is_file()
        with pytest.raises(redis.ConnectionError, match=re.escape(f"connecting to {home}/broker/valkey.sock. ")):
            odd._doorbell.app.connection_for_write().connect()
    assert [path.name for path in short_path.iterdir() if path.name.startswith("C#")] == [home.name]


def test_another_llama_server_is_an_executable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = tmp_path / "llama-server"
    server.write_text("#!/bin/sh\n")
    monkeypatch.chdir(tmp_path)
    for named in (str(server), str(tmp_path), "nowhere"):
        with pytest.raises(UserError, match=f"FTQ_LLAMA_SERVER={named}: not an executable file"):
            Settings.from_env({"FTQ_LLAMA_SERVER": named})
    server.chmod(0o700)
    assert Settings.from_env({"FTQ_LLAMA_SERVER": "llama-server"}).llama_server == server
    assert Settings.from_env({"FTQ_LLAMA_SERVER": ""}).llama_server is None


def test_settings_from_the_environment() -> None:
    given = {"FTQ_HOME": "/x", "FTQ_BROKER_URL": "redis://h", "FTQ_DATABASE_URL": "postgresql://h/d",
             "FTQ_LEASE_SECONDS": "2", "FTQ_GRACE_SECONDS": "1.5", "FTQ_MAX_ATTEMPTS": "1",
             "FTQ_MEMORY_GB": "7.5"}  # fmt: skip
    found = Settings.from_env(given)
    assert found == Settings(Path("/x"), "redis://h", "postgresql+psycopg://h/d", 2.0, 1.5, 1, memory_gb=7.5)
    assert (found.embedded, found.broker) == (False, "redis://h")


@pytest.mark.parametrize(
    "url",
    ["redis://h", "redis://h/", "redis://h:1/12", "rediss://me@h/0", "redis+socket:///x.sock?virtual_host=3",
     "redis+socket:///x.sock", "redis://a/0;redis://b/0"],
)  # fmt: skip
def test_brokers_that_are_some(url: str) -> None:
    assert Settings.from_env({"FTQ_BROKER_URL": url}).broker_url == url


@pytest.mark.parametrize("value", ["soon", "1", "-5", "nan"])
def test_a_lease_that_is_none(value: str) -> None:
    with pytest.raises(UserError, match=f"^FTQ_LEASE_SECONDS={value}: "):
        Settings.from_env({"FTQ_LEASE_SECONDS": value})


def test_a_socket_whose_path_is_too_long_moves_to_a_private_folder(tmp_path: Path) -> None:
    deep = [Settings(tmp_path / (letter * 100), "", "").broker_socket for letter in "ab"]
    assert all(len(os.fsencode(path)) <= 107 and not path.is_relative_to(tmp_path) for path in deep)
    assert deep[0] != deep[1]
    assert Settings(Path("/x"), "", "").broker_socket == Path("/x/broker/valkey.sock")


def test_a_url_is_shown_without_its_password() -> None:
    shown = {
        "postgresql://me:p@ss:w@host/db": "postgresql://me:***@host/db",
        "postgresql://me@host/db": "postgresql://me@host/db",
        "redis://:secret@host:6379/0": "redis://:***@host:6379/0",
        "sqlite:////x/ftq.db": "sqlite:////x/ftq.db",
        "nonsense": "nonsense",
    }
    assert {url: without_password(url) for url in shown} == shown


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="can't be made"):
        Client(make_settings(tmp_path / "file" / "home")).all()
