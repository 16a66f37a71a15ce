"""What an attacker may try at the gateway, without a key and with one that is no admin's."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from starlette.applications import Starlette

from ftq.errors import FtqError, RunError
from ftq.store.store import RunStore
from gateway import connection, models
from gateway.connection import Connection
from gateway.errors import ApiError, without_paths
from tests.gateway_tools import FORM, ROWS, key_of, make_gateway, multipart, serving
from tests.tools import PATIENCE, until

DIGITS = "9" * 5000


class Target:
    """A gateway on a real socket, and a key of it that is no admin's."""

    def __init__(self, app: Starlette, url: str, home: Path) -> None:
        self.app, self.url, self.home = app, url, home
        self.store = app.state.gateway.client.store
        self.secret = key_of(app, "ana")
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key=self.secret, max_retries=0)
        self.address = ("127.0.0.1", int(url.rpartition(":")[2]))

    def raw(self, head: str, body: bytes = b"") -> bytes:
        """The answer to a request as it is written here."""
        with socket.create_connection(self.address, timeout=PATIENCE) as connected:
            connected.sendall(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)
            return ended(connected)

    def get(self, path: str, key: bool = True) -> tuple[int, bytes]:
        """(status, answer) of a path that no client's library has tidied."""
        line = f"\nAuthorization: Bearer {self.secret}" if key else ""
        answer = self.raw(f"GET {path} HTTP/1.1\nHost: x\nConnection: close{line}")
        return int(answer.split()[1]), answer


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    home = tmp_path_factory.mktemp("security") / "home"
    app, _ = make_gateway(home)
    with serving(app) as url:
        yield Target(app, url, home)


def ended(connected: socket.socket) -> bytes:
    """What comes until the other side hangs up."""
    answer = b""
    try:
        while piece := connected.recv(65536):
            answer += piece
    except ConnectionResetError:
        pass
    return answer


# ---- where a request goes -----------------------------------------------------------------------------------

SMUGGLED = [
    "/healthz/../v1/models", "/healthz%2F..%2Fv1%2Fmodels", "/healthz%00", "/healthz/", "//healthz",
    "/healthz;/v1/models",
    "/v1/files/..%2F..%2Fftq.db/content", "/v1/files/%2e%2e/content", "/v1/files/..%2Fftq.db", "/v1/files//content",
    "/v1/models/..%2F..%2F..%2Fetc%2Fpasswd", "/v1/models//etc/passwd", "/v1/models/ft:%2Fetc:ftq::x", "/V1/models/x",
    "/v1/fine_tuning/jobs/ftjob-..%2F..", "/v1/fine_tuning/jobs/ftjob-%00", "/v1/models/%ff%fe",
    "/v1/models/" + "a" * 9000,
    f"/v1/models/ft:a:ftq::x:ckpt-step-{DIGITS}", "/v1/uploads/..%2Fx/complete",
]  # fmt: skip


@pytest.mark.parametrize("path", SMUGGLED, ids=[path[:40] for path in SMUGGLED])
def test_no_way_of_writing_a_path_leads_past_the_key_or_out_of_the_folder(target: Target, path: str) -> None:
    assert target.get(path, key=False)[0] == 401
    status, answer = target.get(path)
    assert status in (404, 405), answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"


def test_a_slash_at_the_end_is_another_address_and_no_redirect_to_whatever_host(target: Target) -> None:
    for path in ("/v1/models/", "/v1/files/"):
        answer = target.raw(
            f"GET {path} HTTP/1.1\nHost: evil.example\nAuthorization: Bearer {target.secret}\nConnection: close"
        )
        assert answer.split()[1] == b"404" and b"evil" not in answer


def test_two_lengths_are_refused_before_they_are_two_requests(target: Target) -> None:
    post = f"POST /v1/fine_tuning/jobs HTTP/1.1\nHost: x\nAuthorization: Bearer {target.secret}\n"
    hidden = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    for lengths in ("Content-Length: 4\nTransfer-Encoding: chunked", "Content-Length: 4\nContent-Length: 40",
                    "Transfer-Encoding: x\nContent-Length: 4", "Content-Length: +4"):  # fmt: skip
        answer = target.raw(post + lengths, b"0\r\n\r\n" + hidden)
        assert answer.startswith(b"HTTP/1.1 400") and answer.count(b"HTTP/1.1 ") == 1, (lengths, answer)


