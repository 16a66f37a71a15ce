"""Files and uploads as OpenAI's clients send them: whole or not at all, whatever the order, the name, the size."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import os
import signal
import socket
import subprocess
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types import FileObject
from starlette.applications import Starlette
from starlette.requests import Request

from ftq.client.client import Client
from ftq.files import uploads
from ftq.files.uploads import Writer
from ftq.programs import ServeOptions
from ftq.settings import Settings
from ftq.store.gateway.keys import Limits
from gateway.app import make_app
from gateway.files import form
from gateway.files.storage import Storage
from tests.gateway_tools import FORM, answers, key_of, make_gateway, multipart, serving, settings_of, strictly
from tests.tools import PATIENCE, free_port, until

ROW = b'{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}\n'
MOST = 300_000  # bytes of the largest upload here


class Served:
    """A gateway on a real socket, OpenAI's client, and raw requests with the same key."""

    def __init__(self, app: Starlette, url: str, secret: str, home: Path) -> None:
        self.app, self.url, self.secret, self.home = app, url, secret, home
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key=secret)
        self.raw = httpx.Client(base_url=url, headers={"authorization": f"Bearer {secret}"}, timeout=60)

    def as_(self, name: str, limits: Limits | None = None) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key_of(self.app, name, limits))

    def on_disk(self) -> set[str]:
        folder = self.home / "files"
        return {path.name for path in folder.iterdir()} if folder.exists() else set()

    def upload(self, body: bytes, headers: dict[str, str] = FORM) -> httpx.Response:
        return self.raw.post("/v1/files", content=body, headers=headers)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("gateway") / "home"
    app, secret = make_gateway(home, largest_upload=MOST)
    with serving(app) as url:
        served = Served(app, url, secret, home)
        yield served
        served.raw.close()
        served.client.close()


@pytest.fixture
def served(server: Served) -> Served:
    for file in server.client.files.list():
        server.client.files.delete(file.id)
    assert server.on_disk() == set()
    return server


def test_the_life_of_a_file_in_the_official_client(served: Served) -> None:
    client = served.client
    file = strictly(client.files.create(file=("train.jsonl", ROW * 10), purpose="fine-tune"))
    assert file.id.startswith("file-")
    expected = {"object": "file", "bytes": len(ROW) * 10, "filename": "train.jsonl", "purpose": "fine-tune",
                "status": "processed", "status_details": None}  # fmt: skip
    assert {name: getattr(file, name) for name in expected} == expected
    assert "expires_at" not in file.model_fields_set
    assert strictly(client.files.retrieve(file.id)) == file == client.files.wait_for_processing(file.id)
    assert [strictly(one) for one in client.files.list()] == [file]
    answer = client.files.content(file.id)
    assert answer.read() == ROW * 10
    assert answer.response.headers["content-type"] == "application/octet-stream"
    assert answer.response.headers["content-disposition"] == 'attachment; filename="train.jsonl"'
    gone = strictly(client.files.delete(file.id))
    assert (gone.id, gone.object, gone.deleted) == (file.id, "file", True)
    assert served.on_disk() == set()


@pytest.mark.parametrize("call", ["retrieve", "content", "delete"])
def test_an_unknown_file_is_said_as_openai_says_it(served: Served, call: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        getattr(served.client.files, call)("file-x")
    assert caught.value.body == {
        "message": "No such File object: file-x",
        "type": "invalid_request_error",
        "param": "id",
        "code": None,
    }
    assert caught.value.request_id


def test_bytes_without_a_name_are_called_upload(served: Served) -> None:
    assert served.client.files.create(file=io.BytesIO(ROW), purpose="fine-tune").filename == "upload"


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "..", "a%22b.jsonl", "ünï 码.jsonl", "a b;c=d.jsonl", "x" * 3000]
)
def test_a_name_is_data_and_never_a_path(served: Served, name: str) -> None:
    file = served.client.files.create(file=(name, ROW), purpose="fine-tune")
    assert (file.filename, served.on_disk()) == (name, {file.id})
    answer = served.client.files.content(file.id)
    assert answer.read() == ROW
    assert "\n" not in answer.response.headers["content-disposition"]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [('a\\"b', 'a"b'), ("line%0Abreak", "line%0Abreak"), ("nul\0", "nul\\x00"), ("", "upload")],
)
def test_a_name_that_a_client_escapes(served: Served, sent: str, kept: str) -> None:
    answer = served.upload(multipart(("purpose", None, b"batch"), ("file", sent, b"x")))
    assert (answer.status_code, answer.json().get("filename")) == (200, kept)


