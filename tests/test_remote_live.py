"""A client through `ftq serve` with a real queue behind it, and everything that can go wrong between the two."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from cli_tools import NOW, run

from ftq.client.remote import connection
from ftq.client.remote.client import RemoteClient
from ftq.client.remote.submit import SENT_AT_ONCE, _body
from ftq.delivery.copy import PART
from ftq.doctor.findings import examine
from ftq.errors import FtqError, NotFound, Refused, RunError, Unavailable, UserError
from ftq.files.snapshot import snapshot
from ftq.settings import Settings
from ftq.store.gateway.keys import Limits
from ftq.store.records import Event, Run, Stage, Version, Worker
from ftq.store.wire.records import decode, encode
from ftq.version import VERSION
from tests import finished, tools
from tests.gateway_tools import key_of, make_gateway, serving
from tests.test_remote import far_away, fill
from tests.tiny import make_tiny_model
from tests.tools import PATIENCE, free_port, until

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


OPEN: list[RemoteClient] = []


def client_of(url: str, secret: str, **more: Any) -> RemoteClient:
    OPEN.append(RemoteClient(Settings.from_env({"FTQ_SERVER": url, "FTQ_KEY": secret}), **more))
    return OPEN[-1]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


@pytest.fixture
def served(tmp_path: Path, cache: Path) -> Iterator[tuple[Any, str, str]]:
    """(the application, its URL, an admin's key) over runs in every state."""
    fill(tmp_path / "served")
    app, secret = make_gateway(tmp_path / "served")
    with serving(app) as url:
        yield app, url, secret


# ---- a real queue -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_goes_its_whole_way_through_the_server(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = tmp_path / "documents"
    finished.write(documents, {"a.md": "# A\n\nText.\n", "below/b.md": "# B\n\nMore text.\n"})
    with tools.Bench(tmp_path / "served") as bench:
        bench.start_worker()
        app, secret = make_gateway(tmp_path / "served")
        until(bench.client.store.live_workers)
        with serving(app) as url, far_away(monkeypatch, tmp_path, url, secret):
            result = run(
                "submit", "--model", "smollm2-135m", "--name", "handbook", "--wait", "--documents", str(documents)
            )
            assert (result.exit_code, result.stdout.split()[1]) == (0, "handbook"), result.output
            assert "handbook  succeeded" in result.stderr
            there = bench.client.find("handbook")
            assert there.spec["documents"] == str(documents)
            taken = bench.client.run_dir(there.id).documents
            assert (taken / "a.md").read_text() == "# A\n\nText.\n"
            assert (taken / "below" / "b.md").read_text() == "# B\n\nMore text.\n"
            assert [run("logs", "handbook", "-f").stdout_bytes, run("events", "handbook", "-f").exit_code] == [
                b"".join(bench.client.run_dir(there.id).log(stage.name).read_bytes() for stage in there.stages),
                0,
            ]
            assert run("infer", "handbook", "Who approves it?").stdout == "Who approves it?\n"
            assert run("infer", "handbook", "--base", "one two", "--max-tokens", "1").stdout == "one\n"
            questions = documents.with_name("questions.txt")
            questions.write_text("first\ncrash\nthird\n")
            result = run("infer", "handbook", "--file", str(questions), "--json")
            answers = [json.loads(line) for line in result.stdout.splitlines()]
            assert [answer.get("answer") for answer in answers] == ["first", None, "third"]
            assert (result.exit_code, answers[1]["error"]["message"]) == (1, "llama.cpp ended with SIGSEGV")
            own = documents.with_name("own.json")
            own.write_text('[{"question": "So", "answers": ["So"]}]')
            result = run("eval", "handbook", "--questions", str(own), "--json")
            subjects = json.loads(result.stdout)["subjects"]
            assert [one["tally"]["own"]["right"] for one in subjects] == [1] * len(subjects) != []
            assert run("retry", "handbook", "--from", "export").exit_code == 0
            assert run("status", "handbook", "--watch").exit_code == 0
            stays = bench.submit("stays", {"train": {"1": "hang"}})
            until(lambda: bench.client.store.get(stays.id).status == "running")
            assert run("cancel", "stays").exit_code == 0
            until(lambda: bench.client.store.get(stays.id).status == "cancelled")
            asked = client_of(url, secret)
            pieces = asked.stream("handbook", "slow")
            assert next(pieces).strip() == "slow"
            pieces.close()  # nobody waits any more
            until(lambda: not _asked(bench))
            asked.close()
        app.state.gateway.client.close()


def _asked(bench: tools.Bench) -> list[str]:
    import sqlalchemy as sa

    from ftq.store.schema import questions

    with bench.client.store.reading() as db:
        return list(
            db.execute(sa.select(questions.c.id).where(questions.c.status.in_(("queued", "running")))).scalars()
        )


# ---- whose runs -------------------------------------------------------------------------------------------


def test_what_one_key_made_another_does_not_see(served: tuple[Any, str, str], documents: Path) -> None:
    app, url, admin = served
    ana, ben = client_of(url, key_of(app, "ana")), client_of(url, key_of(app, "ben"))
    mine = ana.submit({"model": "smollm2-135m", "documents": str(documents)}, "anas").run
    assert ([one.id for one in ana.all()], ana.count()) == ([mine.id], 1)
    assert (ben.all(), ben.count(), ben.models.versions()) == ([], 0, [])
    theirs = (mine.id, "anas", "aaaa1111", "handbook", "handbook:1", "handbook:latest", mine.id[:4])
    for name in theirs:
        with pytest.raises(NotFound) as told:
            ben.find(name)
        assert "anas" not in told.value.text.replace(name, "") and "waits" not in told.value.text
    ways: list[Callable[[], object]] = [
        lambda: ben._records.get(mine.id),
        lambda: ben._records.events(mine.id),
        lambda: ben._server.post(f"/runs/{mine.id}/cancel"),
        lambda: ben._server.delete(f"/runs/{mine.id}"),
        lambda: list(ben._server.bytes(f"/runs/{mine.id}/files/run.json")),
        lambda: ben._server.get(f"/runs/{mine.id}/files"),
        lambda: ben._server.get(f"/runs/{mine.id}/report"),
        lambda: ben.room.size(mine),
        lambda: ben.compare(mine.id, mine.id),
        lambda: ben.ask(mine.id, "Why?"),
        lambda: ben.evaluate(mine.id),
    ]
    for way in ways:
        with pytest.raises(NotFound):
            way()
    with pytest.raises(FtqError, match="Only an admin's key"):
        ben.room.removable(0)
    assert client_of(url, admin).find("anas").owner == mine.owner != ""
    assert ana.cancel("anas").status == "cancelled"


def test_a_name_that_anothers_run_has_is_not_told(served: tuple[Any, str, str]) -> None:
    app, url, admin = served
    assert client_of(url, key_of(app, "ben")).models.would_be_called("handbook") == ""
    assert "another run is called handbook" in client_of(url, admin).models.would_be_called("handbook")


def test_what_a_key_submits_counts_as_stored_until_it_is_deleted(served: tuple[Any, str, str], documents: Path) -> None:
    app, url, _ = served
    (documents / "long.md").write_text("# Pump\n\n" + "The pressure of the pump is 2 bar.\n" * 20)
    held_out = documents.with_name("held-out")
    shutil.copytree(documents, held_out)
    total = sum(path.stat().st_size for path in documents.iterdir())
    options = {"model": "smollm2-135m", "documents": str(documents)}
    ana = client_of(url, key_of(app, "ana", Limits(bytes=3 * total)))
    first = ana.submit({**options, "validation": str(held_out)}, "one").run
    used = app.state.gateway.client.store.files.used
    assert used(first.owner) == 2 * total
    second = ana.submit(options, "two").run
    assert used(first.owner) == 3 * total
    with pytest.raises(Refused, match="more than the key may still store") as told:
        ana.submit(options, "three")
    assert "`ftq rm RUN`" in told.value.hint
    assert [run.name for run in ana.all()] == ["two", "one"]
    ana.cancel(second.id)
    ana.room.remove(ana.find("two"))
    assert used(first.owner) == 2 * total
    ana.submit(options, "three")


def test_gc_clears_what_was_killed_in_a_runs_folder(
    served: tuple[Any, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "served" / "aaaa1111"
    finished.write(folder / "train.1.partial", {"half": "half"})
    for path in (folder / "train.1.partial", folder / "train.1.partial" / "half"):
        os.utime(path, (1, 1))
    with far_away(monkeypatch, tmp_path, *served[1:]):
        told = run("gc", "--yes").stdout
    assert "aaaa1111/train.1.partial  writing it was stopped there  4 B\n" in told
    assert not (folder / "train.1.partial").exists() and folder.is_dir()


def test_what_a_limit_refuses_is_said_once(served: tuple[Any, str, str], documents: Path) -> None:
    app, url, _ = served
    options = {"model": "smollm2-135m", "documents": str(documents)}
    busy, hasty = (client_of(url, key_of(app, name, limits)) for name, limits in LIMITED.items())
    first = busy.submit(options, "one").run
    with pytest.raises(Refused) as refused:
        busy.submit(options, "two")
    assert refused.value.message == "The key has 1 job that isn't finished, and may have 1"
    assert refused.value.hint == f"Wait until one is, or cancel one. {connection.LIMITS}"
    assert [run.id for run in busy.all()] == [first.id]
    hasty.all()
    with pytest.raises(Unavailable) as told:
        hasty.all()
    assert told.value.message == "Rate limit reached for this key on requests per min (RPM): Limit 1"
    assert re.fullmatch(r"Please try again in \d+s\. " + re.escape(connection.LIMITS), told.value.hint)


LIMITED = {"ana": Limits(jobs=1), "ben": Limits(requests_per_minute=1)}


def test_two_submits_at_once_dont_both_fit(served: tuple[Any, str, str], documents: Path) -> None:
    app, url, _ = served
    total = sum(path.stat().st_size for path in documents.iterdir())
    secret = key_of(app, "ana", Limits(bytes=total + 1))
    store = app.state.gateway.client.store
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(store.files), "used", lambda self, owner: 0)  # both have looked before one is recorded
        client_of(url, secret).submit({"model": "smollm2-135m", "documents": str(documents)}, "one")
        with pytest.raises(Refused, match="that the key may store"):
            client_of(url, secret).submit({"model": "smollm2-135m", "documents": str(documents)}, "two")
    assert store.count() == 6 and not list((documents.parent / "served").glob(".*.partial"))


# ---- files ------------------------------------------------------------------------------------------------


def test_only_listed_files_below_the_run_are_told(served: tuple[Any, str, str], tmp_path: Path) -> None:
    _, url, secret = served
    folder = tmp_path / "served" / "aaaa1111"
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret.txt")
    (folder / "inside").symlink_to(tmp_path)
    (folder / ".hidden").write_text("hidden")
    (folder / "train.1.partial").mkdir()
    (folder / "train.1.partial" / "half").write_text("half")
    client = client_of(url, secret)
    listed = {one["name"] for one in client._server.get("/runs/aaaa1111/files")["data"]}
    assert {"model-q8_0.gguf", "adapter/adapter_config.json", "logs/train.log"} <= listed
    assert not {"link", ".hidden", "inside/secret.txt", "train.1.partial/half"} & listed
    names = ["link", "inside/secret.txt", ".hidden", "train.1.partial/half", "..%2F..%2Fsecret.txt", "%2Fetc%2Fpasswd",
             "logs", "logs%2F..%2Fmodel-q8_0.gguf", "a%00b", "", "logs%2F", "%2e%2e/bbbb2222/run.json"]  # fmt: skip
    for name in names:
        headers = {"authorization": f"Bearer {secret}"}
        answer = httpx.get(f"{url}/ftq/v1/runs/aaaa1111/files/{name}", headers=headers, timeout=PATIENCE)
        assert answer.status_code == 404, name


def test_a_pull_goes_on_where_it_was_stopped(served: tuple[Any, str, str], tmp_path: Path) -> None:
    _, url, secret = served
    asked: list[str] = []
    client = client_of(url, secret)
    client._server._http.event_hooks["request"].append(lambda one: asked.append(one.headers.get("range", "")))
    whole = finished.GGUF["q4_k_m"]
    target, moved = tmp_path / "out", list[int]()
    target.mkdir()
    (target / f"model-q4_k_m.gguf{PART}").write_bytes(whole[:100_000])
    pulled = client.models.pull(client.models.model("handbook"), target, moved.append)
    assert (target / "model-q4_k_m.gguf").read_bytes() == whole
    assert "bytes=100000-" in asked and sum(moved) == sum(number for _, number, _ in pulled.files)
    other = tmp_path / "other"
    other.mkdir()
    (other / f"model-q4_k_m.gguf{PART}").write_bytes(b"of another run" * 100)
    client.models.pull(client.models.model("handbook"), other)
    assert (other / "model-q4_k_m.gguf").read_bytes() == whole
    asked.clear()
    client.models.pull(client.models.model("handbook"), other)  # all is there: no file is sent again
    assert len(asked) <= 4


# ---- what goes wrong --------------------------------------------------------------------------------------


def test_a_server_that_is_gone_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    with far_away(monkeypatch, tmp_path, f"http://127.0.0.1:{free_port()}", "sk-ftq-any"):
        result = run("status")
    assert result.exit_code == 1
    assert "is unreachable (" in result.stderr and "`ftq serve` running" in result.stderr


@pytest.mark.parametrize("line", ["up", "worker", "serve", "keys list", "keys create ana", "push handbook --to a/b"])
def test_what_works_where_the_runs_are_says_so(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    with far_away(monkeypatch, tmp_path, "https://ftq.example.org", "sk-ftq-any"):
        result = run(*line.split())
    assert result.exit_code == 1
    assert (
        "FTQ_SERVER names a server: https://ftq.example.org" in result.stderr and "env -u FTQ_SERVER" in result.stderr
    )


def test_a_wrong_key_and_none(served: tuple[Any, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, url, _ = served
    with far_away(monkeypatch, tmp_path, url, "sk-ftq-wrong-1234567890"):
        result = run("status")
        assert result.exit_code == 2
        assert "refuses the key: Incorrect API key provided: sk-f***7890." in result.stderr
        monkeypatch.delenv("FTQ_KEY")
        result = run("status")
        assert result.exit_code == 2 and "and no key" in result.stderr and "FTQ_KEY_FILE" in result.stderr


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("ftq.example.org", "is not a URL"),
        ("ftp://x", "is not a URL"),
        ("https://user:pw@x", "holds more than a place"),
        ("https://x?key=y", "holds more than a place"),
    ],
)
def test_an_address_that_is_none(value: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as told:
        Settings.from_env({"FTQ_SERVER": value})
    assert "pw" not in told.value.text


def test_the_address_of_openai_clients_is_one_too() -> None:
    assert Settings.from_env({"FTQ_SERVER": "https://x/ftq/v1/"}).server == "https://x/ftq"
    assert Settings.from_env({"FTQ_SERVER": "https://x/v1"}).server == "https://x"


def test_another_version_is_told_once(served: tuple[Any, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    _, url, secret = served
    monkeypatch.setattr(connection, "VERSION", "9.9.9")
    notes: list[str] = []
    client = client_of(url, secret, note=notes.append)
    client.all()
    client.all()
    assert len(notes) == 1 and "this client is ftq 9.9.9" in notes[0]


def test_the_doctor_looks_at_the_server(
    served: tuple[Any, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url, secret = served
    monkeypatch.setattr("ftq.doctor.web.SERVER_SECONDS", PATIENCE)
    monkeypatch.setattr(examine, "__defaults__", (PATIENCE,))
    with far_away(monkeypatch, tmp_path, url, secret):
        found = json.loads(run("doctor", "--json").stdout)["findings"]
        told = {one["check"]: one["message"] for one in found if one["where"] == "client"}
    assert told["server"] == f"{url} answers: the key is test's, an admin" and told["workers"] == "no worker is up"
    assert set(told) == {"python", "versions", "server", "workers"}


@contextmanager
def answering(status: int, body: bytes, **headers: str) -> Iterator[str]:
    """The URL of a server that always answers this."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


PAGE = b"<html><h1>502 Bad Gateway</h1><hr>nginx</html>"


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind", "says"),
    [
        (502, PAGE, {}, Unavailable, "answers 502 instead of ftq"),
        (200, PAGE, {}, FtqError, "isn't `ftq serve`"),
        (200, b'{"data": []}', {}, FtqError, "isn't `ftq serve`"),
        (404, PAGE, {}, FtqError, "isn't `ftq serve`"),
        (413, PAGE, {}, FtqError, "takes no body as large"),
        (301, b"", {"location": "https://elsewhere/"}, UserError, "sends on to https://elsewhere/"),
        (200, b"{", {"x-ftq-version": "0"}, FtqError, "isn't `ftq serve`"),
        (200, b'{"data": [{"id": 1}]}', {"x-ftq-version": "0"}, FtqError, "is no Run"),
        (400, b'{"error": {"message": "bad", "ftq": {"kind": "SystemExit"}}}', {}, FtqError, "bad"),
    ],
)
def test_an_answer_that_is_not_of_ftq(
    status: int, body: bytes, headers: dict[str, str], kind: type[FtqError], says: str, cache: Path
) -> None:
    with answering(status, body, **headers) as url, pytest.raises(kind, match=says) as told:
        client_of(url, "sk-ftq-any").all()
    assert type(told.value) is kind


def test_an_answer_holds_what_else_ends_a_line(cache: Path) -> None:
    """Our own server escapes it; what stands between may write the JSON anew."""
    text = "a\u2028b\u2029c\u0085d"
    body = json.dumps({"answer": {"answer": text}}, ensure_ascii=False).encode() + b"\n\n"
    with answering(200, body, **{"x-ftq-version": VERSION}) as url:
        assert list(client_of(url, "sk-ftq-any").ask_many("handbook", ["Why?"])) == [{"answer": text}]


def test_following_outlasts_a_restart_of_the_server(tmp_path: Path, cache: Path) -> None:
    fill(tmp_path / "served")
    app, secret = make_gateway(tmp_path / "served")
    store, port = app.state.gateway.client.store, free_port()
    with serving(app, port) as url:
        client = client_of(url, secret)
        seen = client.follow("bbbb2222", 0.01)
        events = client.follow_events("bbbb2222", True)
        assert (next(seen).status, next(events).kind) == ("queued", "submitted")
    again, _ = make_app_again(tmp_path / "served")
    timer = threading.Timer(0.5, lambda: _serve_at(again, port))
    timer.start()
    store.cancel("bbbb2222")
    assert [one.status for one in seen][-1] == "cancelled"
    assert [one.kind for one in events] == ["cancelled"]
    SERVERS.pop().should_exit = True
    timer.join()


SERVERS: list[uvicorn.Server] = []


def make_app_again(home: Path) -> tuple[Any, None]:
    from ftq.programs import ServeOptions
    from gateway.app import make_app
    from tests.gateway_tools import settings_of

    return make_app(settings_of(home), ServeOptions()), None


def _serve_at(app: Any, port: int) -> None:
    with closing(socket.create_server(("127.0.0.1", port), reuse_port=False)) as listener:
        SERVERS.append(uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)))
        SERVERS[-1].run(sockets=[listener])


# ---- submits that break off ------------------------------------------------------------------------------


def _head(**changed: Any) -> dict[str, Any]:
    told = {"id": "zzzzzzzz", "name": None, "spec": {"model": "smollm2-135m"}, "documents_hash": "", "left_out": [],
            "files": [["documents/a.md", 4]]}  # fmt: skip
    return {**told, **changed}


@pytest.mark.parametrize(
    ("head", "body", "says"),
    [
        (_head(), b"# A", "ends before its files do"),
        (_head(), b"# A\n\n", "longer than the files"),
        (_head(), b"# A\n", "aren't those that were to be sent"),
        (_head(files=[]), b"", "no document was sent"),
        (_head(files=[["documents/../../x", 1]]), b"x", "no name of a file"),
        (_head(files=[["/etc/x", 1]]), b"x", "no name of a file"),
        (_head(files=[["documents", 1]]), b"x", "no name of a file"),
        (_head(files=[["run.json", 1]]), b"x", "no name of a file"),
        (_head(files=[["documents//x", 1]]), b"x", "no name of a file"),
        (_head(files=[["documents/a\0", 1]]), b"x", "no name of a file"),
        (_head(files=[["documents/a", 1], ["documents/a", 1]]), b"xx", "listed twice"),
        (_head(files=[["documents/a", 1], ["documents/a/b", 1]]), b"xx", "can't lie beside"),
        (_head(files=[["documents/a.md", 10**12]]), b"x", "aren't taken"),
        (_head(files=[["documents/a.md", -1]]), b"x", "Invalid value for 'files.0.1'"),
        (_head(id="../x"), b"x", "Invalid value for 'id'"),
        (_head(id="aaaa1111"), b"x", "This id is taken"),
        (_head(spec={"model": "/etc"}), b"x", "not available"),
        (_head(spec={"model": "smollm2-135m", "epochs": -1}), b"# A\n", "epochs"),
        (_head(more=1), b"x", "Unrecognized request argument"),
    ],
)
def test_a_submit_that_is_no_good_leaves_nothing(
    served: tuple[Any, str, str], tmp_path: Path, head: dict[str, Any], body: bytes, says: str
) -> None:
    app, url, _ = served
    before = sorted(path.name for path in (tmp_path / "served").iterdir())
    answer = _post(url, key_of(app, "ana"), head, body)
    assert says in answer.json()["error"]["message"] and answer.status_code in (400, 413)
    assert sorted(path.name for path in (tmp_path / "served").iterdir()) == before
    assert app.state.gateway.client.store.count() == 5


def _post(url: str, secret: str, head: dict[str, Any], body: bytes) -> httpx.Response:
    content = json.dumps(head).encode() + b"\n" + body
    headers = {"authorization": f"Bearer {secret}"}
    return httpx.post(f"{url}/ftq/v1/runs", content=content, headers=headers, timeout=60)


def test_a_submit_is_written_once(served: tuple[Any, str, str], tmp_path: Path) -> None:
    _, url, secret = served
    folder = tmp_path / "sent"
    folder.mkdir()
    for name, size in (("large.md", 3_000_000), *((f"small{n}.md", 20_000) for n in range(50))):
        (folder / name).write_text(f"# {name}\n" + "x" * size)
    files = sorted(folder.iterdir())
    listed = [[f"documents/{path.name}", path.stat().st_size] for path in files]
    body, before = b"".join(path.read_bytes() for path in files), _written()
    answer = _post(url, secret, _head(files=listed, documents_hash=snapshot(folder, None).hash), body)
    assert answer.status_code == 200 and len(body) < _written() - before < 1.3 * len(body)
    taken = tmp_path / "served" / "zzzzzzzz" / "documents"
    assert {path.name: path.read_bytes() for path in taken.iterdir()} == {p.name: p.read_bytes() for p in files}


def _written() -> int:
    """Bytes that this process has written to files."""
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counts["wchar"])


def test_small_documents_are_sent_together(tmp_path: Path) -> None:
    small, empty, large = (tmp_path / name for name in ("small", "empty", "large"))
    for path, content in ((small, b"# A\n" * 250), (empty, b""), (large, b"x" * 3 * SENT_AT_ONCE)):
        path.write_bytes(content)
    files = [*[small, empty] * 1000, large, small]
    pieces = list(_body(b"{}\n", files))
    assert b"".join(pieces) == b"{}\n" + b"".join(path.read_bytes() for path in files)
    assert all(SENT_AT_ONCE <= len(piece) < 2 * SENT_AT_ONCE for piece in pieces[:-1])


def test_a_submit_that_hangs_up_in_the_middle_leaves_nothing(served: tuple[Any, str, str], tmp_path: Path) -> None:
    app, url, secret = served
    home = tmp_path / "served"
    text = json.dumps(_head(files=[["documents/a.md", 1000]])).encode() + b"\n# A"
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as half:
        half.sendall(f"POST /ftq/v1/runs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {secret}\r\n".encode())
        half.sendall(f"content-length: {len(text) + 997}\r\n\r\n".encode() + text)
        until(lambda: list(home.glob(".zzzzzzzz.*.partial/documents/a.md")))
    until(lambda: not list(home.glob(".zzzzzzzz.*")))
    assert app.state.gateway.client.store.count() == 5


def test_an_answer_that_gets_lost_makes_one_run(
    served: tuple[Any, str, str], documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, url, secret = served
    client = client_of(url, secret)
    send = client._server.send

    def lose(*arguments: Any) -> None:
        send(*arguments)
        raise Unavailable("the connection broke")

    monkeypatch.setattr(client._server, "send", lose)
    submitted = client.submit({"model": "smollm2-135m", "documents": str(documents)}, "once")
    assert submitted.run == client.find("once")
    assert [one.name for one in app.state.gateway.client.store.all()].count("once") == 1
    assert not list(client._mirror.home.glob(".submit*"))


def test_a_submit_that_never_arrives_says_that_nothing_was_recorded(
    served: tuple[Any, str, str], documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url, secret = served
    client = client_of(url, secret)

    def broken(*arguments: Any) -> None:
        raise Unavailable("the connection broke")

    monkeypatch.setattr(client._server, "send", broken)
    with pytest.raises(Unavailable) as told:
        client.submit({"model": "smollm2-135m", "documents": str(documents)}, "never")
    assert told.value.hint == "Nothing was recorded: give the same command again."


def test_a_folder_of_the_laptop_is_no_model(served: tuple[Any, str, str], documents: Path, tmp_path: Path) -> None:
    _, url, secret = served
    folder = make_tiny_model(tmp_path / "checkpoint")
    with pytest.raises(UserError, match="folder of this machine"):
        client_of(url, secret).submit({"model": str(folder), "documents": str(documents)})


# ---- records ----------------------------------------------------------------------------------------------


def test_records_travel_there_and_back(served: tuple[Any, str, str]) -> None:
    app, url, secret = served
    store, client = app.state.gateway.client.store, client_of(url, secret)
    assert client.all() == store.all() and len(store.all()) == 5
    store.clock = lambda: NOW  # when the runs were made: a worker that is alive for the one is for the other
    assert client._records.workers() == store.workers() != []
    assert client.models.versions() == store.versions() != []
    for one in store.all():
        assert client.find(one.name) == one == client._records.get(one.id)
        assert client._records.events(one.id) == store.events(one.id) != []


def test_a_record_with_everything_in_it_comes_back_the_same() -> None:
    stage = Stage("train", "failed", 3, 1, 2, 1, True, "key", "box", 1.5, 2.5, 3.5, 4.5, {"loss": float("inf")},
                  {"peak": 1, "message": "\ud800 half"}, {"seed": 1}, RunError("user", "a", "b", "c"), [])  # fmt: skip
    whole = Run("id", "name", "model", {"list": [1, None]}, "hash", "run", True, 1.0, [stage], "family", 3, "key_1")
    records = [stage, whole, Event(1, 2.0, None, None, "kind", "message", {"a": 1}),
               Version("f", 1, "id", "", "", 1.0, True, None),
               Worker("w", ["cpu"], {"gpus": 1}, True, "h", None, 1.0, False)]  # fmt: skip
    for record in records:
        assert decode(type(record), json.loads(json.dumps(encode(record)))) == record
    assert decode(Event, {**encode(records[2]), "new": "of a later version"}) == records[2]
    assert replace(whole, version=None) != whole
