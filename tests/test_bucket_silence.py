"""A bucket that takes connections and answers nothing: it is told of in seconds, and costs waiting, never a result."""

from __future__ import annotations

import concurrent.futures
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from ftq.client.client import Client
from ftq.doctor import web
from ftq.files.remote import bucket as remote
from ftq.files.remote.bucket import Bucket, OutOfReach
from ftq.files.remote.kinds import silence
from ftq.files.snapshot import snapshot
from ftq.settings import Settings
from ftq.spec.options import parse
from tests import cli_tools, gateway_tools, test_object_storage
from tests.bucket_server import FreezingServer
from tests.ceph_server import CephServer
from tests.cloud_servers import AzureServer, GoogleServer
from tests.test_object_storage import Site
from tests.tools import give_time, succeed, until

# Azure's library gives aiohttp the bytes of a whole file.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
long = pytest.mark.long
SERVERS: dict[str, Any] = {"s3": FreezingServer, "ceph": CephServer, "az": AzureServer, "gs": GoogleServer}
KINDS = ["s3", *(pytest.param(kind, marks=long) for kind in ("ceph", "az", "gs"))]
LARGE = os.urandom(12 * 2**20)  # more than the system takes of us before anybody reads it
# A person is told within five seconds, of a file within fifteen. What is held here is that nobody waits as long as the
# libraries would, which is minutes, or without end: a machine with other work to do doesn't make it fail.
SECONDS = 60.0


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with freezing(request.param, monkeypatch) as server:
        yield server


@contextmanager
def freezing(kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server = SERVERS[kind]("bucket")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    try:
        yield server
    finally:
        server.thaw()
        server.close()


@contextmanager
def haste(probe: float = 0.5) -> Iterator[None]:
    """A bucket that answers nothing is told of at once: here it is known to be frozen.

    `probe`: seconds for one that lists its files, and takes none.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SILENT", "AGAIN"):
            patch.setattr(silence, f"{name}_SECONDS", 0.5)
        patch.setattr(silence, "PROBE_SECONDS", probe)
        patch.setattr(silence, "MOVING", (0.5, 0.5))
        yield


def unreachable(server: Any) -> str:
    return f"bucket {server.url}.* is unreachable \\(no answer within "


def in_time(action: Callable[[], object]) -> None:
    began = time.monotonic()
    action()
    assert time.monotonic() - began < SECONDS


def test_who_waits_is_told_and_goes_on_when_it_answers(server: Any) -> None:
    """Of whatever is asked: a small object or a large one, up or down."""
    setup = Bucket(server.url)
    setup.write("small", b"small")
    setup.write("large", LARGE)
    ways: list[Callable[[Bucket], object]] = [
        lambda bucket: bucket.read("small"),
        lambda bucket: bucket.read("large", 0, len(LARGE)),
        lambda bucket: bucket.write("other", b"other"),
        lambda bucket: bucket.write("other", LARGE),
        lambda bucket: bucket.names(),
    ]
    buckets = [Bucket(server.url, patient=False) for _ in ways]
    with pytest.MonkeyPatch.context() as patch:
        give_time(patch)
        assert [bucket.read("small") for bucket in buckets] == [b"small"] * len(ways)  # a connection is there
    server.freeze()

    def is_told(way: Callable[[Bucket], object], bucket: Bucket) -> None:
        with pytest.raises(OutOfReach, match=unreachable(server)):
            way(bucket)

    with haste(), concurrent.futures.ThreadPoolExecutor() as pool:
        in_time(lambda: list(pool.map(is_told, ways, buckets)))
    server.thaw()

    def answers() -> bool:
        try:
            return [bucket.read("small") for bucket in buckets] == [b"small"] * len(ways)
        except OutOfReach:
            return False

    until(answers)


def test_what_is_on_its_way_is_not_broken_by_a_look_at_the_silence(server: Any) -> None:
    bucket = Bucket(server.url)
    bucket.write("small", b"small")
    server.freeze()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        sent = [pool.submit(bucket.write, f"large{number}", LARGE) for number in range(2)]
        with haste():
            error = until(bucket.silence.look)
        server.thaw()
        assert [one.result() for one in sent] == [None, None]
    assert isinstance(error, OutOfReach) and "is unreachable (no answer within" in error.message
    assert bucket.silence.look() is None
    assert bucket.read("large1") == LARGE


@pytest.mark.parametrize("server", ["s3", pytest.param("ceph", marks=long)], indirect=True)
@pytest.mark.parametrize("size", [5, len(LARGE)])
def test_an_upload_ends_by_itself_where_nobody_looks(server: Any, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the body is asked for, or in the middle of it: no library looks at the time there."""
    monkeypatch.setattr("ftq.files.remote.bucket.READ_SECONDS", 1.0)
    monkeypatch.setattr("ftq.files.remote.kinds.opening.STALLED_SECONDS", 1)
    bucket = Bucket(server.url)
    server.freeze()

    def ends() -> None:
        with pytest.raises(OutOfReach):
            bucket.write("other", LARGE[:size])

    in_time(ends)


def test_a_person_waits_three_and_a_half_seconds_for_a_silent_bucket_at_most() -> None:
    """Of the five that are promised; the machine has the rest for starting, importing and printing."""
    assert silence.SILENT_SECONDS + silence.PROBE_SECONDS <= 3.5, "of a command that looks"
    assert silence.PROBE_SECONDS + remote.WRITE_SECONDS + web.ADVICE_SECONDS <= 3.5, "of submit and doctor"
    assert remote.OPEN_SECONDS + web.ADVICE_SECONDS <= 4.0, "where the library itself hangs"


# ---- slow, but not silent -------------------------------------------------------------------------------


class ThinLine:
    """A port that passes so many bytes a second on to another, in each connection and direction."""

    def __init__(self, port: int, speed: int) -> None:
        self._target, self._speed = port, speed
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with ExitStack() as stack:
            while True:
                try:
                    here = stack.enter_context(self._listening.accept()[0])
                except OSError:
                    return
                there = stack.enter_context(socket.create_connection(("127.0.0.1", self._target)))
                for one, other in ((here, there), (there, here)):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**14)
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while piece := source.recv(2**14):
                target.sendall(piece)
                time.sleep(len(piece) / self._speed)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


