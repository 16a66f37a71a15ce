"""A bucket that lists its files and gives them, and takes none: it is full, or these credentials may only read."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ftq.client.client import Client
from ftq.doctor import web
from ftq.files.remote.bucket import Bucket, OutOfReach
from ftq.files.remote.kinds.errors import ReadOnly, TakesNothing, explain
from ftq.files.remote.share import Share
from ftq.files.run_dir import STAGES, RunDir
from ftq.settings import Settings
from ftq.store.store import RunStore
from tests import cli_tools, reported
from tests.bucket_server import BucketServer, own_server
from tests.cloud_servers import ACCOUNT, KEY
from tests.test_bucket import publish
from tests.test_bucket_silence import haste
from tests.test_object_storage import Site, site
from tests.tools import PATIENCE, give_time, succeed, until
from worker.attempt.remote.exchange import Exchange
from worker.attempt.watch import Watch
from worker.host import worker
from worker.incoming import reach
from worker.incoming.reach import Reach

__all__ = ["site"]  # a fixture
long = pytest.mark.long
FORBIDDEN = "these credentials may read there, and not write ("
# How it takes nothing -> what is said of it, what to do.
WAYS: dict[str, tuple[Callable[[Any, bool], None], str, str]] = {
    "policy": (lambda server, takes: server.take(takes), FORBIDDEN, "s3:PutObject"),
    "quota": (lambda server, takes: server.limit_user(None if takes else 1024), "(it is full: Quota", "`ftq gc`"),
    "disks": (lambda server, takes: server.fill_disks(not takes), "(no answer within ", "ceph health detail"),
}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[BucketServer]:
    with own_server("full", monkeypatch) as bucket:
        yield bucket


@pytest.fixture(params=["policy", *(pytest.param(f"ceph-{way}", marks=long) for way in WAYS)])
def way(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Callable[[bool], None], str, str]]:
    """(a server, what lets it take files or not, what is said of it then, what to do)."""
    name = request.param.removeprefix("ceph-")
    server = request.getfixturevalue("bucket" if request.param in WAYS else "ceph")
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in server.environment.items():
            patch.setenv(variable, value)
        if name != "disks":  # these answer, as soon as a machine with other work to do lets them
            give_time(patch)
        change, *told = WAYS[name]
        yield server, lambda takes: change(server, takes), *told
        change(server, True)


def finished(url: str, home: Path) -> None:
    """A run, and what its stages have made: in the bucket alone."""
    client, maker = Client(Settings.from_env()), Share(Bucket(url), home)
    client.store.create("run1", "handbook", {"model": "m"}, "hash")
    reported.finished(home / "run1")
    succeed(client.store, "run1")
    for stage in STAGES:
        publish(maker, stage, 1, *[path.name for path in RunDir(home / "run1").outputs(stage)])
    client.close()


def test_it_is_told_as_such_and_what_is_there_can_be_read(way: Any, documents: Path, tmp_path: Path) -> None:
    server, let, said, fix = way
    finished(server.url, tmp_path / "maker")
    Bucket(server.url).write("more", b"x" * 2048)  # than the quota has room for
    let(False)
    settings = Settings.from_env()
    (finding,) = web.bucket(settings)
    assert finding.level == "problem" and f"bucket {server.url} takes no file" in finding.message
    assert said in finding.message
    assert fix in finding.fix
    with closing(Client(settings)) as client:
        with pytest.raises(TakesNothing) as error:
            client.submit({"model": "smollm2-135m", "documents": str(documents)})
        assert said in error.value.message and client.count() == 1
    quick = Bucket(server.url, patient=False)
    with haste(probe=10.0) if "no answer" in said else nullcontext(), pytest.raises(TakesNothing):
        quick.write("other", b"other")
    assert quick.read("more") == b"x" * 2048, "who reads isn't refused for that"
    with closing(Client(settings)) as client:
        assert client.file_of(client.find("handbook"), "model-f16.gguf").is_file()
    cli_tools.ok("report", "handbook")
    let(True)
    until(lambda: [one.level for one in web.bucket(settings)] == ["ok"])
    Bucket(server.url).delete("more", "run1")


def test_a_worker_notices_it_by_what_it_puts_there_now_and_then(
    bucket: BucketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "ANSWER_SECONDS", PATIENCE)
    changes = list[str]()
    looked = Reach(bucket.url, lambda: changes.append(looked.error.message if looked.error else "there"))
    looked.look()
    bucket.take(files=False)
    for _ in range(reach.PUTS):
        looked.look()
    (first, why) = changes
    assert first == "there" and why.startswith(f"bucket {bucket.url} takes no file: {FORBIDDEN}")
    assert looked.facts()["waits"] == why and looked.error and looked.error.gives
    looked.look()
    bucket.take(files=True)
    looked.look()
    assert changes == ["there", why, "there"] and looked.error is None
    assert bucket.keys() == [], "it leaves nothing behind"


def test_what_a_running_stage_has_made_waits_and_goes_up_by_itself(
    bucket: BucketServer, documents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli_tools.ok("submit", "--model", "smollm2-135m", "--documents", str(documents), "--name", "one")
    settings = Settings.from_env()
    monkeypatch.setattr("worker.attempt.remote.moving.FIRST_WAIT", 0.1)
    with closing(RunStore(settings.database_url)) as store:
        run = store.all(1)[0]
        token = store.claim(run.id, "prepare", 1, "w1", 600.0)
        assert token
        share = Share(Bucket(settings.artifacts_url), settings.home, store.identity)
        exchange = Exchange(share, settings, store, Watch(store, settings, token, time.monotonic(), lambda *_: None))
        bucket.take(files=False)

        def told() -> list[str]:
            return [event.message for event in store.events(run.id) if event.kind == "waiting"]

        def open_it() -> None:
            until(told)
            bucket.take(files=True)

        opening = threading.Thread(target=open_it)
        opening.start()
        exchange.moving.insist("sending prepare", lambda _: share.bucket.write(f"{run.id}/x", b"x"), finishes=True)
        opening.join()
        (waits,) = told()
        assert waits.startswith(
            f"waits for the bucket, sending prepare: bucket {bucket.url} takes no file: {FORBIDDEN}"
        )
        assert share.bucket.read(f"{run.id}/x") == b"x"


def test_only_who_answers_questions_starts_where_nothing_may_be_put(
    bucket: BucketServer, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.mkdir(exist_ok=True)
    bucket.take(files=False)
    settings = Settings.from_env()
    with pytest.raises(ReadOnly):
        worker._try_bucket(settings, ["cpu", "ask"])
    worker._try_bucket(settings, ["ask"])
    assert "this worker answers with what is there" in capsys.readouterr().err


@pytest.mark.long
def test_runs_wait_for_a_bucket_that_takes_nothing_and_questions_are_answered(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.machine("a").start_worker(name="a1")
    here = site.here.client
    until(here.store.live_queues)
    run = site.here.submit("one")
    site.here.wait_for_all()
    site.bucket.take(files=False)
    until(lambda: any(one.waits for one in here.store.workers()), 150)
    here.retry(run.id, "evaluate")
    assert here.ask("one", "Why?")["answer"]
    assert here.find(run.id).status == "queued"
    (why,) = {one.waits for one in here.store.workers()}
    assert f"takes no file: {FORBIDDEN}" in why
    site.bucket.take(files=True)
    site.here.wait_for_all()
    assert here.find(run.id).stage("evaluate").attempt == 2


# ---- how servers that aren't tried here say it ----------------------------------------------------------


class Full(http.server.BaseHTTPRequestHandler):
    """A server that lists, and refuses what is put there."""

    kind = "s3"
    status, code = 507, ""
    lists: ClassVar = {
        "s3": "<ListBucketResult><Name>b</Name><KeyCount>0</KeyCount></ListBucketResult>",
        "az": '<?xml version="1.0"?><EnumerationResults><Blobs /><NextMarker /></EnumerationResults>',
        "gs": '{"kind": "storage#objects", "items": []}',
    }
    errors: ClassVar = {
        "s3": "<Error><Code>{0}</Code><Message>no</Message></Error>",
        "az": '<?xml version="1.0"?><Error><Code>{0}</Code><Message>no</Message></Error>',
        "gs": '{{"error": {{"code": 403, "message": "{0}"}}}}',
    }

    def _answer(self, status: int, text: str) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if self.kind == "gs" else "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self.send_header("x-ms-error-code", self.code)
        self.end_headers()
        self.wfile.write(text.encode())

    def do_GET(self) -> None:
        self._answer(200, self.lists[self.kind])

    def do_PUT(self) -> None:
        self._answer(self.status, self.errors[self.kind].format(self.code))

    do_POST = do_PUT

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("kind", "status", "code", "is_full"),
    [
        ("s3", 403, "QuotaExceeded", True),  # Ceph, and OpenStack's Swift
        ("s3", 507, "XMinioStorageFull", True),
        ("s3", 400, "XMinioAdminBucketQuotaExceeded", True),
        ("s3", 507, "InsufficientStorage", True),
        ("s3", 507, "SomethingElse", True),
        ("s3", 403, "AccessDenied", False),
        ("az", 403, "AuthorizationPermissionMismatch", False),
        ("gs", 403, "no storage.objects.create access", False),
        ("gs", 403, "Storage quota of the project is exceeded.", True),
        ("gs", 403, "The bucket would exceed its quota of 5 TB.", True),
    ],
)
def test_each_servers_words_are_understood(
    kind: str, status: int, code: str, is_full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip({"s3": "s3fs", "az": "adlfs", "gs": "gcsfs"}[kind])
    give_time(monkeypatch)
    handler = type("One", (Full,), {"kind": kind, "status": status, "code": code})
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    place = f"http://127.0.0.1:{httpd.server_port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", place)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "key")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", place)
    told = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={place}/{ACCOUNT};"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", told)
    for use in (lambda one: one.probe(write=True), lambda one: one.write("x", b"x")):
        with pytest.raises(OutOfReach) as error:
            use(Bucket(f"{kind}://b/ftq"))
        assert type(error.value) is (TakesNothing if is_full else ReadOnly)
        assert f"bucket {kind}://b/ftq takes no file" in error.value.message
        assert kind != "gs" or code in error.value.message
    httpd.shutdown()
    httpd.server_close()


@pytest.mark.parametrize(
    ("number", "kind", "fix"),
    [(28, TakesNothing, "Make room on its disk"), (122, TakesNothing, "Make room on its disk"),
     (30, ReadOnly, "Correct the owner and mode of /mnt/b"), (13, ReadOnly, "Correct the owner and mode of /mnt/b")],
)  # fmt: skip
def test_a_folders_disk_is_told_in_its_own_words(number: int, kind: type[OutOfReach], fix: str) -> None:
    error = explain(OSError(number, "as the system says it"), "file:///mnt/b", gives=True)
    assert type(error) is kind and error.message.startswith("bucket file:///mnt/b takes no file")
    assert error.hint.startswith(fix)


def test_a_limit_of_requests_a_second_is_no_lack_of_room() -> None:
    said = "Quota exceeded for quota metric 'Write requests' per minute"
    for told in (OSError(5, said), OSError(f"Forbidden: https://storage.googleapis.com/upload/b/o\n{said}")):
        error = explain(told, "gs://b", gives=True)
        assert not isinstance(error, TakesNothing) and said in error.message