def test_node_sends_the_file_first_in_chunks_and_no_length(served: Served) -> None:
    body = multipart(("file", "train.jsonl", ROW * 500), ("purpose", None, b"fine-tune"))
    pieces = (body[at : at + 777] for at in range(0, len(body), 777))
    answer = served.raw.post("/v1/files", content=pieces, headers=FORM)
    assert "content-length" not in answer.request.headers
    assert answer.status_code == 200, answer.text
    assert FileObject.model_validate(answer.json(), strict=True).bytes == 500 * len(ROW)


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_bytes_that_look_like_a_boundary_are_the_files(served: Served, size: int) -> None:
    data = b"\r\n--ft\r\n-\r--ftq\r\n--\r\nftq--\r\n\r\r\n--f" * 20
    body = multipart(("file", "a", data), ("purpose", None, b"batch"))
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    answer = served.raw.post("/v1/files", content=pieces, headers=FORM)
    assert served.client.files.content(answer.json()["id"]).read() == data


def test_a_file_that_is_sent_again_after_a_lost_answer_is_one_file(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(count: int, name: str = "a", text: bytes = b"abc", **more: Any) -> str:
        headers = {"x-stainless-retry-count": str(count)}
        return served.client.files.create(file=(name, text), purpose="batch", extra_headers=headers, **more).id

    first = send(0)
    assert send(1) == send(2) == first
    lives: Any = {"expires_after": {"anchor": "created_at", "seconds": 3600}}
    others = {send(0), send(1, "b"), send(1, "a", b"abd"), send(1, **lives)}
    assert first not in others and len(others) == 4
    assert served.on_disk() == {first, *others}
    again = {"x-stainless-retry-count": "1"}
    for headers in ({}, again, again):
        assert served.client.files.delete(first, extra_headers=headers).deleted
    with pytest.raises(openai.NotFoundError):
        served.client.files.delete(first)
    store = served.app.state.gateway.client.store
    later = store.clock() + 601
    monkeypatch.setattr(store, "clock", lambda: later)
    assert send(1) not in others


@pytest.mark.parametrize("first_done", [0, 1])
def test_a_retry_that_overtakes_its_first_request_makes_one_file(
    served: Served, monkeypatch: pytest.MonkeyPatch, first_done: int
) -> None:
    """Both are past their last byte when one is recorded: each is the other's, whichever comes first."""
    finish, waiting, done = Writer.finish, threading.Barrier(2), [threading.Event(), threading.Event()]

    def in_order(writer: Writer) -> None:
        finish(writer)
        number = int(writer.path.name.endswith("r"))
        waiting.wait(PATIENCE)
        assert number == first_done or done[first_done].wait(PATIENCE)

    def send(number: int) -> str:
        headers = {"x-stainless-retry-count": str(number)}
        sent = served.client.files.create(file=("a", b"abc"), purpose="batch", extra_headers=headers)
        done[number].set()
        return sent.id

    monkeypatch.setattr(Writer, "finish", in_order)
    with ThreadPoolExecutor(2) as pool:
        ids = set(pool.map(send, range(2)))
    assert len(ids) == 1 and served.on_disk() == ids == {file.id for file in served.client.files.list()}
    monkeypatch.setattr(Writer, "finish", finish)
    another = served.client.files.create(file=("a", b"abc"), purpose="batch").id  # a person sends it a second time
    assert served.on_disk() == {*ids, another} and another not in ids


def test_a_retry_fits_where_its_first_request_did(served: Served) -> None:
    client = served.as_("retried", Limits(bytes=1000))
    again = {"x-stainless-retry-count": "1"}
    first = client.files.create(file=b"x" * 600, purpose="batch").id
    assert client.files.create(file=b"x" * 600, purpose="batch", extra_headers=again).id == first
    with pytest.raises(openai.RateLimitError):
        client.files.create(file=b"y" * 600, purpose="batch", extra_headers=again)
    assert served.on_disk() == {first}
    client.files.delete(first)


def test_a_file_that_expires(served: Served) -> None:
    store = served.app.state.gateway.client.store
    file = served.client.files.create(
        file=ROW, purpose="fine-tune", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert strictly(file).expires_at == file.created_at + 3600
    clock = store.clock
    try:
        store.clock = lambda: clock() + 3601
        with pytest.raises(openai.NotFoundError):
            served.client.files.retrieve(file.id)
        assert served.client.files.list().data == []
        assert served.on_disk() == {file.id}
        served.app.state.gateway.files.sweep()
        assert served.on_disk() == set()
    finally:
        store.clock = clock


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({}, "purpose", "missing_required_parameter"),
        ({"purpose": "fine_tune"}, "purpose", "invalid_value"),
        ({"purpose": "fine-tune-results"}, "purpose", "invalid_value"),
        ({"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "60"},
         "expires_after.seconds", "invalid_value"),
        ({"purpose": "batch", "expires_after[seconds]": "3600"}, "expires_after.anchor", "missing_required_parameter"),
        ({"purpose": "batch", "expires_after[anchor]": "now", "expires_after[seconds]": "3600"},
         "expires_after.anchor", "invalid_value"),
        ({"purpose": "batch", "colour": "blue"}, "colour", "unknown_parameter"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("file_first", [True, False])
def test_a_wrong_field_is_named(
    served: Served, fields: dict[str, str], param: str, code: str, file_first: bool
) -> None:
    parts = [(name, None, value.encode()) for name, value in fields.items()]
    file = ("file", "a.jsonl", ROW)
    answer = served.upload(multipart(*([file, *parts] if file_first else [*parts, file])))
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code)
    assert served.on_disk() == set()


def test_bodies_that_are_no_form(served: Served) -> None:
    whole = multipart(("purpose", None, b"batch"), ("file", "a", b"x" * 1000))
    two = multipart(("purpose", None, b"batch"), ("file", "a", b"x"), ("file", "b", b"y"))
    nameless = whole.replace(b'name="purpose"', b"")
    twice = multipart(("purpose", None, b"batch"), ("purpose", None, b"evals"), ("file", "a", b"x"))
    none = multipart(("purpose", None, b"batch"))
    long = multipart(("purpose", None, b"x" * 70_000), ("file", "a", b"x"))
    many = multipart(*[(f"f{number}", None, b"x") for number in range(40)])
    for body, headers in [(b"{}", {"content-type": "application/json"}), (b"", {}), (whole, {}),
                          (whole[:-30], FORM), (b"garbage", FORM), (two, FORM), (twice, FORM), (nameless, FORM),
                          (none, FORM), (long, FORM), (many, FORM)]:  # fmt: skip
        answer = served.upload(body, headers)
        assert (answer.status_code, sorted(answer.json()["error"])) == (400, ["code", "message", "param", "type"])
    assert served.on_disk() == set()


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", None), (b"\n\r\n \n", None), (b"\xef\xbb\xbf\n", None),
        (ROW + b"[1]\n", 2), (ROW + b"{\n", 2), (b"\xff\xfe", 1), (ROW * 3 + b"plain text", 4),
        (b'{"a": "\xff"}\n', 1), (b"\n\n7\n", 3), (ROW + b'{"a": 1} {"b": 2}\n', 2), (b'"text"', 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("file_first", [True, False])
def test_a_training_file_has_an_object_in_every_line(
    served: Served, data: bytes, line: int | None, file_first: bool
) -> None:
    purpose, file = ("purpose", None, b"fine-tune"), ("file", "a", data)
    error = served.upload(multipart(*([file, purpose] if file_first else [purpose, file]))).json()["error"]
    format_ = "Expected file to have JSONL format, where every line is a valid JSON dictionary. Line "
    assert (error["param"], error["code"], error["type"]) == ("file", "invalid_file", "invalid_request_error")
    assert error["message"].startswith(f"{format_}{line} " if line else "File is empty.")
    assert served.on_disk() == set()


def test_other_files_are_what_they_are(served: Served) -> None:
    for first in (True, False):
        parts = [("file", "a.bin", b"\xff\n\0"), ("purpose", None, b"user_data")]
        answer = served.upload(multipart(*(parts if first else parts[::-1])))
        assert served.client.files.content(answer.json()["id"]).read() == b"\xff\n\0"


@pytest.mark.parametrize("with_length", [True, False])
def test_the_limit_counts_bytes(served: Served, with_length: bool) -> None:
    for more, status in ((0, 200), (1, 413)):
        body = multipart(("file", "a", b"x" * (MOST + more)), ("purpose", None, b"batch"))
        answer = served.raw.post("/v1/files", content=body if with_length else iter([body]), headers=FORM)
        assert answer.status_code == status
    assert answer.json()["error"]["message"] == f"More than {MOST:,} bytes aren't taken."
    assert len(served.on_disk()) == 1


def test_what_is_declared_too_large_is_refused_before_it_comes(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2]))) as raw:
        raw.sendall(_head(served, f"Content-Length: {MOST + 2**20 + 1}"))
        assert raw.recv(12) == b"HTTP/1.1 413"


def test_a_client_that_hangs_up_leaves_nothing(served: Served) -> None:
    body = multipart(("purpose", None, b"batch"), ("file", "a", b"x" * 200_000))
    with socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2]))) as raw:
        raw.sendall(_head(served, f"Content-Length: {len(body)}") + body[:-100])
        (partial,) = until(served.on_disk)
        assert partial.endswith(".partial")
    until(lambda: not served.on_disk())


