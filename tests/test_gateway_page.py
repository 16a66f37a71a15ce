"""The page of `ftq serve` as HTML: who sees what, forms, errors in words. test_gateway_browser.py has a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pages
import pytest
from page_tools import HOSTILE, Runs, every_state
from starlette.testclient import TestClient

from ftq.client.client import Client
from ftq.errors import RunError, Unavailable
from ftq.files.artifact import Artifact
from ftq.files.remote.bucket import Bucket
from ftq.files.run_dir import STAGES
from ftq.programs import ServeOptions
from ftq.settings import Settings
from ftq.store.gateway.keys import LIVES, Key, Limits, Sessions
from ftq.store.store import RunStore
from gateway.app import make_app
from gateway.page import live
from gateway.page.sessions import COOKIE
from tests import reported
from tests.gateway_tools import answers, make_gateway
from tests.tools import free_port, until

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
HOST = "http://testserver"
HTML = {"accept": "text/html,application/xhtml+xml"}
FORM = {**HTML, "origin": HOST}


class Gateway:
    """A gateway in this process, and people who have logged in."""

    def __init__(self, home: Path, **options: object) -> None:
        self.home = home
        self.app, self.secret = make_gateway(home, **options)
        self.store: RunStore = self.app.state.gateway.client.store
        self.stranger = TestClient(self.app, headers=HTML, follow_redirects=False)
        self.admin = self.person(self.secret)

    def person(self, secret: str) -> TestClient:
        """A browser whose user has logged in with this key."""
        browser = TestClient(self.app, headers=HTML, follow_redirects=False)
        answer = browser.post("/login", data={"key": secret}, headers=FORM)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        return browser

    def other(self, name: str, **limits: int) -> tuple[str, TestClient]:
        """(the id of a key that is no admin's, a browser of its owner)."""
        new = self.store.keys.create(name, Limits(**limits))
        return new.key.id, self.person(new.secret)

    def runs(self, owner: str = "") -> Runs:
        return Runs(self.store, self.home, owner)


@pytest.fixture
def gateway(home: Path, documents: Path) -> Iterator[Gateway]:
    made = Gateway(home, documents=str(documents.parent))
    yield made
    made.store.close()


def said(html: str) -> str:
    """The text of a page in one line. Its tags have to be closed."""
    main = html[html.index("<main") : html.index("</main>")]
    main = re.sub(r"</?(a|b|bdi|code)\b[^>]*>", "", main)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", main)).split())


# ---- who sees what --------------------------------------------------------------------------------------------------


def test_without_a_session_every_page_leads_to_the_login_and_back(gateway: Gateway) -> None:
    run = gateway.runs().add("aaaa1111", "handbook")
    for path, to in {
        "/": "/login",
        "/submit": "/login?next=/submit",
        f"/runs/{run}": f"/login?next=/runs/{run}",
        "/nowhere": "/login?next=/nowhere",
    }.items():
        answer = gateway.stranger.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, to)
    answer = gateway.stranger.post("/login", data={"key": gateway.secret, "next": f"/runs/{run}"}, headers=FORM)
    assert answer.headers["location"] == f"/runs/{run}"
    for elsewhere in ("//evil.example", "https://evil.example/", "/\\evil.example", "/runs/../logout"):
        answer = gateway.stranger.post("/login", data={"key": gateway.secret, "next": elsewhere}, headers=FORM)
        assert answer.headers["location"] == "/"
    for path in ("/live?runs=aaaa1111", f"/runs/{run}/live", "/"):
        answer = TestClient(gateway.app, follow_redirects=False).get(path, headers={"accept": "text/event-stream"})
        assert (answer.status_code, sorted(answer.json()["error"])) == (401, ["code", "message", "param", "type"])


def test_the_cookie_is_no_key_and_opens_no_api(gateway: Gateway) -> None:
    answer = gateway.stranger.post("/login", data={"key": gateway.secret}, headers=FORM)
    cookie = answer.headers["set-cookie"]
    assert gateway.secret not in cookie
    assert {part.strip().lower() for part in cookie.split(";")[1:]} == {
        "httponly", "samesite=strict", "path=/", f"max-age={LIVES:.0f}"
    }  # fmt: skip
    https = TestClient(gateway.app, base_url="https://testserver", follow_redirects=False)
    answer = https.post("/login", data={"key": gateway.secret}, headers={"origin": "https://testserver"})
    assert "; Secure" in answer.headers["set-cookie"]
    assert gateway.admin.get("/v1/files").status_code == 401
    token = gateway.admin.cookies[COOKIE]
    tables = json.dumps([list(map(str, row)) for row in _rows(gateway.store, "SELECT * FROM sessions")])
    assert token not in tables and gateway.secret not in tables


def test_a_wrong_key_is_told_and_a_revoked_one_ends_its_sessions(gateway: Gateway) -> None:
    answer = gateway.stranger.post("/login", data={"key": "sk-ftq-wrong", "next": "/submit"}, headers=FORM)
    assert answer.status_code == 401 and "set-cookie" not in answer.headers
    assert "There is no such key, or it was revoked." in said(answer.text) and 'value="/submit"' in answer.text
    _, ann = gateway.other("ann")
    assert ann.get("/").status_code == 200
    gateway.store.keys.revoke("ann")
    assert ann.get("/").headers["location"] == "/login"


def test_logging_out_ends_the_session_for_every_copy_of_the_cookie(gateway: Gateway) -> None:
    token = gateway.admin.cookies[COOKIE]
    answer = gateway.admin.post("/logout", headers=FORM)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert COOKIE not in gateway.admin.cookies
    copy = TestClient(gateway.app, headers=HTML, cookies={COOKIE: token}, follow_redirects=False)
    assert copy.get("/").headers["location"] == "/login"