# ---- the key ------------------------------------------------------------------------------------------------


def test_a_key_counts_in_its_header_alone(target: Target) -> None:
    secret = target.secret
    for headers in (
        {"authorization": secret}, {"authorization": f"Basic {secret}"}, {"authorization": "Bearer"},
        {"authorization": "Bearer " + "x" * 30_000}, {"x-api-key": secret}, {"api-key": secret},
        {"cookie": f"authorization=Bearer {secret}; api_key={secret}"},
    ):  # fmt: skip
        assert httpx.get(f"{target.url}/v1/models", headers=headers, timeout=PATIENCE).status_code == 401, headers
    for query in (f"api_key={secret}", f"key={secret}", f"access_token={secret}", f"authorization=Bearer+{secret}"):
        answer = httpx.get(f"{target.url}/v1/models?{query}", timeout=PATIENCE)
        assert answer.status_code == 401 and secret not in answer.text


def test_no_page_of_another_site_reads_or_sends_anything(target: Target) -> None:
    asks = {"origin": "https://evil.example", "access-control-request-method": "POST",
            "access-control-request-headers": "authorization"}  # fmt: skip
    known = asks | {"authorization": f"Bearer {target.secret}"}
    for method in ("OPTIONS", "GET", "HEAD", "TRACE", "PUT"):
        for headers in (asks, known):
            answer = httpx.request(method, f"{target.url}/v1/models", headers=headers, timeout=PATIENCE)
            assert not [name for name in answer.headers if name.startswith("access-control")]
            wanted = (200 if method in ("GET", "HEAD") else 405) if "authorization" in headers else 401
            assert answer.status_code == wanted, method
            assert (method == "HEAD") == (answer.content == b"")


# ---- too much, too slowly -----------------------------------------------------------------------------------


def test_numbers_of_thousands_of_digits_are_refused_and_no_error_of_the_server(target: Target) -> None:
    for path in ("files", "fine_tuning/jobs", "fine_tuning/jobs/ftjob-x/events"):
        assert target.get(f"/v1/{path}?limit={DIGITS}")[0] in (400, 404)
    with pytest.raises(openai.NotFoundError):
        target.client.files.delete("file-x", extra_headers={"x-stainless-retry-count": DIGITS})


def test_a_head_without_an_end_is_cut_off(target: Target) -> None:
    with socket.create_connection(target.address, timeout=PATIENCE) as connected:
        connected.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: ")
        with pytest.raises(OSError):
            for _ in range(1000):
                connected.sendall(b"x" * 10_000)
    healthy = "GET /healthz HTTP/1.1\nHost: x\nConnection: close"
    assert target.raw(f"{healthy}\nX: {'x' * 60_000}").startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 200" not in target.raw(healthy + "\nX: x" * 100_000)