def _head(served: Served, length: str) -> bytes:
    head = ["POST /v1/files HTTP/1.1", "Host: x", f"Authorization: Bearer {served.secret}", length]
    return "\r\n".join([*head, f"Content-Type: {FORM['content-type']}", "", ""]).encode()


def test_a_long_upload_that_is_refused_gets_its_answer(home: Path) -> None:
    """Its first line is wrong, and megabytes follow: the client reads the error, not a broken pipe."""
    app, secret = make_gateway(home)
    data = b"no\n" * 5_000_000
    with serving(app) as url, openai.OpenAI(base_url=f"{url}/v1", api_key=secret, max_retries=0) as client:
        for _ in range(2):  # on one connection
            with pytest.raises(openai.BadRequestError, match="Line 1 isn't valid JSON"):
                client.files.create(file=("a", data), purpose="fine-tune")
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="wrong").files.create(file=("a", data), purpose="fine-tune")
        chunks = iter([multipart(("purpose", None, b"fine-tune"), ("file", "a", data))])
        headers = {**FORM, "authorization": f"Bearer {secret}"}
        assert httpx.post(f"{url}/v1/files", content=chunks, headers=headers, timeout=PATIENCE).status_code == 400


def test_a_key_that_is_full_is_told_once(served: Served) -> None:
    sent: list[httpx.Request] = []
    hooks = {"request": [sent.append]}
    secret = key_of(served.app, "full", Limits(bytes=1000))
    with httpx.Client(event_hooks=hooks, timeout=PATIENCE) as http:
        client = openai.OpenAI(base_url=f"{served.url}/v1", api_key=secret, http_client=http)
        first = client.files.create(file=b"x" * 600, purpose="batch")
        sent.clear()
        with pytest.raises(openai.RateLimitError) as caught:
            client.files.create(file=b"x" * 600, purpose="batch")
        assert (caught.value.code, len(sent)) == ("insufficient_quota", 1)  # sending it again wouldn't help
        with pytest.raises(openai.RateLimitError):
            client.uploads.create(bytes=600, filename="a", mime_type="text/plain", purpose="batch")
        client.files.delete(first.id)
        client.files.create(file=b"x" * 600, purpose="batch")


