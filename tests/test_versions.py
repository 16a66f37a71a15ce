"""Versions: numbers that are given once, `latest`, promotion, and what asks for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cli_tools import NOW, ok, run

from cli.main import main
from ftq.client.client import Client
from ftq.errors import NotFound, Refused
from ftq.files.run_dir import STAGES
from ftq.settings import Settings
from ftq.spec.options import parse
from ftq.store.records import Run
from ftq.store.store import RunStore
from ftq.store.versions import Judge, nobody
from tests.test_store import ERROR, ON_BOTH, SPEC, clock, in_processes, make_version_1, store, url
from tests.tools import succeed

__all__ = ["clock", "store", "url"]  # fixtures: the store's own, on both databases


def finish(store: RunStore, run_id: str, family: str | None = "book", judge: Judge = nobody, **options: Any) -> Run:
    """A run that has succeeded."""
    store.create(run_id, run_id, {**SPEC, **options}, "hash", family)
    return succeed(store, run_id, judge=judge)


def listed(store: RunStore) -> list[tuple[str, str, bool, str | None]]:
    return [(one.name, one.run, one.is_latest, one.gone) for one in store.versions()]


def latest(store: RunStore, family: str = "book") -> str | None:
    return store.find(f"{family}:latest").version_name


def of_kind(store: RunStore, run_id: str, *kinds: str) -> list[str]:
    return [event.message for event in store.events(run_id) if event.kind in kinds]


@ON_BOTH
def test_a_run_gets_its_number_with_the_success_of_its_last_stage(store: RunStore) -> None:
    store.create("aaa", "book", SPEC, "hash", "book")
    for stage in STAGES[:-1]:
        assert succeed(store, "aaa", stage).version is None
    assert listed(store) == []
    assert succeed(store, "aaa", STAGES[-1]).version_name == "book:1"
    assert finish(store, "bbb").version_name == "book:2"
    assert finish(store, "ccc", None).version_name == "ccc:1"
    assert listed(store) == [
        ("book:2", "bbb", True, None),
        ("book:1", "book", False, None),
        ("ccc:1", "ccc", True, None),
    ]
    assert of_kind(store, "bbb", "version") == ["book:2 (book:latest)"]


def test_a_run_that_failed_gets_no_number(store: RunStore) -> None:
    store.create("aaa", "book", SPEC, "hash", "book")
    token = store.claim("aaa", STAGES[0], 1, "w1", 60.0)
    assert token
    store.fail(token, ERROR)
    assert finish(store, "bbb").version_name == "book:1"
    with pytest.raises(Refused, match=r"^run book is failed: it is no version$"):
        store.promote("aaa")


@ON_BOTH
def test_a_number_is_never_given_again(store: RunStore) -> None:
    for run_id in ("aaa", "bbb", "ccc"):
        finish(store, run_id)
    store.delete("ccc")
    store.delete("aaa")
    assert finish(store, "ddd").version_name == "book:4"
    assert [gone for *_, gone in listed(store)] == [None, "removed", None, "removed"]
    with pytest.raises(NotFound) as caught:
        store.find("book:3")
    assert (caught.value.message, caught.value.hint) == (
        "book:3 is gone: its run was removed",
        "There is book:4, book:2.",
    )


@ON_BOTH
def test_a_version_whose_model_is_made_anew_is_gone_and_the_run_gets_a_new_number(store: RunStore) -> None:
    finish(store, "aaa")
    assert store.retry("aaa", "export").version_name is None
    with pytest.raises(NotFound, match=r"^book:1 is gone: its run was retried from export$"):
        store.find("book:1")
    with pytest.raises(NotFound, match=r"^no version of book is promoted$"):
        store.find("book:latest")
    stages = STAGES[STAGES.index("export") :]
    assert succeed(store, "aaa", *stages, attempt=2).version_name == latest(store) == "book:2"


def test_a_version_that_is_only_asked_anew_stays(store: RunStore) -> None:
    finish(store, "aaa")
    finish(store, "bbb")
    assert store.retry("aaa", STAGES[-1]).version_name == "book:1"
    assert store.promote("aaa")[0].version_name == "book:1"
    assert succeed(store, "aaa", STAGES[-1], attempt=2).version_name == "book:1"
    assert len(of_kind(store, "aaa", "version")) == 1


def test_latest_is_what_was_promoted_last_and_is_still_there(store: RunStore) -> None:
    for run_id in ("aaa", "bbb", "ccc"):
        finish(store, run_id)
    assert latest(store) == "book:3"
    promoted, before = store.promote("aaa")
    assert (promoted.version_name, before, latest(store)) == ("book:1", "book:3", "book:1")
    assert store.promote("aaa") == (promoted, "book:1")
    assert of_kind(store, "aaa", "promoted") == ["promoted by the user: book:latest is book:1"]
    store.delete("aaa")
    assert latest(store) == "book:3"
    finish(store, "ddd", promote="never")
    assert latest(store) == "book:3"
    assert of_kind(store, "ddd", "version") == ["book:4 (not promoted, book:latest stays book:3: promote=never)"]
    assert finish(store, "eee").version_name == latest(store) == "book:5"


def test_the_first_version_that_may_not_promote_itself_leaves_no_latest(store: RunStore) -> None:
    finish(store, "aaa", promote="never")
    assert of_kind(store, "aaa", "version") == ["book:1 (not promoted, book has no latest version: promote=never)"]
    with pytest.raises(NotFound) as caught:
        store.find("book:latest")
    assert caught.value.hint.startswith("`ftq promote book:NUMBER`")


@pytest.mark.parametrize(("reason", "expected"), [("", "book:2"), ("3 right, book:1 had 5", "book:1")])
def test_a_judge_decides_for_better(store: RunStore, reason: str, expected: str) -> None:
    asked: list[str] = []

    def judge(latest: str) -> str:
        asked.append(latest)
        return reason

    assert finish(store, "aaa", judge=judge, promote="better").version_name == latest(store)  # nothing to compare with
    finish(store, "bbb", judge=judge, promote="better")
    assert (latest(store), asked) == (expected, ["aaa"])


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("nobody:1", "no version of 'nobody' was ever made", "`ftq models --tuned` lists what is there."),
        ("bok:1", "no version of 'bok' was ever made", "Did you mean book?"),
        ("book:", "book: names no version: a number is missing, or latest", "For example: book:1"),
        (":1", "no version of ':1' was ever made", "`ftq models --tuned` lists what is there."),
        ("book:9", "book has no version 9", "There is book:1."),
        ("book:01", "book has no version 01", "There is book:1."),
        ("book:newest", "book has no version newest", "There is book:1."),
    ],
)
def test_what_is_no_version(store: RunStore, text: str, message: str, hint: str) -> None:
    finish(store, "aaa")
    with pytest.raises(NotFound) as caught:
        store.find(text)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_many_versions_are_not_all_listed_in_an_error(store: RunStore) -> None:
    for number in range(7):
        finish(store, f"r{number}")
    with pytest.raises(NotFound) as caught:
        store.find("book:9")
    assert caught.value.hint == "There is book:7, book:6, book:5, book:4, book:3 and 2 older."


def test_a_name_alone_is_the_run_of_that_name(store: RunStore) -> None:
    finish(store, "aaa")
    with pytest.raises(NotFound) as caught:
        store.find("book")
    assert (caught.value.message, caught.value.hint) == ("no run matches book", "Did you mean book:latest?")
    store.create("bbb", "book", SPEC, "hash", "book")
    assert store.find("book").id == "bbb"


def _finish(number: int, url: str) -> str | None:
    store = RunStore(url)
    return finish(store, f"r{number}").version_name


@ON_BOTH
def test_runs_that_succeed_at_once_get_a_number_each(url: str, store: RunStore) -> None:
    assert sorted(in_processes(6, _finish, url)) == [f"book:{number}" for number in range(1, 7)]
    assert sum(one.is_latest for one in store.versions()) == 1


@ON_BOTH
def test_finished_runs_of_an_earlier_database_are_version_1_of_their_names(url: str) -> None:
    make_version_1(url)
    engine = sa.create_engine(url)
    with engine.begin() as db:
        db.exec_driver_sql(
            "INSERT INTO runs SELECT 'xyz', 'done', model, spec, documents_hash, wanted, kept, 5.0 FROM runs"
        )
        db.exec_driver_sql(
            "INSERT INTO stages SELECT 'xyz', name, position, 'succeeded', 1, 0, 0, false, NULL, NULL, "
            "NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM stages"
        )
    engine.dispose()
    store = RunStore(url)
    assert listed(store) == [("done:1", "done", True, None)]
    assert store.find("done:1").version_name == "done:1"
    assert (store.get("abc").family, store.get("abc").version) == ("first", None)
    store.close()


def test_a_run_that_an_earlier_worker_finished_gets_its_number_when_it_is_promoted(store: RunStore) -> None:
    finish(store, "aaa", promote="never")
    with store.engine.begin() as db:
        db.exec_driver_sql("DELETE FROM versions")
        db.exec_driver_sql("UPDATE runs SET version = NULL")
    promoted, before = store.promote("aaa")
    assert (promoted.version_name, before, latest(store)) == ("book:1", None, "book:1")


# ---- the client and the command line ----------------------------------------------------------------------


def test_a_name_may_be_given_again(documents: Path) -> None:
    """The run gets the next free name; the name that was given is what its versions are called."""
    client = Client(Settings.from_env())
    given = {"model": "smollm2-135m", "documents": str(documents), "eval_questions": 0}
    runs = [client.submit(given, "book") for _ in range(3)]
    assert [(one.run.name, one.run.family) for one in runs] == [
        ("book", "book"),
        ("book-2", "book"),
        ("book-3", "book"),
    ]
    assert runs[1].notes[0] == (
        "another run is called book: this one is book-2, and the next version of book when it succeeds"
    )
    keyed = [client.submit(given, "book", owner).notes[0] for owner in ("key_a", "key_a")]
    assert keyed == [f"this run is called book-{number}: names are given once" for number in (4, 5)]
    assert (
        client.submit(given, "book-5", "key_a")
        .notes[0]
        .startswith("another run is called book-5: this one is book-5-2")
    )
    assert client.models.would_be_called("book") == runs[1].notes[0].replace("book-2", "book-6")
    assert client.models.would_be_called("other") == ""
    unnamed = [client.submit(given).run for _ in range(2)]
    assert [(one.name, one.family) for one in unnamed] == [
        ("smollm2-135m-1", "smollm2-135m"),
        ("smollm2-135m-2", "smollm2-135m"),
    ]
    client.close()


@pytest.fixture
def books(home: Path) -> RunStore:
    """book:1 was chosen as latest though there is a book:3; book:2 is gone; one run was never named."""
    home.mkdir()
    store = RunStore(f"sqlite:///{home / 'ftq.db'}", lambda: NOW)
    for run_id, name in (("aaaa1111", "book"), ("bbbb1111", "book-2"), ("cccc1111", "book-3")):
        store.create(run_id, name, parse({"model": "qwen3-4b"}).model_dump(), "hash", "book")
        (home / run_id).mkdir()
        succeed(store, run_id)
    store.promote("aaaa1111")
    store.delete("bbbb1111")
    return store


def test_models_tuned(books: RunStore, utc: None) -> None:
    assert ok("models", "--tuned").stdout == (
        "VERSION  LATEST  MODEL     RUN     MADE\n"
        "book:3           qwen3-4b  book-3  0s ago\n"
        "book:1   latest  qwen3-4b  book    0s ago\n"
    )
    made = "2026-01-02T03:00:00.000Z"
    assert json.loads(ok("models", "--tuned", "--json").stdout) == [
        {
            "version": "book:3",
            "latest": False,
            "run": "book-3",
            "id": "cccc1111",
            "model": "qwen3-4b",
            "created_at": made,
            "gone": None,
        },
        {
            "version": "book:2",
            "latest": False,
            "run": None,
            "id": "bbbb1111",
            "model": None,
            "created_at": made,
            "gone": "removed",
        },
        {
            "version": "book:1",
            "latest": True,
            "run": "book",
            "id": "aaaa1111",
            "model": "qwen3-4b",
            "created_at": made,
            "gone": None,
        },
    ]


def test_no_model_is_tuned_yet(home: Path) -> None:
    result = ok("models", "--tuned")
    assert result.stdout == "" and result.stderr.startswith("No run has succeeded yet")
    assert not (home / "ftq.db").exists()


def test_promote(books: RunStore) -> None:
    assert ok("promote", "book:3").stdout == "book:latest is book:3 now (it was book:1).\n"
    assert ok("promote", "book:3").stdout == "book:latest is book:3 already.\n"
    assert "book:2 is gone: its run was removed" in run("promote", "book:2").output


def test_a_version_stands_where_a_run_does(books: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the report goes there
    for text in ("book:1", "book:latest", "book"):
        assert json.loads(ok("status", text, "--json").stdout)["version"] == "book:1"
    assert "version book:3" in ok("status", "book:3").stdout
    ok("promote", "book:3")
    note = "Note: book is the run of that name (book:1); book:latest is book:3\n"
    more = {"infer": ["Why?"], "push": ["--to", "me/book"], "report": ["--to", "r.html"], "compare": ["book:3"]}
    asked = [[name, "book", *more.get(name, ())] for name in (
        "infer", "pull", "push", "eval", "compare", "report", "status", "logs", "events", "keep", "rm", "retry",
        "cancel", "pause", "resume", "promote",
    )]  # fmt: skip
    asked = [["eval", "book:3", "--against", "book"], ["compare", "book:3", "book"], *asked]  # promote comes last
    named = {name: {each.name for each in one.params} for name, one in main.commands.items()}
    takes_run = {name for name in named if {"run", "runs", "a"} & named[name]}
    assert takes_run == {name for name, *_ in asked}
    assert [line for line in asked if not run(*line).stderr.startswith(note)] == []
    for text in ("book:3", "aaaa1111"):
        assert "Note: book" not in run("status", text).stderr


def test_gc_spares_what_is_latest_of_its_name_and_says_so(books: RunStore) -> None:
    """A name that was given once has one version: it is no older for the runs of other names since then."""
    for run_id, name in (("dddd1111", "atlas"), ("eeee1111", "notes")):
        finish(books, run_id, name)
    one = ok("gc", "--last", "2", "--yes").stderr
    assert one.startswith("Spared: 1 old version, the latest of its name; `ftq rm book:1` deletes it all the same.\n")
    assert one.endswith("Deleted 1 run.\n")
    assert [found.version_name for found in books.all()] == ["notes:1", "atlas:1", "book:1"]
    assert ok("gc", "--last", "0", "--yes").stderr == (
        "Spared: 3 old versions, the latest of their names; "
        "`ftq rm atlas:1 book:1 notes:1` deletes them all the same.\n"
        "Nothing to delete: no finished run besides the last 0 and the kept ones.\n"
    )
    with pytest.raises(Refused, match=r"^run book is book:latest now$"):
        books.delete("aaaa1111", old=True)


def test_a_finished_version_that_is_retried_is_told(books: RunStore) -> None:
    assert (
        "Note: book:1 is gone: book gets a new number when it succeeds\n"
        in ok("retry", "book:1", "--from", "train").stderr
    )