def test_trailers_without_an_end_are_cut_off(target: Target) -> None:
    with socket.create_connection(target.address, timeout=PATIENCE) as connected:
        connected.sendall(b"POST /v1/files HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
        with pytest.raises(OSError):
            for _ in range(1000):
                connected.sendall(b"X: " + b"x" * 10_000 + b"\r\n")


def test_who_sends_a_request_too_slowly_is_hung_up_on(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(connection, "BODY_SECONDS", 0.3)
    head = f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {target.secret}\r\nContent-Length: 9999\r\n"
    kind = "Content-Type: multipart/form-data; boundary=ftq\r\n\r\n--ftq\r\n"
    for begun in ("", "GET / HT", head, head + kind):
        with socket.create_connection(target.address, timeout=PATIENCE) as connected:
            connected.sendall(begun.encode())
            ended(connected)
    until(lambda: not list((target.home / "files").glob(".*")))


def test_who_sends_a_body_steadily_is_waited_for(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """The looks fall between its pieces, of which the first may have come with the head."""
    made, body = list[Connection](), multipart(("purpose", None, b"batch"), ("file", "a", b"x" * 40_000))
    begin = Connection.connection_made
    monkeypatch.setattr(Connection, "connection_made", lambda self, to: (made.append(self), begin(self, to))[1])

    def steadily() -> Iterator[bytes]:
        for first in range(0, len(body), 4000):
            until(lambda first=first: not first or (made and made[0]._body >= first))
            if first > 4000:
                made[0].loop.call_soon_threadsafe(made[0]._end_if_slow)
                until(lambda: made[0]._came == 0)  # which it isn't where it hangs up
            yield body[first : first + 4000]

    headers = {**FORM, "authorization": f"Bearer {target.secret}"}
    answer = httpx.post(f"{target.url}/v1/files", content=steadily(), headers=headers, timeout=2 * PATIENCE)
    assert answer.json()["bytes"] == 40_000


# ---- what is in a request -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ['a"; filename="b', "a\r\nSet-Cookie: x=y", "../../../etc/passwd", "\u202egpj.exe", "<b>", "a\0b"]
)
def test_a_files_name_breaks_no_header_of_the_download(target: Target, name: str) -> None:
    upload: Any = {"bytes": 1, "filename": name, "mime_type": "text/plain", "purpose": "batch"}
    begun = target.client.uploads.create(**upload)
    part = target.client.uploads.parts.create(begun.id, data=b"x")
    file = target.client.uploads.complete(begun.id, part_ids=[part.id]).file
    assert file
    answer = target.client.files.with_raw_response.content(file.id)
    assert answer.content == b"x" and "set-cookie" not in answer.headers
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment; filename")


def test_metadata_comes_back_as_data_and_is_in_no_name_nor_event(target: Target) -> None:
    hostile = "</script><script>alert(1)</script>\r\nX: y \u202e {{7*7}} $(id) ' OR 1=1 --"
    file = target.client.files.create(file=(hostile.replace("/", ""), ROWS), purpose="fine-tune").id
    asked: Any = {"model": "smollm2-135m", "training_file": file}
    job = target.client.fine_tuning.jobs.create(**asked, metadata={"a' OR ''='": hostile})
    assert job.metadata == {"a' OR ''='": hostile}
    listed = target.client.fine_tuning.jobs.list(extra_query={"metadata[a' OR ''=']": hostile})
    assert [one.id for one in listed] == [job.id]
    run = target.store.jobs.run(job.id.removeprefix("ftjob-"))
    told = [event.message for event in target.client.fine_tuning.jobs.list_events(job.id)]
    assert "script" not in json.dumps([run.name, told])
    for suffix in ("a:b", "../x", "a/b", "a\n", "", "a b", "ü", "x" * 65, "\u0661"):
        with pytest.raises(openai.BadRequestError) as caught:
            target.client.fine_tuning.jobs.create(**asked, suffix=suffix)
        assert caught.value.param == "suffix"


def test_what_is_anothers_is_as_if_it_werent_there(target: Target) -> None:
    other = openai.OpenAI(base_url=f"{target.url}/v1", api_key=key_of(target.app, "ben"), max_retries=0)
    mine = target.client.files.create(file=("a", ROWS), purpose="fine-tune").id
    job = target.client.fine_tuning.jobs.create(model="smollm2-135m", training_file=mine)
    upload = target.client.uploads.create(bytes=3, filename="a", mime_type="text/plain", purpose="batch")
    name = models.name_of(target.store.jobs.run(job.id.removeprefix("ftjob-")), None)
    calls: list[tuple[Any, str, Any, str]] = [
        (other.files.retrieve, mine, {}, "file-none"),
        (other.files.content, mine, {}, "file-none"),
        (other.files.delete, mine, {}, "file-none"),
        (other.fine_tuning.jobs.retrieve, job.id, {}, "ftjob-none"),
        (other.fine_tuning.jobs.cancel, job.id, {}, "ftjob-none"),
        (other.fine_tuning.jobs.list_events, job.id, {}, "ftjob-none"),
        (other.fine_tuning.jobs.checkpoints.list, job.id, {}, "ftjob-none"),
        (other.uploads.cancel, upload.id, {}, "upload_none"),
        (other.models.retrieve, name, {}, "ft:none:ftq::none"),
        (other.models.delete, name, {}, "ft:none:ftq::none"),
        (lambda model: _ask(other, model), name, {}, "ft:none:ftq::none"),
        (lambda file: _train(other, file, mine), mine, {}, "file-none"),
        (lambda file: _train(other, mine, file), mine, {}, "file-none"),
    ]
    for call, real, _, unknown in calls:
        said = []
        for wanted in (real, unknown):
            with pytest.raises(openai.APIStatusError) as caught:
                call(wanted)
            text = json.dumps([caught.value.status_code, caught.value.body])
            said.append(text.replace(wanted, "X").replace(mine, "X"))
        assert said[0] == said[1]
    assert target.client.fine_tuning.jobs.retrieve(job.id).status == "validating_files"
    assert target.client.files.retrieve(mine).id == mine


def _ask(client: openai.OpenAI, model: str) -> Any:
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": "x"}])


def _train(client: openai.OpenAI, training: str, validation: str) -> Any:
    asked: Any = {"training_file": training, "validation_file": validation}
    return client.fine_tuning.jobs.create(model="smollm2-135m", **asked)


# ---- what is told -------------------------------------------------------------------------------------------


def test_paths_of_the_server_are_told_to_admins_alone(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    file = target.client.files.create(file=("a", ROWS), purpose="fine-tune").id
    job = target.client.fine_tuning.jobs.create(model="smollm2-135m", training_file=file)
    token = target.store.claim(job.id.removeprefix("ftjob-"), "prepare", 1, "box", 60)
    place = str(target.home / "x" / "adapter")
    target.store.fail(token, RunError("bug", f"no room in {place}", f"Look into {place}/log."))
    failed = target.client.fine_tuning.jobs.retrieve(job.id)
    told = target.client.fine_tuning.jobs.list_events(job.id).data[0].message
    assert failed.error and "no room in …/adapter" in failed.error.message
    assert str(target.home) not in failed.error.message + told

    def broken(*_: Any) -> Any:
        raise ApiError(500, f"{place} is broken")

    monkeypatch.setattr(models, "resolve", broken)
    admin = target.store.keys.create("boss", target.store.keys.find(target.secret).limits, admin=True).secret
    for secret, message in ((target.secret, "…/adapter is broken"), (admin, f"{place} is broken")):
        client = openai.OpenAI(base_url=f"{target.url}/v1", api_key=secret, max_retries=0)
        with pytest.raises(openai.InternalServerError) as caught:
            _ask(client, "smollm2-135m")
        assert caught.value.body["message"] == message  # type: ignore[index]

    def lost(*_: Any, **__: Any) -> Any:
        raise FtqError(f"{place} is broken", f"Look into {place}/log.")

    monkeypatch.setattr(RunStore, "count", lost)
    for secret, message, hint in (
        (target.secret, "…/adapter is broken", "Look into …/log."),
        (admin, f"{place} is broken", f"Look into {place}/log."),
    ):
        answer = httpx.get(f"{target.url}/ftq/v1/runs", headers={"authorization": f"Bearer {secret}"}, timeout=PATIENCE)
        assert answer.json()["error"]["ftq"] == {"kind": "FtqError", "message": message, "hint": hint}


@pytest.mark.parametrize(("text", "told"), [
    ("/root/.cache/ftq/x-1.2 is gone", "…/x-1.2 is gone"), ("in '/a b/c'", "in '/a b/c'"),
    ("at (/srv/ftq/home/run)", "at (…/run)"),
    ("FTQ_HOME=/srv/ftq: full", "FTQ_HOME=…/ftq: full"), ("Invalid URL (GET /v1/x/y)", "Invalid URL (GET /v1/x/y)"),
    ("https://example.org/a/b", "https://example.org/a/b"), ("Qwen/Qwen3-0.6B and 1/2", "Qwen/Qwen3-0.6B and 1/2"),
])  # fmt: skip
def test_only_paths_are_shortened(text: str, told: str) -> None:
    assert without_paths(text) == told