def test_two_uploads_at_once_dont_both_fit(served: Served) -> None:
    client = served.as_("two", Limits(bytes=1000))
    together = threading.Barrier(2)

    def send(_: int) -> bool:
        together.wait()
        try:
            return bool(client.files.create(file=b"x" * 600, purpose="batch"))
        except openai.RateLimitError:
            return False

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(send, range(2))) == [False, True]
    assert len(served.on_disk()) == 1


def test_uploads_at_once_dont_mix(served: Served) -> None:
    bodies = [bytes([65 + number]) * 200_000 for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda body: served.client.files.create(file=body, purpose="batch").id, bodies))
    assert [served.client.files.content(file_id).read() for file_id in ids] == bodies


@pytest.mark.parametrize("method", ["write", "finish"])
def test_a_full_disk_is_told_once_and_leaves_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Writer, method, full)
    with pytest.raises(openai.InternalServerError) as caught:
        served.client.files.create(file=ROW, purpose="fine-tune")
    assert (caught.value.status_code, caught.value.code) == (507, "disk_full")
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert served.on_disk() == set()


def test_pieces_of_all_sizes_are_hashed_in_their_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "SYNC_AT_ONCE", 1)
    pieces = [
        bytes([number]) * size for number in range(10) for size in (*[uploads.LARGE] * 5, 1, 3 * uploads.LARGE, 0)
    ]
    with Writer(home, "file-a") as writer:
        for count, piece in enumerate(pieces, 1):
            writer.write(piece)
            if count % 7 == 0:
                assert writer.sha256 == hashlib.sha256(b"".join(pieces[:count])).hexdigest()
        writer.finish()
    assert writer.path.read_bytes() == b"".join(pieces)