def test_a_session_ends_after_two_weeks_in_every_process(gateway: Gateway) -> None:
    now = [1_000_000.0]
    store = RunStore(f"sqlite:///{gateway.home / 'ftq.db'}", lambda: now[0])
    token = store.sessions.begin(gateway.secret)
    assert token and store.sessions.find(token)
    now[0] += LIVES + 1
    assert store.sessions.find(token) is None
    assert store.sessions.begin("sk-ftq-none") is None
    assert store.sessions.begin(gateway.secret)
    hashes = [row.expires_at for row in _rows(store, "SELECT expires_at FROM sessions") if row.expires_at < now[0]]
    assert hashes == []  # what has expired is forgotten
    store.close()


def test_what_one_key_made_another_does_not_see(gateway: Gateway) -> None:
    (ann_id, ann), (_, ben) = gateway.other("ann"), gateway.other("ben")
    gateway.runs(ann_id).finish("aaaa1111", "anns-run")
    gateway.runs().add("bbbb2222", "somebodys-run")
    assert "anns-run" in said(ann.get("/").text) and "somebodys-run" not in said(ann.get("/").text)
    assert said(ben.get("/").text).startswith("Runs 0 in all") and "No run yet" in said(ben.get("/").text)
    assert "anns-run" in said(gateway.admin.get("/").text) and "somebodys-run" in said(gateway.admin.get("/").text)
    pages_of = ["", "/live", "/report.html", "/preview.html", "/logs/train", "/logs/train?whole", "/logs/train/live",
                "/delete", "/files/eval.json"]  # fmt: skip
    for page in pages_of:
        assert ben.get(f"/runs/aaaa1111{page}").status_code == 404
        assert gateway.admin.get(f"/runs/aaaa1111{page}").status_code == 200
    for action in ("cancel", "keep", "promote", "retry", "pause", "resume", "release"):
        assert ben.post(f"/runs/bbbb2222/{action}", headers=FORM).status_code == 404
    assert ben.get("/live?runs=aaaa1111,bbbb2222").text == 'retry: 3000\n\ndata: {"part": "end", "html": "stop"}\n\n'
    assert not gateway.store.get("bbbb2222").kept and not gateway.store.get("bbbb2222").is_finished


def test_a_keys_requests_are_limited_on_the_page_too(gateway: Gateway) -> None:
    _, ann = gateway.other("ann", requests_per_minute=2)
    assert [ann.get("/").status_code for _ in range(3)] == [200, 200, 429]
    answer = ann.get("/")
    assert "Too much at once" in said(answer.text) and 1 <= int(answer.headers["retry-after"]) <= 60
    assert ann.get("/assets/page.css").status_code == 200  # not counted


# ---- forms of other sites -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "http://testserver.evil.example", "https://x@"]
)
def test_a_form_of_another_site_does_nothing(gateway: Gateway, origin: str | None) -> None:
    gateway.runs().add("aaaa1111", "handbook")
    headers = {**HTML} | ({"origin": origin} if origin else {})
    for path in ("/runs/aaaa1111/cancel", "/runs/aaaa1111/keep", "/submit", "/logout", "/chat"):
        answer = gateway.admin.post(path, headers=headers)
        assert (answer.status_code, "Nothing was done" in said(answer.text)) == (403, True)
    assert gateway.stranger.post("/login", data={"key": gateway.secret}, headers=headers).status_code == 403
    run = gateway.store.get("aaaa1111")
    assert (run.status, run.kept) == ("queued", False)
    assert gateway.admin.get("/runs/aaaa1111/cancel").status_code == 405


def test_pages_bar_scripts_and_frames_of_others(gateway: Gateway) -> None:
    gateway.runs().finish("aaaa1111", "handbook")
    for path in ("/", "/submit", "/runs/aaaa1111", "/runs/aaaa1111/logs/train", "/nowhere"):
        headers = gateway.admin.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy and "form-action 'self'" in policy and "base-uri 'none'" in policy
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
        assert headers["referrer-policy"] == "same-origin"
    for path in ("report.html", "preview.html", "logs/train?whole"):
        headers = gateway.admin.get(f"/runs/aaaa1111/{path}").headers
        assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline'; img-src")
        assert "sandbox" in headers["content-security-policy"] and headers["x-content-type-options"] == "nosniff"


# ---- the list and a run ---------------------------------------------------------------------------------------------


def test_without_a_run_the_list_says_what_to_type(gateway: Gateway) -> None:
    told = said(gateway.admin.get("/").text)
    assert told.startswith("Runs 0 in all Submit a run No run yet Submit a folder or files here, or type: ftq submit")


def test_the_list_has_every_state_newest_first_in_pages(gateway: Gateway) -> None:
    every_state(gateway.runs())
    html = gateway.admin.get("/").text
    names = re.findall(r'<h2><a href="/runs/\w+"><bdi>(.*?)</bdi>', html)
    assert [name[:12] for name in names] == [
        "price-list", "handbook-2", "a-very-long-", "old-manuals", "contracts", "handbook"
    ]  # fmt: skip
    told = said(html)
    for text in ("6 in all, 1 worker up", "○ queued", "‖ paused", "– cancelled", "train failed: the training diverged",
                 "● running 63 % train, step 120 of 190, loss 0.501, 412 tokens/s, 58 s left",
                 "✓ succeeded handbook:1, took"):  # fmt: skip
        assert text in told
    assert 'data-live="/live?runs=ffff6666,eeee5555,dddd4444&amp;newest=ffff6666"' in html
    runs = gateway.runs()
    for number in range(21):
        runs.add(f"more{number:04}", f"more-{number}")
    assert "page 1 of 2 Older" in said(gateway.admin.get("/").text)
    told = said(gateway.admin.get("/?page=2").text)
    assert "contracts" in told and "handbook" in told and "Newer page 2 of 2" in told
    assert "There is no page 9" in said(gateway.admin.get("/?page=9").text)
    for odd in ("0", "-1", "x", "9" * 30, "²"):
        assert gateway.admin.get(f"/?page={odd}").status_code == 200