@pytest.mark.parametrize("patient", [True, False])
def test_a_thin_line_is_not_taken_for_silence(patient: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[float]()
    with freezing("s3", monkeypatch) as server, haste():
        line = ThinLine(server.port, 200_000)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{line.port}")
        bucket = Bucket(server.url, patient)
        ask = bucket.silence._ask
        monkeypatch.setattr(bucket.silence, "_ask", lambda seconds, puts: (ask(120.0, puts), asked.append(seconds)))
        with concurrent.futures.ThreadPoolExecutor() as pool:
            sent = [pool.submit(bucket.write, f"large{number}", LARGE[:300_000]) for number in range(2)]
            while not all(one.done() for one in sent):
                assert bucket.silence.look() is None
                time.sleep(0.01)
            assert [one.result() for one in sent] == [None, None]
        assert asked and bucket.silence.error is None
        line.close()


# ---- what a person sees ---------------------------------------------------------------------------------


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, documents: Path, home: Path) -> Iterator[Any]:
    """A bucket's server, and a database with two runs that have succeeded; this machine has nothing of them."""
    with freezing("s3", monkeypatch) as server:
        client = Client(Settings.from_env())
        spec = parse({"model": "smollm2-135m"}).model_dump()
        for name in ("one", "two"):
            client.store.create(f"{name}aaaa", name, spec, snapshot(documents, None, home).hash)
            succeed(client.store, f"{name}aaaa")
        client.close()
        yield server


def test_submit_asks_nothing_before_it_knows_that_the_bucket_answers(runs: Any, documents: Path) -> None:
    """An earlier run of the same documents tells what they are like: that is in the bucket."""
    client = Client(Settings.from_env())
    runs.freeze()
    with pytest.raises(OutOfReach, match=unreachable(runs)):
        client.submit({"model": "smollm2-135m", "documents": str(documents)})
    assert client._bucket and "_fs" not in vars(client._bucket.share.bucket)
    assert client.count() == 2
    client.close()


FAILING = ["logs one", "infer one Who?", "pull one", "eval one", "report one", "compare one two", "rm one --yes",
           "gc --last 0 --dry-run", "submit --model smollm2-135m --documents DOCUMENTS"]  # fmt: skip