def test_what_the_disk_refuses_while_more_comes_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(uploads, "SYNC_AT_ONCE", 1)
    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(OSError, match="No space left"), Writer(home, "file-a") as writer:
        writer.write(b"abc")
        writer.finish()
    assert list((home / "files").iterdir()) == []


# ---- pages ------------------------------------------------------------------------------------------------


def test_pages_by_time_and_purpose(served: Served) -> None:
    purposes = ["batch", "fine-tune", "batch", "batch", "fine-tune"]
    ids = [served.client.files.create(file=ROW, purpose=purpose).id for purpose in purposes]  # type: ignore[arg-type]
    assert [file.id for file in served.client.files.list(limit=2)] == ids[::-1]
    assert [file.id for file in served.client.files.list(limit=2, order="asc")] == ids
    assert [file.id for file in served.client.files.list(limit=1, purpose="fine-tune")] == [ids[4], ids[1]]
    page = served.raw.get("/v1/files", params={"limit": 2, "after": ids[3]}).json()
    assert {**page, "data": [file["id"] for file in page["data"]]} == {
        "object": "list", "data": [ids[2], ids[1]], "has_more": True, "first_id": ids[2], "last_id": ids[1]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "param"),
    [({"after": "file-x"}, "after"), ({"limit": "0"}, "limit"), ({"limit": "10001"}, "limit"),
     ({"order": "up"}, "order"), ({"purpose": "x"}, "purpose")],
)  # fmt: skip
def test_a_wrong_query_is_named(served: Served, query: dict[str, str], param: str) -> None:
    answer = served.raw.get("/v1/files", params=query)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_what_one_key_made_another_doesnt_see(served: Served) -> None:
    ana, ben = served.as_("ana"), served.as_("ben")
    file = ana.files.create(file=ROW, purpose="fine-tune")
    upload = ana.uploads.create(bytes=3, filename="a", mime_type="text/plain", purpose="batch")
    assert ben.files.list().data == []
    for call in (ben.files.retrieve, ben.files.content, ben.files.delete):
        with pytest.raises(openai.NotFoundError):
            call(file.id)
    for refused in (lambda: ben.uploads.cancel(upload.id), lambda: ben.uploads.parts.create(upload.id, data=b"abc")):
        with pytest.raises(openai.NotFoundError):
            refused()
    with pytest.raises(openai.BadRequestError):
        ben.files.list(after=file.id)
    assert served.client.files.retrieve(file.id) == file  # an admin's