def test_a_finished_run_shows_what_it_learned_and_how_to_use_it(gateway: Gateway) -> None:
    gateway.runs().finish("aaaa1111", "handbook")
    html = gateway.admin.get("/runs/aaaa1111").text
    told = said(html)
    for text in ("handbook:1 smollm2-135m, tuned on /srv/documents/handbook", "It is handbook:latest.",
                 "It has 20 of 20 questions right, put as the training puts them (100%); its base model has 0. "
                 "Of your own: 1 of 1. How it answers people's own words: ftq eval handbook --questions FILE. "
                 "No fault was found.",
                 "prepare ✓ succeeded 1", "ftq pull handbook:1 --to", "ollama run handbook", "epochs 5",
                 'client.chat.completions.create(model="handbook:1"', "submitted as handbook:"):  # fmt: skip
        assert text in told
    assert "<polyline" in html and 'data-base="smollm2-135m" data-tuned="aaaa1111" data-name="handbook:1"' in html
    links = set(re.findall(r'href="(/runs/[^"]+)"', html))
    names = ("delete", "report.html", "preview.html", *(f"logs/{stage}" for stage in STAGES))
    assert links == {f"/runs/aaaa1111/{name}" for name in names}
    for link in links:
        assert gateway.admin.get(link).status_code == 200


def test_a_failed_run_says_why_and_where_its_log_is(gateway: Gateway) -> None:
    runs = gateway.runs()
    runs.fail(runs.add("aaaa1111", "handbook"))
    html = gateway.admin.get("/runs/aaaa1111").text
    assert "train failed (user): the training diverged Lower learning_rate. The log of train" in said(html)
    assert "<code>learning_rate</code>" in html
    told = said(gateway.admin.get("/runs/aaaa1111/logs/train").text)
    assert told == "Log of train of handbook. The whole log as text step 1 loss nan"
    whole = gateway.admin.get("/runs/aaaa1111/logs/train?whole")
    assert (whole.text, whole.headers["content-type"]) == ("step 1\nloss nan\n", "text/plain; charset=utf-8")