GOING_ON = ["status", "status one", "status one --json", "events one", "models --tuned", "keep one", "workers",
            "submit --model smollm2-135m --documents DOCUMENTS --dry-run", "retry one --from train"]  # fmt: skip


def test_no_command_waits_for_a_bucket_that_answers_nothing(runs: Any, documents: Path) -> None:
    runs.freeze()
    for line in (*FAILING, *GOING_ON):
        began = time.monotonic()
        with haste():
            result = cli_tools.run(*(word.replace("DOCUMENTS", str(documents)) for word in line.split()))
        assert time.monotonic() - began < SECONDS, line
        assert (result.exit_code, line) == (int(line in FAILING), line), result.stderr
        is_told = result.stderr.startswith(f"Error: bucket {runs.url} at http://127.0.0.1:{runs.port} is unreachable (")
        assert is_told == (line in FAILING), line


def test_the_server_answers_while_its_bucket_does_not(runs: Any, home: Path) -> None:
    app, secret = gateway_tools.make_gateway(home)
    app.state.gateway.client = Client(Settings.from_env())
    headers = {"authorization": f"Bearer {secret}"}
    paths = ["runs/oneaaaa/report", "runs/oneaaaa/files/eval.json", "runs/oneaaaa/files"]
    with gateway_tools.serving(app) as url, httpx.Client(timeout=SECONDS, headers=headers) as http:
        runs.freeze()
        with concurrent.futures.ThreadPoolExecutor(60) as pool:  # more than the server has threads
            asked = [pool.submit(http.get, f"{url}/ftq/v1/{paths[number % 3]}") for number in range(60)]
            while not all(one.done() for one in asked):
                assert httpx.get(f"{url}/healthz", timeout=SECONDS).json() == {"status": "ok"}
            answers = [one.result() for one in asked]
        assert {(answer.status_code, answer.headers.get("retry-after")) for answer in answers} == {(503, "5")}
        assert all("is unreachable (no answer within" in answer.json()["error"]["message"] for answer in answers)
        runs.thaw()
        until(lambda: http.get(f"{url}/ftq/v1/{paths[0]}").status_code != 503)


# ---- what a run says ------------------------------------------------------------------------------------


@pytest.fixture(params=KINDS)
def site(
    request: pytest.FixtureRequest, tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    monkeypatch.setattr(test_object_storage, "BucketServer", SERVERS[request.param])
    site = Site(tmp_path, "bucket", postgres)
    for name, value in site.bucket.environment.items():
        monkeypatch.setenv(name, value)
    yield site
    site.here.close()
    site.bucket.thaw()  # type: ignore[attr-defined]
    site.bucket.close()


@pytest.fixture
def machine(site: Site) -> Iterator[Any]:
    machine = site.machine("a")
    yield machine
    machine.close()


@pytest.mark.slow
def test_a_run_says_what_waits_for_the_bucket_and_what_is_in_it(site: Site, machine: Any) -> None:
    run = site.here.submit("one", {"train": {"1": "wait"}}, max_steps=600, save_steps=5)  # 15 s until it waits
    machine.start_worker(name="a1")
    said = lambda part: any(part in event.message for event in site.here.client.store.events(run.id))  # noqa: E731
    until(lambda: said("is in the bucket"))
    site.bucket.freeze()  # type: ignore[attr-defined]
    until(lambda: said("waits for the bucket, saved on this worker alone"))
    until(lambda: "waits for the bucket" in str(site.here.client.find("one").stage("train").progress))
    (machine.settings.home / run.id / "documents" / "go").touch()
    until(lambda: ("train", "waiting") in site.kinds(run))
    site.bucket.thaw()  # type: ignore[attr-defined]
    site.here.wait_for_all()
    events = site.here.client.store.events(run.id)
    (waiting,) = [event.message for event in events if event.kind == "waiting"]
    assert waiting.startswith(f"waits for the bucket, sending train: bucket {site.bucket.url}")
    assert "is unreachable (no answer within" in waiting
    assert any(event.message.startswith("the bucket is there again after") for event in events)
    assert site.started()["one", "train"] == 1
    steps = {event.data["step"]: event.message for event in events if event.kind == "checkpoint" and event.data}
    assert steps[5] == "checkpoint at step 5, on its way to the bucket"
    told = json.loads((machine.settings.home / run.id / "adapter" / "steps.json").read_text())["steps"]
    assert told == list(range(1, 601))