# ---- uploads in parts -------------------------------------------------------------------------------------


def test_the_official_client_uploads_in_parts(served: Served, tmp_path: Path) -> None:
    (tmp_path / "big.jsonl").write_bytes(ROW * 2000)
    upload = served.client.uploads.upload_file_chunked(
        file=tmp_path / "big.jsonl", mime_type="application/jsonl", purpose="fine-tune", part_size=50_000
    )
    file = strictly(upload).file
    assert file and (upload.status, file.filename, file.bytes) == ("completed", "big.jsonl", 2000 * len(ROW))
    assert served.client.files.content(file.id).read() == ROW * 2000
    assert served.on_disk() == {file.id}  # the parts are gone


def _started(served: Served, *parts: bytes, purpose: Any = "batch") -> tuple[str, list[str]]:
    client = served.client.uploads
    upload = strictly(
        client.create(bytes=sum(map(len, parts)), filename="a b", mime_type="text/plain", purpose=purpose)
    )
    assert (upload.status, upload.file, upload.expires_at) == ("pending", None, upload.created_at + 3600)
    return upload.id, [strictly(client.parts.create(upload.id, data=part)).id for part in parts]


def test_parts_go_in_the_order_that_is_told_at_the_end(served: Served) -> None:
    upload, ids = _started(served, b"one", b"two!")
    md5 = "75d9c5c3e4d4c8dbfae46a3d0ff03a3c"
    with pytest.raises(openai.BadRequestError, match=r"MD5 is [0-9a-f]{32}, not"):
        served.client.uploads.complete(upload, part_ids=ids[::-1], md5=md5)
    first = served.client.uploads.complete(upload, part_ids=ids[::-1])
    assert first.file and served.client.files.content(first.file.id).read() == b"two!one"
    assert served.client.uploads.complete(upload, part_ids=ids[::-1]) == first  # sent again after a lost answer
    with pytest.raises(openai.BadRequestError, match="is completed"):
        served.client.uploads.cancel(upload)
    with pytest.raises(openai.BadRequestError, match="is completed"):
        served.client.uploads.parts.create(upload, data=b"more")
    assert served.on_disk() == {first.file.id}


def test_an_upload_that_cant_be_completed(served: Served) -> None:
    upload, ids = _started(served, b"one", b"two", purpose="fine-tune")
    for wrong in (ids[:1], [*ids, ids[0]], [ids[0], "part_x"], []):
        with pytest.raises(openai.BadRequestError) as caught:
            served.client.uploads.complete(upload, part_ids=wrong)
        assert caught.value.param == "part_ids"
    with pytest.raises(openai.BadRequestError, match="JSONL"):
        served.client.uploads.complete(upload, part_ids=ids)
    assert served.on_disk() == set(ids)
    assert strictly(served.client.uploads.cancel(upload)).status == "cancelled"
    assert served.client.uploads.cancel(upload).status == "cancelled"
    assert served.on_disk() == set()