def test_a_log_is_seen_as_it_comes_once_and_to_its_end(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LOOK_SECONDS", 0)
    monkeypatch.setattr(live, "AT_ONCE", 8)
    runs = gateway.runs()
    token = runs.train(runs.add("aaaa1111", "handbook"))
    log = gateway.home / "aaaa1111" / "logs" / "train.log"
    log.write_text("begins\n")
    html = gateway.admin.get("/runs/aaaa1111/logs/train").text
    assert 'data-live="/runs/aaaa1111/logs/train/live?after=7"' in html
    assert "data-live" not in gateway.admin.get("/runs/aaaa1111/logs/prepare").text  # it has ended
    log.write_bytes("begins\nähm <b>\nähm <b>\n\x1b[2J".encode() + b"\xff")
    gateway.store.succeed(token, None, [])
    address = "/runs/aaaa1111/logs/train/live"
    events = gateway.admin.get(address, params={"after": 7}).text
    texts = [json.loads(line.removeprefix("data: ")) for line in events.splitlines() if line.startswith("data")]
    assert texts[-1] == {"part": "end", "html": "stop"}
    assert "".join(text["html"] for text in texts[:-1]) == "ähm <b>\nähm <b>\n\ufffd[2J\ufffd"
    ids = [line for line in events.splitlines() if line.startswith("id")]
    assert len(ids) == len(texts) - 1 and ids[-1] == f"id: more-{log.stat().st_size}"
    rest = gateway.admin.get(address, params={"after": 7}, headers={"last-event-id": ids[-2].removeprefix("id: ")})
    assert [line for line in rest.text.splitlines() if line.startswith("id")] == ids[-1:]
    assert gateway.admin.get("/runs/aaaa1111/logs/serve/live").status_code == 404
    assert "more-" not in gateway.admin.get("/runs/aaaa1111/logs/prepare/live", params={"after": "99999"}).text


def test_files_of_a_run_are_saved_and_no_others(gateway: Gateway) -> None:
    runs = gateway.runs()
    runs.finish("aaaa1111", "handbook")
    runs.add("bbbb2222", "asked")
    folder = gateway.home / "bbbb2222"
    (folder / "model-q8_0.gguf").write_bytes(b"GGUF<script>")
    (folder / "adapter").mkdir()
    gguf, adapter = Artifact("gguf", "model-q8_0.gguf", 12), Artifact("adapter", "adapter", 5)
    runs.do("bbbb2222", "prepare", "train")
    runs.do("bbbb2222", "export", artifacts=[gguf, adapter])
    html = gateway.admin.get("/runs/bbbb2222").text
    assert re.findall(r'href="([^"]+)" download', html) == ["/runs/bbbb2222/files/model-q8_0.gguf"]
    saved = gateway.admin.get("/runs/bbbb2222/files/model-q8_0.gguf")
    assert saved.content == b"GGUF<script>" and saved.headers["x-content-type-options"] == "nosniff"
    assert saved.headers["content-disposition"] == "attachment; filename*=utf-8''model-q8_0.gguf"
    part = gateway.admin.get("/runs/bbbb2222/files/model-q8_0.gguf", headers={"range": "bytes=4-6"})
    assert (part.status_code, part.content) == (206, b"<sc")
    for name in ("adapter", "nothing", "..%2faaaa1111%2frun.json", "%2e%2e/ftq.db", ".submitting"):
        assert gateway.admin.get(f"/runs/bbbb2222/files/{name}").status_code == 404
    _, ann = gateway.other("ann")
    assert ann.get("/runs/bbbb2222/files/model-q8_0.gguf").status_code == 404


def test_logs_and_models_come_out_of_a_bucket(home: Path, tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    settings = Settings.from_env({"FTQ_HOME": str(home), "FTQ_ARTIFACTS_URL": f"file://{tmp_path / 'bucket'}"})
    app, bucket = make_app(settings, ServeOptions()), Bucket(settings.artifacts_url)
    store = app.state.gateway.client.store
    secret = store.keys.create("ann", Limits())
    runs = Runs(store, home, secret.key.id)
    token = runs.begin(runs.add("aaaa1111", "handbook"), "prepare")
    shutil.rmtree(home / "aaaa1111" / "logs")
    for attempt, offset, piece in ((1, 0, b"first\n"), (2, 0, b"second \xc3"), (2, 8, b"\xa4\n")):
        bucket.write(f"aaaa1111/logs/prepare.{attempt}/{offset:012}", piece)
    text, log = "first\nsecond ä\n", "/ftq/v1/runs/aaaa1111/files/logs/prepare.log"
    program = TestClient(app, headers={"authorization": f"Bearer {secret.secret}"})
    assert program.get("/ftq/v1/runs/aaaa1111/files").json()["data"] == [{"name": "logs/prepare.log", "bytes": 16}]
    assert program.get(log).content == text.encode()
    part = program.get(log, headers={"range": "bytes=6-"})
    assert (part.status_code, part.content) == (206, text.encode()[6:])
    assert part.headers["content-range"] == "bytes 6-15/16"
    assert program.get(log, headers={"range": "bytes=16-"}).status_code == 416
    assert program.get(log.replace("prepare", "train")).status_code == 404
    person = TestClient(app, headers=HTML)
    person.post("/login", data={"key": secret.secret}, headers=FORM)
    html = person.get("/runs/aaaa1111/logs/prepare").text
    assert f"{text}</pre>" in html and "live?after=16" in html
    assert person.get("/runs/aaaa1111/logs/prepare?whole").text == text
    assert 'href="/runs/aaaa1111/logs/prepare"' in person.get("/runs/aaaa1111").text
    store.fail(token, RunError("user", "no documents"))
    events = pieces(person.get("/runs/aaaa1111/logs/prepare/live?after=12").text)
    assert events == {"more-16": " ä\n", "end": "stop"}
    store.close()


def test_a_model_out_of_a_bucket_is_fetched_when_it_is_saved(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, client = gateway.runs(), gateway.app.state.gateway.client
    runs.add("bbbb2222", "asked")
    runs.do("bbbb2222", "prepare", "train")
    runs.do("bbbb2222", "export", artifacts=[Artifact("gguf", "model-q8_0.gguf", 4)])
    path = gateway.home / "bbbb2222" / "model-q8_0.gguf"
    monkeypatch.setattr(Client, "is_far", True)
    monkeypatch.setattr(Client, "log_bytes", lambda *_: None)
    monkeypatch.setattr(client, "holds", lambda run, name: name == path.name)
    monkeypatch.setattr(client, "file_of", lambda run, name: path.write_bytes(b"GGUF"))
    assert 'href="/runs/bbbb2222/files/model-q8_0.gguf" download' in gateway.admin.get("/runs/bbbb2222").text
    assert not path.exists()
    assert gateway.admin.get("/runs/bbbb2222/files/model-q8_0.gguf").content == b"GGUF"


def test_a_long_log_says_what_it_leaves_out(gateway: Gateway) -> None:
    gateway.runs().do(gateway.runs().add("aaaa1111", "handbook"), "prepare")
    log = gateway.home / "aaaa1111" / "logs" / "prepare.log"
    log.write_bytes(b"".join(b"line %06d \xff\x1b[2J\n" % number for number in range(20_000)))
    html = gateway.admin.get("/runs/aaaa1111/logs/prepare").text
    text = unescape(re.findall(r"<pre[^>]*>(.*)</pre>", html, re.S)[0])
    first, last = text.splitlines()[0], text.splitlines()[-1]
    assert last == "line 019999 \ufffd\ufffd[2J" and first.startswith("line 0")
    left_out = int(re.findall("The first ([0-9,]+) bytes are left out here", html)[0].replace(",", ""))
    assert left_out == int(first.split()[1]) * 18


def test_no_text_of_a_run_becomes_html(gateway: Gateway) -> None:
    runs = gateway.runs()
    runs.add("aaaa1111", HOSTILE[:100], documents=HOSTILE, prompts=[HOSTILE], topic=HOSTILE)
    runs.fail("aaaa1111", HOSTILE * 3, HOSTILE)
    (gateway.home / "aaaa1111" / "logs" / "train.log").write_text(HOSTILE)
    for path in ("/", "/runs/aaaa1111", "/runs/aaaa1111/logs/train", f"/{HOSTILE}", f"/runs/{HOSTILE}"):
        html = gateway.admin.get(path).text
        assert "alert(1)" in html and not re.search(r"<script>|<img", html)
    page = gateway.admin.get("/submit", params={"model": f'"{HOSTILE}'}).text
    assert "alert(1)" in page and not re.search(r"<script>|<img", page)


def test_no_text_of_a_runs_files_becomes_html(gateway: Gateway) -> None:
    runs = gateway.runs()
    runs.finish("aaaa1111", "handbook")
    shutil.rmtree(gateway.home / "aaaa1111" / "adapter")
    for path in (gateway.home / "aaaa1111").glob("*.*"):
        path.unlink()
    shutil.rmtree(gateway.home / "aaaa1111" / "dataset")
    reported.hostile(gateway.home / "spare", 30)
    shutil.copytree(gateway.home / "spare", gateway.home / "aaaa1111", dirs_exist_ok=True)
    html = gateway.admin.get("/runs/aaaa1111").text
    assert "alert(1)" in html and not re.search(r"<script>|<img", html)


def test_an_address_never_becomes_a_path(gateway: Gateway) -> None:
    gateway.runs().finish("aaaa1111", "handbook")
    (gateway.home / "secret.log").write_text("secret")
    for path in ("/runs/aaaa1111/logs/..%2f..%2fsecret", "/runs/..%2f..%2fetc/report.html", "/runs/aaaa1111/run.json",
                 "/assets/page.html", "/runs/a%00b", "/runs/%ff",
                 "/runs/aaaa1111/logs/secret", "/runs/handbook"):  # fmt: skip
        assert gateway.admin.get(path).status_code in (404, 405)


def test_what_changes_is_sent_in_pieces_until_the_run_has_ended(gateway: Gateway) -> None:
    every_state(gateway.runs())
    gateway.app.state.gateway.stopping = True  # one look, as at the server's end
    assert gateway.admin.get("/live?runs=eeee5555").text == "retry: 3000\n\n"
    gateway.app.state.gateway.stopping = False
    ended = pieces(gateway.admin.get("/live?runs=aaaa1111,bbbb2222").text)
    assert sorted(ended) == ["end", "live-aaaa1111", "live-bbbb2222"] and ended["end"] == "stop"
    assert "train failed: the training diverged" in ended["live-bbbb2222"]
    one = pieces(gateway.admin.get("/runs/aaaa1111/live").text)
    assert sorted(one) == ["actions", "end", "events", "links", "live-aaaa1111", "stages"] and one["end"] == "reload"
    html = gateway.admin.get("/runs/aaaa1111").text
    for name, piece in one.items():  # the page has shown the same, where the pieces go
        assert name == "end" or (f'id="{name}"' in html and " ".join(piece.split()) in " ".join(html.split()))


@pytest.mark.slow
def test_a_server_that_is_told_to_end_does_not_wait_for_who_looks_on(gateway: Gateway) -> None:
    gateway.runs().train(gateway.runs().add("aaaa1111", "handbook"))
    port = free_port()
    environment = {**os.environ, "FTQ_HOME": str(gateway.home)}
    command = ServeOptions(port=port).argv()
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stderr and process.stderr.readline().startswith("Serving")
        assert process.stderr.readline() == f"The page, for people: http://127.0.0.1:{port}/\n"
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as browser:
            url = str(browser.base_url).rstrip("/")
            until(lambda: answers(url, process))
            assert browser.post("/login", data={"key": gateway.secret}, headers={"origin": url}).status_code == 303
            with browser.stream("GET", "/runs/aaaa1111/live") as stream:
                lines = stream.iter_lines()
                assert next(lines) == "retry: 3000"
                assert any("live-aaaa1111" in line for line in lines)
                process.terminate()
                assert list(lines)[-1] == ""  # it ends
        assert process.stderr.read() == ""  # nothing was cut off


def test_a_session_that_ends_ends_its_streams(gateway: Gateway) -> None:
    ann_id, ann = gateway.other("ann")
    gateway.runs(ann_id).add("aaaa1111", "handbook")
    find, looks = Sessions.find, list[str]()

    def last_look(self: Sessions, token: str) -> Key | None:
        looks.append(token)
        if len(looks) == 3:  # the request's own, and two looks
            gateway.store.keys.revoke("ann")
        return find(self, token)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sessions, "find", last_look)
        patch.setattr("gateway.page.live.LOOK_SECONDS", 0.0)
        assert pieces(ann.get("/live?runs=aaaa1111").text)["end"] == "reload"


def pieces(text: str) -> dict[str, str]:
    """{part: HTML} of a stream that has ended."""
    sent = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    return {one["part"]: one["html"] for one in sent}


# ---- buttons --------------------------------------------------------------------------------------------------------


def buttons(html: str) -> list[str]:
    return re.findall(r'action="/runs/\w+/(\w+)"><button', html)


def test_buttons_do_what_they_say_and_offer_what_is_possible(gateway: Gateway) -> None:
    run = gateway.runs().add("aaaa1111", "handbook")
    steps = [("pause", "paused", ["resume", "cancel", "keep"]), ("keep", "paused", ["resume", "cancel", "release"]),
             ("resume", "queued", ["pause", "cancel", "release"]), ("release", "queued", ["pause", "cancel", "keep"]),
             ("cancel", "cancelled", ["retry", "keep"]), ("retry", "queued", ["pause", "cancel", "keep"])]  # fmt: skip
    assert buttons(gateway.admin.get(f"/runs/{run}").text) == ["pause", "cancel", "keep"]
    for action, status, offered in steps:
        answer = gateway.admin.post(f"/runs/{run}/{action}", headers=FORM)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/runs/{run}")
        assert gateway.store.get(run).status == status
        assert buttons(gateway.admin.get(f"/runs/{run}").text) == offered
    assert gateway.admin.post(f"/runs/{run}/destroy", headers=FORM).status_code == 404
    refused = gateway.admin.post(f"/runs/{run}/retry", headers=FORM)
    assert refused.status_code == 400 and "run handbook is queued, there is nothing to retry" in said(refused.text)


def test_stages_are_done_again_from_the_one_that_is_chosen(gateway: Gateway) -> None:
    def offered(run: str) -> list[str]:
        return re.findall(r"<option(?: selected)?>(\w+)</option>", gateway.admin.get(f"/runs/{run}").text)

    def again(run: str, stage: str) -> Any:
        return gateway.admin.post(f"/runs/{run}/retry", data={"from": stage}, headers=FORM)

    runs = gateway.runs()
    runs.fail(runs.add("bbbb2222", "broke"))
    runs.train(runs.add("cccc3333", "works"))
    runs.finish("aaaa1111", "handbook")
    assert [offered(run) for run in ("aaaa1111", "bbbb2222", "cccc3333")] == [list(STAGES), ["prepare", "train"], []]
    assert "handbook:1 is gone, and the run gets a new number" in said(gateway.admin.get("/runs/aaaa1111").text)
    assert [again("aaaa1111", stage).status_code for stage in ("evaluate", "serve")] == [303, 400]
    statuses = [stage.status for stage in gateway.store.get("aaaa1111").stages]
    assert statuses == ["succeeded"] * 4 + ["queued"]
    refused = again("bbbb2222", "export")
    assert refused.status_code == 400 and "train isn't done" in said(refused.text)
    assert again("bbbb2222", "prepare").status_code == 303
    assert gateway.store.get("bbbb2222").current == gateway.store.get("bbbb2222").stage("prepare")


def test_a_run_is_deleted_once_that_was_shown(gateway: Gateway) -> None:
    ann_id, ann = gateway.other("ann")
    runs = gateway.runs(ann_id)
    runs.finish("aaaa1111", "handbook")
    runs.train(runs.add("bbbb2222", "works"))
    gateway.runs().add("cccc3333", "somebodys")
    gateway.store.keep("aaaa1111", True)
    (gateway.home / "aaaa1111" / "shared.gguf").write_bytes(b"GGUF")
    os.link(gateway.home / "aaaa1111" / "shared.gguf", gateway.home / "elsewhere.gguf")
    assert 'href="/runs/aaaa1111/delete"' in ann.get("/runs/aaaa1111").text
    assert "/delete" not in ann.get("/runs/bbbb2222").text
    html = ann.get("/runs/aaaa1111/delete").text
    assert "<code>ftq gc</code> spares it." in html
    told = said(html)
    freed = r"Delete handbook:1\? The run and its files go, for good: [0-9.]+ kB of room\."
    assert re.search(rf"{freed} 4 B are shared with other runs or uploaded files and stay\.", told)
    assert "It is kept" in told and "handbook:1 can't be asked any more" in told
    assert ann.post("/runs/aaaa1111/delete", headers={"origin": "http://evil.example"}).status_code == 403
    assert gateway.store.count() == 3
    answer = ann.post("/runs/aaaa1111/delete", headers=FORM)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert not (gateway.home / "aaaa1111").exists() and ann.get("/runs/aaaa1111").status_code == 404
    refused = ann.post("/runs/bbbb2222/delete", headers=FORM)
    assert refused.status_code == 400 and "run works is running" in said(refused.text)
    for method in (ann.get, ann.post):
        assert method("/runs/cccc3333/delete", headers=FORM).status_code == 404
    assert gateway.store.count() == 2


def test_an_older_version_can_be_made_latest(gateway: Gateway) -> None:
    gateway.runs().finish("aaaa1111", "handbook")
    store = gateway.store
    store.create("bbbb2222", "handbook-2", store.get("aaaa1111").spec, "0" * 64, "handbook")
    (gateway.home / "bbbb2222" / "logs").mkdir(parents=True)
    gateway.runs().do("bbbb2222", *STAGES)
    assert buttons(gateway.admin.get("/runs/bbbb2222").text) == ["keep"]
    assert buttons(gateway.admin.get("/runs/aaaa1111").text) == ["promote", "keep"]
    gateway.admin.post("/runs/aaaa1111/promote", headers=FORM)
    assert "It is handbook:latest." in said(gateway.admin.get("/runs/aaaa1111").text)
    assert buttons(gateway.admin.get("/runs/bbbb2222").text) == ["promote", "keep"]


# ---- submitting -----------------------------------------------------------------------------------------------------

MODEL = {"model": "smollm2-135m"}


def send(person: TestClient, do: str, files: dict[str, bytes] | None = None, **fields: str) -> Any:
    sent = [("files", (name, data)) for name, data in (files or {}).items()] or [("files", ("", b""))]
    return person.post("/submit", data={**fields, "do": do}, files=sent, headers=FORM)


def test_a_folder_is_tried_first_and_then_submitted(gateway: Gateway, documents: Path) -> None:
    answer = send(gateway.admin, "dry", **MODEL, folder="documents", name="handbook", options="epochs=2\n")
    told = said(answer.text)
    assert answer.status_code == 200
    assert f"documents 2 documents (51 B) from {documents} stages prepare (cpu) -> train (gpu)" in told
    assert "It would wait. No worker is up." in told and "Submit it" in told
    for value in ('value="smollm2-135m"', 'value="documents"', 'value="handbook"', ">epochs=2</textarea>"):
        assert value in answer.text
    assert gateway.store.count() == 0
    answer = send(gateway.admin, "submit", **MODEL, folder="documents", name="handbook", options="epochs=2\n")
    [run] = gateway.store.all()
    assert (answer.status_code, answer.headers["location"]) == (303, f"/runs/{run.id}")
    assert (run.name, run.model, run.spec["epochs"], run.spec["documents"]) == (
        "handbook", "smollm2-135m", 2.0, str(documents)
    )  # fmt: skip
    assert run.owner == gateway.store.keys.find(gateway.secret).id  # type: ignore[union-attr]


def test_a_dry_run_says_what_the_command_line_notes_beside_its_numbers(gateway: Gateway, documents: Path) -> None:
    """The questions that will test it are few, and the name is a run's; of others' runs a key learns nothing."""
    tried = {**MODEL, "folder": "documents", "name": "handbook"}
    told = said(send(gateway.admin, "dry", **tried).text)
    few = "warning no question will test what the model learned, 5 are the fewest that tell anything Add documents, or"
    assert few in told and "another run is called" not in told
    send(gateway.admin, "submit", **tried)
    renamed = (
        "another run is called handbook: this one is handbook-2, and the next version of handbook when it succeeds"
    )
    assert renamed in said(send(gateway.admin, "dry", **tried).text)
    _, ann = gateway.other("ann")
    assert "handbook-2" not in said(send(ann, "dry", {"a.md": b"# Pump\n\nText.\n"}, **MODEL, name="handbook").text)


def test_uploaded_files_wait_for_the_second_press_and_are_the_keys_own(gateway: Gateway) -> None:
    (_, ann), (_, ben) = gateway.other("ann"), gateway.other("ben")
    files = {"handbook.md": b"# Pump\n\nThe pump has 2 bar.\n", "../../evil.md": b"# Evil\n\nText of it.\n",
             "..": b"x", "a/b\\c:d<é>.md": b"# Name\n\nText.\n"}  # fmt: skip
    answer = send(ann, "dry", files, **MODEL)
    told = said(answer.text)
    assert answer.status_code == 200 and "Uploaded: 4 files" in told
    assert "documents 3 documents (62 B), uploaded" in told and str(gateway.home) not in answer.text
    upload = re.findall(r'name="upload" value="([^"]+)"', answer.text)[0]
    [folder] = gateway.home.glob(".page-*.partial/documents")
    assert sorted(path.name for path in folder.iterdir()) == ["c_d_é_.md", "evil.md", "file 3", "handbook.md"]
    stolen = send(ben, "submit", **MODEL, upload=upload)
    assert stolen.status_code == 400 and "The uploaded files are gone" in said(stolen.text)
    for odd in ("../..", "x" * 22, upload + "/.."):
        assert send(ann, "submit", **MODEL, upload=odd).status_code == 400
    answer = send(ann, "submit", **MODEL, upload=upload, name="handbook")
    [run] = gateway.store.all()
    assert answer.headers["location"] == f"/runs/{run.id}"
    kept = sorted(path.name for path in (gateway.home / run.id / "documents").iterdir())
    assert kept == ["c_d_é_.md", "evil.md", "handbook.md"] and not folder.exists()
    assert "tuned on uploaded files" in said(ann.get(f"/runs/{run.id}").text)


def test_an_uploaded_file_is_written_once_and_where_it_stays(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not in the system's folder for temporary files, which may be small; and nothing stays of a form without files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    _, ann = gateway.other("ann")
    text = b"# Pump\n\n" + b"The pump has 2 bar.\n" * 10_000
    assert send(ann, "dry", {"a.md": text, "b.md": b"# B\n\nText.\n"}, **MODEL).status_code == 200
    [folder] = gateway.home.glob(".page-*")
    sizes = {path.name: path.stat().st_size for path in folder.rglob("*.md")}
    assert sizes == {"a.md": len(text), "b.md": 11}
    assert [path.name for path in folder.iterdir()] == ["documents"]
    assert send(ann, "dry", **MODEL).status_code == 400
    assert list(gateway.home.glob(".page-*")) == [folder]


def test_what_is_wrong_with_uploaded_files_tells_no_path_of_the_servers(gateway: Gateway) -> None:
    _, ann = gateway.other("ann")
    for client in (ann, gateway.admin):
        answer = send(client, "dry", {"broken.json": b"{", "picture.png": b"\x89PNG"}, **MODEL)
        assert answer.status_code == 400 and str(gateway.home) not in answer.text and ".page-" not in answer.text
        assert "documents as uploaded: no example in it" in said(answer.text)
        assert "Uploaded: 2 files: broken.json, picture.png" in said(answer.text)


def test_only_folders_below_the_root_are_taken_and_never_the_artifacts(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "documents" / "out").symlink_to("/usr/share")
    inside = gateway.home / "aaaa1111" / "documents"
    inside.mkdir(parents=True)
    (inside / "others.md").write_text("# Others\n\nText.\n")
    for folder in (
        "..",
        "/etc",
        "../../etc",
        "documents/out",
        str(inside),
        "artifacts",
        "artifacts/aaaa1111/documents",
    ):
        answer = send(gateway.admin, "dry", **MODEL, folder=folder)
        assert answer.status_code == 400 and f"documents {folder}: not a folder below {tmp_path}" in said(answer.text)
    answer = send(gateway.admin, "dry", **MODEL, folder="nowhere")
    assert answer.status_code == 400 and "there is no such folder" in said(answer.text)
    assert "Name a folder of documents, or choose files" in said(answer.text)


def test_the_form_and_its_errors_name_nothing_that_only_a_terminal_has(gateway: Gateway) -> None:
    form = gateway.admin.get("/submit").text
    answer = send(gateway.admin, "dry", {"a.md": b"# A\n\nText.\n"}, **MODEL, options="skip_rules=b")
    wrong = 'Did you mean B? "All options" below lists each with its limits.'
    assert answer.status_code == 400 and wrong in said(answer.text)
    empty = send(gateway.admin, "dry", {"a.bin": b"\x00\xff" * 99}, **MODEL)
    tried = send(gateway.admin, "dry", {"a.md": b"# A\n\nText.\n"}, **MODEL)
    assert "a file of your own questions: the option questions_file (docs/evaluation.md" in said(tried.text)
    for html in (form, answer.text, empty.text, tried.text):
        assert not [word for word in ("ftq options", "--documents", "--set") if word in html]
    assert "epochs=3 passes over the dataset (number over 0 to 1000)" in said(form)


def test_without_a_root_only_an_admin_names_folders_and_checkpoints(home: Path, documents: Path) -> None:
    gateway = Gateway(home)  # started beside the folder
    assert send(gateway.admin, "dry", **MODEL, folder="documents").status_code == 200
    _, ann = gateway.other("ann")
    assert 'name="folder"' not in ann.get("/submit").text
    answer = send(ann, "dry", **MODEL, folder="documents")
    assert answer.status_code == 400 and "no files were chosen" in said(answer.text)
    for fields, why in (
        ({"model": str(home)}, "not one of the catalogue"),
        (
            {**MODEL, "options": "questions_file=/etc/passwd"},
            "line 1: questions_file can't be set here: it names",
        ),
        ({**MODEL, "options": "\nmodel=/x"}, "line 2: model can't be set here: the form has its own field"),
        ({**MODEL, "options": "epochs"}, "line 1: 'epochs' is no key=value For example: epochs=5"),
        ({**MODEL, "options": "epoch=5"}, "unknown option epoch. Did you mean epochs?"),
    ):
        answer = send(ann, "dry", {"a.md": b"# A\n\nText.\n"}, **fields)
        assert answer.status_code == 400 and why in said(answer.text)
    gateway.store.close()


def test_limits_hold_for_uploads_and_jobs(gateway: Gateway) -> None:
    gateway.app.state.gateway.options.__dict__["largest_upload"] = 100_000
    answer = send(gateway.admin, "dry", {"a.md": b"x" * 100_000}, **MODEL)
    assert answer.status_code == 413 and "More than 100,000 bytes aren't taken." in said(answer.text)
    _, ann = gateway.other("ann", bytes=1000)
    assert send(ann, "dry", {"a.md": b"x" * 100_000}, **MODEL).status_code == 413
    ann_id, ann = gateway.other("anna", jobs=1)
    gateway.runs(ann_id).add("aaaa1111", "first")
    answer = send(ann, "submit", {"a.md": b"# A\n\nText.\n"}, **MODEL)
    assert answer.status_code == 429 and "The key has 1 job that isn't finished, and may have 1." in said(answer.text)
    assert list(gateway.home.glob(".page-*")) != [] and gateway.store.count() == 1


def test_a_keys_uploads_that_wait_are_few(gateway: Gateway) -> None:
    _, ann = gateway.other("ann")
    send(gateway.admin, "dry", {"a.md": b"# A\n\nText.\n"}, **MODEL)
    tokens = list[str]()
    for number in range(6):
        answer = send(ann, "dry", {"a.md": b"# A\n\nText %d.\n" % number}, **MODEL)
        tokens += re.findall(r'name="upload" value="([^"]+)"', answer.text)
    assert len(list(gateway.home.glob(".page-*"))) == 1 + 4
    gone = send(ann, "submit", **MODEL, upload=tokens[1])
    assert gone.status_code == 400 and "The uploaded files are gone" in said(gone.text)
    assert send(ann, "submit", **MODEL, upload=tokens[2]).status_code == 303


def test_two_forms_of_a_key_may_make_room_at_once(gateway: Gateway) -> None:
    """What the other has just deleted is still in the list, as a link to nothing is."""
    ann_id, ann = gateway.other("ann")
    (gateway.home / f".page-{ann_id}-x.partial").symlink_to("nothing")
    assert send(ann, "dry", {"a.md": b"# A\n\nText.\n"}, **MODEL).status_code == 200


def test_uploads_that_are_submitted_count_as_stored(gateway: Gateway) -> None:
    ann_id, ann = gateway.other("ann", bytes=1000)
    text = b"# A\n\n" + b"The pump has 2 bar.\n" * 30
    assert send(ann, "submit", {"a.md": text}, **MODEL).status_code == 303
    assert gateway.store.files.used(ann_id) == len(text)
    assert send(ann, "dry", {"a.md": b"# B\n\n" + b"x" * 70_000}, **MODEL).status_code == 413
    answer = send(ann, "submit", {"a.md": text}, **MODEL)
    assert answer.status_code == 400 and "This would take 1.2 kB of the 1.0 kB" in said(answer.text)
    assert gateway.store.count() == 1


# ---- errors in words ------------------------------------------------------------------------------------------------


def test_what_is_not_there_is_said_to_people_in_words_and_to_programs_in_json(gateway: Gateway) -> None:
    answer = gateway.admin.get("/nowhere")
    assert (answer.status_code, said(answer.text)) == (
        404, "There is nothing here There is no page /nowhere. The list of runs"
    )  # fmt: skip
    answer = gateway.admin.get("/runs/zzzz9999")
    assert answer.status_code == 404 and "There is no run zzzz9999. It may have been deleted." in said(answer.text)
    program = {"authorization": f"Bearer {gateway.secret}", "accept": "application/json"}
    answer = TestClient(gateway.app).get("/nowhere", headers=program)
    assert answer.json()["error"]["message"] == "Invalid URL (GET /nowhere)"
    answer = TestClient(gateway.app).get("/v1/nowhere", headers=program | HTML)
    assert answer.json()["error"]["message"] == "Invalid URL (GET /v1/nowhere)"


def test_a_database_that_is_gone_has_a_page(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(self: object, token: str) -> None:
        raise Unavailable("database sqlite:///x can't be used: gone", "Check FTQ_DATABASE_URL.")

    monkeypatch.setattr(Sessions, "find", gone)
    answer = gateway.admin.get("/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert said(answer.text).startswith("The server can't answer now database sqlite:///x can't be used: gone Check")


def test_every_page_has_one_heading_labels_and_closed_tags(gateway: Gateway) -> None:
    every_state(gateway.runs())
    found = ["/", "/submit", *(f"/runs/{run.id}" for run in gateway.store.all()), "/runs/aaaa1111/logs/train", "/x"]
    for person, paths in ((gateway.admin, found), (gateway.stranger, ["/login"])):
        for path in paths:
            html = person.get(path).text
            assert html.count("<h1") == 1 and '<html lang="en">' in html
            fields = set(re.findall(r'<(?:input|textarea)[^>]* id="([^"]+)"', html))
            assert fields <= set(re.findall(r'<label for="([^"]+)"', html))
            Checked(html)


class Checked(pages.Tags):
    """pages.Tags that knows HTML's void tags."""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        super().handle_starttag(tag, attributes)
        assert not any(name.startswith("on") for name, _ in attributes)
        if tag in ("link", "input"):
            self.open.pop()


def _rows(store: RunStore, query: str) -> list[Any]:
    with store.engine.connect() as db:
        return list(db.exec_driver_sql(query).all())
