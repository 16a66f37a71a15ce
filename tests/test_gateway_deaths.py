"""A gateway that dies at each step of a request: the client that asks again gets one whole thing, else nothing is left.

tests/test_gateway_killed.py kills a real server at random moments.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import openai
import pytest
from starlette.testclient import TestClient

from ftq.client.client import Client
from ftq.errors import UserError
from ftq.programs import ServeOptions
from ftq.store.gateway.keys import Limits
from ftq.store.store import RunStore
from gateway.app import make_app
from gateway.files.storage import Storage
from tests.deaths import age, clear, each_death
from tests.gateway_tools import ROWS, settings_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("cache"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]
AGAIN = {"x-stainless-retry-count": "1"}
MODEL = "smollm2-135m"
Ask = Callable[[openai.OpenAI], Any]


class Site:
    """A home with a key. Requests die in copies of it."""

    def __init__(self, place: Path) -> None:
        self.place, self.ready = place, place / "ready"
        with closing(Client(settings_of(self.ready))) as client:
            self.secret = client.store.keys.create("test", Limits(), admin=True).secret

    def ask(self, ask: Ask, home: Path | None = None) -> Any:
        """The answer of a gateway in this process."""
        app = make_app(settings_of(home or self.ready), ServeOptions())
        http = TestClient(app, base_url="http://gateway")
        with closing(app.state.gateway.client):
            named: dict[str, Any] = {"base_url": "http://gateway/v1", "api_key": self.secret, "max_retries": 0}
            return ask(openai.OpenAI(http_client=http, **named))

    def deaths(self, ask: Ask) -> Iterator[Path]:
        """A copy for each step at which the request dies. What is left of it if nobody asks again was checked."""
        place = self.place / "homes"
        place.mkdir()
        for home in each_death(lambda home: self.ask(ask, home), self.ready, place):
            swept = home.with_name("swept")
            shutil.copytree(home, swept)
            sweep(swept)
            shutil.rmtree(swept)
            yield home


def sweep(home: Path) -> None:
    """After a sweep and `ftq gc`, hours later, there is what is recorded, whole, and nothing else."""
    age(home)
    with closing(Client(settings_of(home))) as client:
        Storage(client.store, home).sweep()
        clear(client)
        files = {file.id: file.bytes for file in client.store.files.page(None, 100)}
        folder = home / "files"
        there = {path.name: path.stat().st_size for path in folder.iterdir()} if folder.is_dir() else {}
        parts = client.store.files.recorded(there) - set(files)
        assert {name: size for name, size in there.items() if name not in parts} == files


def upload(client: openai.OpenAI, **more: Any) -> str:
    return client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune", **more).id


def files(client: openai.OpenAI) -> list[tuple[str, bytes]]:
    return [(file.id, client.files.content(file.id).read()) for file in client.files.list()]


@pytest.fixture(params=["links", "no links"])
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a file system that has no hard links."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if request.param == "no links":
        monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("disk")
def test_a_file_that_is_sent_again_is_there_once(tmp_path: Path) -> None:
    site = Site(tmp_path)
    for home in site.deaths(upload):
        file_id = site.ask(lambda client: upload(client, extra_headers=AGAIN), home)
        assert site.ask(files, home) == [(file_id, ROWS)]
        sweep(home)


@pytest.mark.usefixtures("disk")
def test_a_file_is_deleted_with_its_bytes(tmp_path: Path) -> None:
    site = Site(tmp_path)
    file_id = site.ask(upload)
    for home in site.deaths(lambda client: client.files.delete(file_id)):
        assert site.ask(files, home) in ([(file_id, ROWS)], [])
        assert site.ask(lambda client: client.files.delete(file_id, extra_headers=AGAIN), home).deleted
        sweep(home)
        assert not list((home / "files").iterdir())


@pytest.mark.parametrize("end", ["complete", "cancel"])
def test_an_upload_in_parts_ends_once(tmp_path: Path, end: str) -> None:
    site = Site(tmp_path)

    def begin(client: openai.OpenAI) -> tuple[str, list[str]]:
        made = client.uploads.create(bytes=len(ROWS), filename="a", mime_type="text/plain", purpose="fine-tune")
        return made.id, [client.uploads.parts.create(made.id, data=data).id for data in (ROWS[:99], ROWS[99:])]

    upload_id, parts = site.ask(begin)

    def finish(client: openai.OpenAI) -> str | None:
        if end == "cancel":
            return client.uploads.cancel(upload_id).id
        return client.uploads.complete(upload_id, part_ids=parts).file.id  # type: ignore[union-attr]

    for home in site.deaths(finish):
        file_id = site.ask(finish, home)
        assert site.ask(files, home) == ([(file_id, ROWS)] if end == "complete" else [])
        sweep(home)
        assert len(list((home / "files").iterdir())) == (end == "complete")


@pytest.mark.parametrize("refused", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_job_that_is_sent_again_is_there_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool) -> None:
    site = Site(tmp_path)
    file_id = site.ask(upload)

    def refuse(*_: object, **__: object) -> None:
        raise UserError("the database takes nothing now")

    def ask(client: openai.OpenAI) -> None:
        with monkeypatch.context() as patch, suppress(openai.BadRequestError):
            if refused:
                patch.setattr(RunStore, "create", refuse)
            job(client, file_id)

    for home in site.deaths(ask):
        made = site.ask(lambda client: job(client, file_id, extra_headers=AGAIN), home)
        assert names(home) == {made: f"{MODEL}-1"}
        sweep(home)


@pytest.mark.long
def test_a_job_whose_name_was_taken_meanwhile_gets_the_next(tmp_path: Path) -> None:
    site = Site(tmp_path)
    file_id = site.ask(upload)
    homes = site.deaths(lambda client: job(client, file_id))
    site.ready = next(home for home in homes if list(home.glob("[!.]*/.submitting")))  # it has its files, and no row
    site.place = tmp_path / "taken"
    site.place.mkdir()
    [waiting] = [mark.parent.name for mark in site.ready.glob("[!.]*/.submitting")]
    other = site.ask(lambda client: job(client, file_id, seed=8))
    assert names(site.ready) == {other: f"{MODEL}-1"}
    for home in site.deaths(lambda client: job(client, file_id, extra_headers=AGAIN)):
        assert site.ask(lambda client: job(client, file_id, extra_headers=AGAIN), home) == waiting
        assert names(home) == {other: f"{MODEL}-1", waiting: f"{MODEL}-2"}
        sweep(home)


def job(client: openai.OpenAI, file_id: str, seed: int = 7, **more: Any) -> str:
    made = client.fine_tuning.jobs.create(model=MODEL, training_file=file_id, seed=seed, **more)
    return made.id.removeprefix("ftjob-")


def names(home: Path) -> dict[str, str]:
    with closing(Client(settings_of(home))) as client:
        return {run.id: run.name for run in client.all()}