def test_an_upload_that_is_too_big_or_too_late(served: Served) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        served.client.uploads.create(bytes=MOST + 1, filename="a", mime_type="b", purpose="batch")
    assert caught.value.status_code == 413
    upload, ids = _started(served, b"abc")
    with pytest.raises(openai.APIStatusError, match="More than 3 bytes"):
        served.client.uploads.parts.create(upload, data=b"abcd")
    store = served.app.state.gateway.client.store
    clock = store.clock
    try:
        store.clock = lambda: clock() + 3601
        with pytest.raises(openai.BadRequestError, match="is expired"):
            served.client.uploads.complete(upload, part_ids=ids)
        served.app.state.gateway.files.sweep()
        assert served.on_disk() == set()
    finally:
        store.clock = clock


def test_an_upload_completed_twice_at_once_is_one_file(served: Served) -> None:
    upload, ids = _started(served, b"x" * 100_000, b"y" * 100_000)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: served.client.uploads.complete(upload, part_ids=ids), range(4)))
    files = {one.file.id for one in done if one.file}
    assert len(files) == 1 and served.on_disk() == files


# ---- what is killed ---------------------------------------------------------------------------------------


def _start(home: Path) -> tuple[subprocess.Popen[bytes], str]:
    port = free_port()
    process = subprocess.Popen(ServeOptions(port=port).argv(), env={**os.environ, "FTQ_HOME": str(home)})
    url = f"http://127.0.0.1:{port}"
    until(lambda: answers(url, process))
    return process, url


@pytest.mark.slow
def test_a_gateway_that_is_killed_in_an_upload_leaves_a_partial_that_the_next_one_deletes(home: Path) -> None:
    client, _ = _storage(home)
    secret = client.store.keys.create("test", Limits(), admin=True).secret
    client.close()
    process, url = _start(home)
    body = multipart(("purpose", None, b"batch"), ("file", "a", b"x" * 8_000_000))

    def half() -> Iterator[bytes]:
        yield body[:4_000_000]
        until(lambda: any(path.stat().st_size for path in (home / "files").glob(".*.partial")))
        process.kill()
        process.wait()
        yield body[4_000_000:]

    with pytest.raises(httpx.TransportError):
        httpx.post(f"{url}/v1/files", content=half(), headers={**FORM, "authorization": f"Bearer {secret}"})
    (left,) = (home / "files").iterdir()
    assert left.name.startswith(".file-") and left.name.endswith(".partial")
    process, url = _start(home)  # another gateway may still be writing it: it stays for an hour
    assert left.exists()
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE)
    os.utime(left, (0, 0))
    process, url = _start(home)
    until(lambda: not left.exists())
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE)


def _storage(home: Path) -> tuple[Client, Storage]:
    client = Client(settings_of(home))
    return client, Storage(client.store, home)


def test_bytes_whose_row_is_in_another_database_are_left_alone(home: Path) -> None:
    client, storage = _storage(home)
    file = storage.add("file-a", "owner", "a", "batch", b"abc")
    os.utime(storage.path(file), (0, 0))
    client.close()
    other = Client(settings_of(home / "other"))
    Storage(other.store, home).sweep()
    assert storage.path(file).read_bytes() == b"abc"
    other.close()


def test_a_result_file_is_made_once(home: Path) -> None:
    client, storage = _storage(home)
    first = storage.add("file-r", "owner", "a", "fine-tune-results", b"abc\n", "r1")
    assert storage.add("file-r", "owner", "a", "fine-tune-results", b"else", "r1") == first
    assert (first.bytes, client.store.files.of_run("r1")) == (4, [first])
    assert {path.name for path in (home / "files").iterdir()} == {"file-r"}
    client.close()


# ---- PostgreSQL -------------------------------------------------------------------------------------------


@pytest.mark.long
def test_two_gateways_over_one_postgresql(postgres: str, home: Path) -> None:
    """The store's statements on the other database, and two servers that answer the same."""
    settings = Settings.from_env({"FTQ_HOME": str(home), "FTQ_DATABASE_URL": postgres})
    apps = [make_app(settings, ServeOptions()) for _ in range(2)]
    secret = key_of(apps[0], "ana", Limits(bytes=1000, requests_per_minute=1000))
    with serving(apps[0]) as one, serving(apps[1]) as two:
        ana, other = (openai.OpenAI(base_url=f"{url}/v1", api_key=secret) for url in (one, two))
        together = threading.Barrier(2)

        def send(client: openai.OpenAI) -> bool:
            together.wait()
            try:
                return bool(client.files.create(file=("nul\0 ü", b"x" * 600), purpose="batch"))
            except openai.RateLimitError:
                return False

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(send, (ana, other))) == [False, True]
        first = ana.files.list().data[0]
        upload = ana.uploads.create(bytes=6, filename="a", mime_type="b", purpose="batch")
        parts = [client.uploads.parts.create(upload.id, data=b"abc").id for client in (ana, other)]
        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(lambda client: client.uploads.complete(upload.id, part_ids=parts), (ana, other)))
        assert done[0] == done[1] and done[0].file
        assert [file.id for file in other.files.list(limit=1, order="asc")] == [first.id, done[0].file.id]
        assert apps[0].state.gateway.client.store.keys.unfinished("x") == 0
        other.files.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            ana.files.content(first.id)
        assert {path.name for path in (home / "files").iterdir()} == {done[0].file.id}


# ---- size -------------------------------------------------------------------------------------------------


def test_a_million_tiny_lines(home: Path) -> None:
    app, secret = make_gateway(home)
    with serving(app) as url, openai.OpenAI(base_url=f"{url}/v1", api_key=secret) as client:
        file = client.files.create(file=b"{}\n" * 1_000_000, purpose="fine-tune")
        assert app.state.gateway.client.store.files.find(file.id, None).lines == 1_000_000


def test_a_file_that_comes_two_bytes_at_a_time_takes_no_more_memory() -> None:
    head, tail = multipart(("file", "a", b"|")).split(b"|")
    pieces = iter([head, *[b"ab"] * 200_000, tail])
    taken = list[int]()

    async def receive() -> Any:
        return {"type": "http.request", "body": bytes(bytearray(piece := next(pieces))), "more_body": piece is not tail}

    request = Request({"type": "http", "headers": [(b"content-type", FORM["content-type"].encode())]}, receive)
    tracemalloc.start()
    asyncio.run(form.receive(request, "file", lambda piece, _: taken.append(len(piece))))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(taken) == 400_000 and peak < 2e6


@pytest.mark.long
def test_the_memory_is_flat_at_500_mb(home: Path) -> None:
    """Of the gateway's process at its peak, as the kernel counted it: once small, once large."""
    peaks = [_peak_of_uploading(home / str(rows), rows) for rows in (5, 500)]
    assert peaks[1] - peaks[0] < 30e6, peaks


def _peak_of_uploading(home: Path, megabytes: int) -> float:
    client, _ = _storage(home)
    secret = client.store.keys.create("test", Limits()).secret
    client.close()
    process, url = _start(home)
    block = ROW * (10**6 // len(ROW))
    head, tail = multipart(("file", "a", b"|"), ("purpose", None, b"fine-tune")).split(b"|")

    def body() -> Iterator[bytes]:
        yield head
        for _ in range(megabytes):
            yield block
        yield tail

    headers = {**FORM, "authorization": f"Bearer {secret}"}
    answer = httpx.post(f"{url}/v1/files", content=body(), headers=headers, timeout=300)
    assert answer.json()["bytes"] == megabytes * len(block)
    status = Path(f"/proc/{process.pid}/status").read_text()
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE)
    return float(status.partition("VmHWM:")[2].split()[0]) * 1024
