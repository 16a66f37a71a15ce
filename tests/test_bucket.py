"""The bucket: what goes up comes down the same, going on where it was stopped; and what is wrong with it is told."""

from __future__ import annotations

import dataclasses
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partialmethod
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import botocore.auth
import pytest

from ftq.client.bucket import room
from ftq.client.bucket.place import other_bucket
from ftq.client.client import Client
from ftq.client.removal import why
from ftq.doctor import web
from ftq.doctor.workers import workers
from ftq.errors import FtqError, UserError
from ftq.files import disk
from ftq.files.remote import checkpoints, limit, record, transfer
from ftq.files.remote.bucket import Bucket, Gone, OutOfReach
from ftq.files.remote.kinds import parts
from ftq.files.remote.kinds.azure import AzureParts
from ftq.files.remote.kinds.errors import CREDENTIALS, LOGIN
from ftq.files.remote.kinds.google import GoogleParts
from ftq.files.remote.kinds.s3 import S3Parts
from ftq.files.remote.logs import Logs, LogSender
from ftq.files.remote.manifest import Entry, Manifest, manifest_key
from ftq.files.remote.share import Share
from ftq.files.remote.transfer import Move, Upload, sha256_of
from ftq.files.run_dir import STAGES, RunDir
from ftq.settings import Settings
from ftq.spec.options import parse
from tests import cli_tools, reported
from tests.bucket_server import BucketServer, own_server
from tests.ceph_server import CephServer
from tests.cli_tools import ok
from tests.cloud_servers import AzureServer, GoogleServer
from tests.tools import PATIENCE, free_port, give_time, instead_of_sleep, until
from worker.host import worker

# A person is told within five seconds. What is held here is that nobody waits as long as the libraries would, which is
# minutes: a machine with other work to do doesn't make it fail.
SECONDS = 60.0
# Azure's library gives aiohttp the bytes of a whole file.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
PART = 5 * 2**20  # S3 takes no smaller ones but for the last
LARGE = os.urandom(3 * PART + 1000)


long = pytest.mark.long
KINDS = ["s3", "file", *(pytest.param(kind, marks=long) for kind in ("ceph", "az", "gs"))]
SERVERS: dict[str, Any] = {"s3": BucketServer, "ceph": CephServer, "az": AzureServer, "gs": GoogleServer}


@pytest.fixture(scope="module")
def servers() -> Iterator[Callable[[str], BucketServer]]:
    """A server of each kind, started when the first test needs it."""
    started = dict[str, BucketServer]()

    def server(kind: str) -> BucketServer:
        if kind not in started:
            started[kind] = SERVERS[kind]("bucket")
        return started[kind]

    yield server
    for one in started.values():
        one.close()


@pytest.fixture
def server(servers: Callable[[str], BucketServer]) -> BucketServer:
    return servers("s3")


@pytest.fixture(params=KINDS)
def url(
    request: pytest.FixtureRequest,
    servers: Callable[[str], BucketServer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """A bucket of the test's own."""
    give_time(monkeypatch)
    if request.param == "file":
        (tmp_path / "bucket").mkdir()
        return f"file://{tmp_path / 'bucket'}"
    server = servers(request.param)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"{server.url}/{tmp_path.name}"


@pytest.fixture
def here(url: str, tmp_path: Path) -> Share:
    return Share(Bucket(url), tmp_path / "here")


@pytest.fixture
def there(url: str, tmp_path: Path) -> Share:
    """Another machine."""
    return Share(Bucket(url), tmp_path / "there")


def write(share: Share, files: dict[str, bytes], run: str = "run1") -> Path:
    folder = share.home / run
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file() and record.FOLDER not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(found)}


def publish(share: Share, part: str, attempt: int, *names: str, run: str = "run1", like: Any = None) -> Manifest:
    manifest = share.upload(run, part, attempt, names, like=like).go(Move())
    share.note(manifest)
    return manifest


def test_what_goes_up_comes_down_the_same(here: Share, there: Share) -> None:
    odd = "\u00fcber [1] 100%?#&+ x.md"
    content = {
        "documents/a.md": b"A",
        "documents/empty.md": b"",
        f"documents/{odd.replace('#', '') if here.bucket.kind == 'az' else odd}": b"odd",
        "documents/deep/er/b.md": os.urandom(3_000_000),
        "questions.json": b"[]",
    }
    write(here, {**content, "other.txt": b"not of this part"})
    publish(here, "submit", 1, "documents", "validation", "questions.json")
    assert sorted(here.bucket.sizes("run1")) == sorted(
        ["run1/submit.1.json", *(f"run1/submit.1/{name}" for name in content)]
    )
    there.fetch("run1", "submit", 1)
    assert files_of(there.home / "run1") == content


def test_the_bucket_says_when_an_object_was_written(here: Share) -> None:
    """By its own clock, and each library in a word of its own."""
    here.bucket.write("run1/logs/prepare.1/0", b"line")
    (written,) = here.bucket.objects("run1").values()
    assert written.bytes == 4 and abs(time.time() - written.changed_at) < 600


def test_a_name_that_azures_library_would_change_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FtqError, match=r"'documents/a\?#b.md' can't be a name in the bucket"):
        Upload(Bucket("az://b/x"), "run1", "submit", 1, {"documents/a?#b.md": tmp_path})


def test_a_large_file_comes_in_pieces_and_a_stopped_transfer_goes_on(
    here: Share, there: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PIECE", 1000)
    content = os.urandom(20_500)
    write(here, {"model-q8_0.gguf": content})
    publish(here, "export", 1, "model-q8_0.gguf")
    asked = list[int]()
    read = Bucket.read

    def cut(self: Bucket, key: str, start: int | None = None, end: int | None = None) -> bytes:
        if start is not None:
            asked.append(start)
            if start >= 10_000:
                raise OutOfReach("away")
        return read(self, key, start, end)

    monkeypatch.setattr(Bucket, "read", cut)
    with pytest.raises(OutOfReach):
        there.fetch("run1", "export", 1)
    assert files_of(there.home / "run1") == {}
    asked.clear()

    def counted(self: Bucket, key: str, start: int | None = None, end: int | None = None) -> bytes:
        asked.extend([] if start is None else [start])
        return read(self, key, start, end)

    monkeypatch.setattr(Bucket, "read", counted)
    there.fetch("run1", "export", 1)
    assert files_of(there.home / "run1") == {"model-q8_0.gguf": content}
    assert min(asked) >= 8000


def test_an_upload_that_was_stopped_sends_the_rest(here: Share, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here, {f"dataset/{number}": bytes([number]) for number in range(20)})
    calls, sent, put = count(), list[str](), Bucket.put

    def fails_once(self: Bucket, key: str, file: Path) -> None:
        if next(calls) == 7:  # several threads call it, and each number is given once
            raise OutOfReach("away")
        put(self, key, file)
        sent.append(key)

    monkeypatch.setattr(Bucket, "put", fails_once)
    upload = here.upload("run1", "prepare", 1, ["dataset"])
    with pytest.raises(OutOfReach):
        upload.go(Move())
    assert len(sent) >= 7 and "run1/prepare.1.json" not in here.bucket.sizes("run1")
    upload.go(Move())
    assert sorted(sent) == sorted(f"run1/prepare.1/dataset/{number}" for number in range(20))
    assert len(here.manifest("run1", "prepare", 1).files) == 20


# ---- large files ----------------------------------------------------------------------------------------


KINDS_OF_PARTS = [kind for kind in KINDS if kind != "file"]
in_parts = pytest.mark.parametrize("url", KINDS_OF_PARTS, indirect=True)
TAKEN_IN_PARTS: Any = (S3Parts, AzureParts, GoogleParts)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The parts that are sent, of as few bytes as S3 allows."""
    monkeypatch.setattr(parts, "PART", PART)
    sent = list[int]()
    for kind in TAKEN_IN_PARTS:
        monkeypatch.setattr(kind, "send", lambda *call, send=kind.send: (send(*call), sent.append(call[1])))
    return sent


@contextmanager
def losing(monkeypatch: pytest.MonkeyPatch, part: int, sent: list[int]) -> Iterator[None]:
    """The connection is lost at this part and those behind it, once those before it are there."""

    def fails(send: Callable[..., None], *call: Any) -> None:
        if call[1] >= part:
            until(lambda: set(range(part)) <= set(sent))
            raise OutOfReach("away")
        send(*call)

    with monkeypatch.context() as patch:
        for kind in TAKEN_IN_PARTS:
            patch.setattr(kind, "send", partialmethod(_swapped, fails, kind.send))
        yield


def _swapped(self: Any, action: Callable[..., None], original: Callable[..., None], *call: Any) -> None:
    action(original, self, *call)


def cut(share: Share, upload: Upload, monkeypatch: pytest.MonkeyPatch, sent: list[int], after: int = 2) -> None:
    """Begin the upload and lose the connection once so many parts are there."""
    with losing(monkeypatch, after, sent), pytest.raises(OutOfReach):
        upload.go(Move())
    assert sorted(sent) == list(range(after))
    sent.clear()


@in_parts
def test_a_large_file_that_was_cut_goes_on_with_the_parts_that_are_not_there(
    here: Share, there: Share, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(here, {"model-q8_0.gguf": LARGE, "README.md": b"small"})
    names = ("model-q8_0.gguf", "README.md")
    cut(here, here.upload("run1", "export", 1, names), monkeypatch, sent)
    assert sorted(here.bucket.sizes("run1")) == ["run1/export.1/README.md"]
    move = Move()
    here.upload("run1", "export", 1, names).go(move)  # as another process does: it knows nothing of the first
    assert sorted(sent) == [2, 3] and (move.done, move.total) == (len(LARGE) + 5, len(LARGE) + 5)
    there.fetch("run1", "export", 1)
    assert files_of(there.home / "run1") == {"model-q8_0.gguf": LARGE, "README.md": b"small"}
    assert here.bucket.begun() == []


KILLED = """
import os, signal, sys, threading
from pathlib import Path
from ftq.files.remote.bucket import Bucket
from ftq.files.remote.kinds import parts
from ftq.files.remote.kinds.s3 import S3Parts
from ftq.files.remote.share import Share
from ftq.files.remote.transfer import Move

parts.PART, send, there = int(sys.argv[3]), S3Parts.send, threading.Semaphore(0)

def dies(self, index, data, part):
    if index == 2:
        for _ in range(3):
            there.acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    send(self, index, data, part)
    there.release()

S3Parts.send = dies
Share(Bucket(sys.argv[1]), Path(sys.argv[2])).upload("run1", "export", 1, ["a.gguf"]).go(Move())
"""


@pytest.mark.parametrize("url", ["s3", pytest.param("ceph", marks=long)], indirect=True)
def test_an_upload_goes_on_after_its_process_was_killed(here: Share, there: Share, sent: list[int]) -> None:
    """A worker that is started anew has the stage's next attempt."""
    write(here, {"a.gguf": LARGE})
    command = [sys.executable, "-c", KILLED, here.bucket.url, str(here.home), str(PART)]
    assert subprocess.run(command, capture_output=True, timeout=300).returncode == -signal.SIGKILL
    assert [upload.bytes for upload in here.bucket.begun()] == [len(LARGE) - PART]
    publish(here, "export", 2, "a.gguf")
    assert sent == [2]
    there.fetch("run1", "export", 2)
    assert files_of(there.home / "run1") == {"a.gguf": LARGE}


@in_parts
def test_a_later_attempt_takes_over_what_an_earlier_one_has_sent(
    here: Share, there: Share, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file is whole, another is cut; a third is new, and one has changed."""
    first = {"a.gguf": LARGE, "b.gguf": LARGE[::-1], "c.gguf": LARGE[1:]}
    write(here, first)
    here.upload("run1", "export", 1, ["a.gguf"]).go(Move())
    sent.clear()
    cut(here, here.upload("run1", "export", 1, ["b.gguf"]), monkeypatch, sent)
    cut(here, here.upload("run1", "export", 1, ["c.gguf"]), monkeypatch, sent, after=1)
    second = {**first, "c.gguf": b"x" + LARGE, "d.gguf": LARGE[2:]}
    write(here, second)
    publish(here, "export", 2, *second)
    assert sorted(sent) == [0, 0, 1, 1, 2, 2, 2, 3, 3, 3]  # b's end, c and d
    there.fetch("run1", "export", 2)
    assert files_of(there.home / "run1") == second
    here.forget_earlier("run1", "export", 2)
    assert here.bucket.begun() == []
    assert sorted(here.bucket.sizes("run1")) == ["run1/export.2.json", *(f"run1/export.2/{name}" for name in second)]


@in_parts
def test_a_part_with_other_bytes_is_sent_again(
    here: Share, there: Share, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(here, {"a.gguf": LARGE})
    cut(here, here.upload("run1", "export", 1, ["a.gguf"]), monkeypatch, sent, after=3)
    changed = LARGE[:PART] + b"x" + LARGE[PART + 1 :]
    write(here, {"a.gguf": changed})
    publish(here, "export", 1, "a.gguf")
    assert sorted(sent) == [1, 3]
    there.fetch("run1", "export", 1)
    assert files_of(there.home / "run1") == {"a.gguf": changed}


@long
@pytest.mark.parametrize("url", ["ceph"], indirect=True)  # moto answers 500; the others know no upload
def test_an_upload_that_somebody_has_ended_begins_again(
    here: Share, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(here, {"a.gguf": LARGE})
    upload = here.upload("run1", "export", 1, ["a.gguf"])
    begin = S3Parts.begin

    def ended(self: S3Parts) -> None:
        begin(self)
        here.bucket.give_up(*here.bucket.begun())

    with monkeypatch.context() as patch:
        patch.setattr(S3Parts, "begin", ended)
        with pytest.raises(OutOfReach, match="was ended elsewhere"):
            upload.go(Move())
    upload.go(Move())
    assert sorted(sent) == [0, 1, 2, 3]
    assert here.bucket.read("run1/export.1/a.gguf") == LARGE


@in_parts
def test_an_answer_that_was_lost_at_the_end_costs_no_second_upload(
    here: Share, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(here, {"a.gguf": LARGE})

    def lost(finish: Callable[..., None], *call: Any) -> None:
        finish(*call)
        raise OutOfReach("away")

    upload = here.upload("run1", "export", 1, ["a.gguf"])
    with monkeypatch.context() as patch:
        for kind in TAKEN_IN_PARTS:
            patch.setattr(kind, "finish", partialmethod(_swapped, lost, kind.finish))
        with pytest.raises(OutOfReach):
            upload.go(Move())
    upload.go(Move())
    assert sorted(sent) == [0, 1, 2, 3]


@in_parts
def test_a_checkpoint_that_was_cut_goes_on_with_the_next_state(
    here: Share, there: Share, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = checkpoints.Sender(here, "run1", 1, is_whole)
    write(here, {"checkpoints/1/checkpoint-5/weights": LARGE, "checkpoints/1/checkpoint-5/ftq.json": b"{}"})
    write(here, {"checkpoints/1/metrics.jsonl": b"1"})
    with losing(monkeypatch, 3, sent):
        for _ in range(2):
            with pytest.raises(OutOfReach):
                sender.send(Move())
    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "_do", lambda *_, **__: (_ for _ in ()).throw(OutOfReach("away")))
        for _ in range(3):  # nothing gets there
            with pytest.raises(OutOfReach):
                sender.send(Move())
    write(here, {"checkpoints/1/metrics.jsonl": b"12"})
    sender.send(Move())
    assert sorted(sent) == [0, 1, 2, 3]
    assert here.bucket.names("run1") == ["checkpoints-6.1", "checkpoints-6.1.json"] and here.bucket.begun() == []
    assert checkpoints.fetch(there, "run1", 0, 2, Move()) == 1
    assert files_of(there.home / "run1") == files_of(here.home / "run1")


@long
@pytest.mark.parametrize("url", ["ceph", "gs"], indirect=True)  # moto tells no time; Azure forgets by itself
def test_gc_gives_up_the_uploads_that_nobody_goes_on_with(
    here: Share, url: str, tmp_path: Path, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those of a run that isn't finished, nor of one whose submit may be going on."""
    settings = Settings(here.home, "", f"sqlite:///{tmp_path}/shared.db", artifacts_url=url)
    client = Client(settings)
    for run in ("finished", "waiting"):
        client.store.create(run, run, {"model": "m"}, "hash")
    client.cancel("finished")
    for run in ("finished", "waiting", "unknown"):
        write(here, {"a.gguf": LARGE}, run=run)
        cut(here, here.upload(run, "export", 1, ["a.gguf"]), monkeypatch, sent)
    for folder in here.home.iterdir():
        shutil.rmtree(folder)
    assert client.room.leftovers() == []
    monkeypatch.setattr(room, "GIVEN_UP_SECONDS", -1.0)
    leftovers = client.room.leftovers()
    assert [(path.name, size, why(path, client.settings.home)) for path, size in leftovers] == [
        (f".{run}.uploads", 2 * PART, "uploads to the bucket were stopped there") for run in ("finished", "unknown")
    ]
    for path, _ in leftovers:
        client.room.clear(path)
    assert {one.key.partition(".gguf")[0] for one in here.bucket.begun()} == {"waiting/export.1/a"}
    client.cancel("waiting")
    client.room.remove(client.find("waiting"))
    assert here.bucket.begun() == []
    client.close()


def test_gc_deletes_what_a_look_at_the_bucket_has_left(
    here: Share, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what somebody is looking with at this moment, nor a file of the user's."""
    client = Client(Settings(here.home, "", f"sqlite:///{tmp_path}/shared.db", artifacts_url=url))
    here.bucket.write(".ftq-doctor-0123456789ab", b"ftq")
    here.bucket.write("notes.txt", b"mine")
    assert client.room.leftovers(True) == []
    monkeypatch.setattr(room, "GIVEN_UP_SECONDS", -5.0)
    leftovers = client.room.leftovers()
    assert [(path.name, size, why(path, client.settings.home)) for path, size in leftovers] == [
        (".ftq-doctor-0123456789ab.probe", 3, "a try to write to the bucket was stopped there")
    ]
    client.room.clear(leftovers[0][0])
    assert here.bucket.names() == ["notes.txt"]
    client.close()


def test_a_cache_hit_copies_on_the_servers_side(here: Share, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here, {"model-q8_0.gguf": b"GGUF", "README.md": b"one"})
    like = publish(here, "export", 1, "model-q8_0.gguf", "README.md")
    write(here, {"model-q8_0.gguf": b"GGUF", "README.md": b"two"}, run="run2")
    sent, put = list[str](), Bucket.put
    monkeypatch.setattr(Bucket, "put", lambda self, key, file: (sent.append(key), put(self, key, file))[1])
    publish(here, "export", 3, "model-q8_0.gguf", "README.md", run="run2", like=like)
    assert sent == ["run2/export.3/README.md"]
    here.forget_run("run1")
    assert here.bucket.read("run2/export.3/model-q8_0.gguf") == b"GGUF"


def test_a_zombies_late_publication_harms_nothing(here: Share, there: Share) -> None:
    write(here, {"adapter/a": b"old", "adapter/only old": b"x"})
    write(there, {"adapter/a": b"new"})
    publish(there, "train", 2, "adapter")
    publish(here, "train", 1, "adapter")
    third = Share(Bucket(here.bucket.url), here.home.with_name("third"))
    third.fetch("run1", "train", 1)  # a machine that had the zombie's
    third.fetch("run1", "train", 2)
    assert files_of(third.home / "run1") == {"adapter/a": b"new"}


def test_what_is_here_and_checked_costs_nothing_and_what_was_changed_comes_again(
    here: Share, there: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(here, {"dataset/a": b"abc", "dataset/b": b"def"})
    publish(here, "prepare", 1, "dataset")
    there.fetch("run1", "prepare", 1, lambda path: path == "dataset/a")
    assert files_of(there.home / "run1") == {"dataset/a": b"abc"}
    there.fetch("run1", "prepare", 1)
    (there.home / "run1" / "dataset" / "a").write_bytes(b"xyz!")
    there.fetch("run1", "prepare", 1)
    assert files_of(there.home / "run1") == {"dataset/a": b"abc", "dataset/b": b"def"}
    monkeypatch.setattr(Bucket, "_do", lambda *_, **__: pytest.fail("the bucket was asked"))
    there.fetch("run1", "prepare", 1)


def test_a_damaged_object_is_told_and_never_put_in_place(here: Share, there: Share) -> None:
    write(here, {"adapter/a": b"abc"})
    publish(here, "train", 1, "adapter")
    here.bucket.write("run1/train.1/adapter/a", b"abd")
    with pytest.raises(Gone, match="is damaged: its SHA-256"):
        there.fetch("run1", "train", 1)
    assert files_of(there.home / "run1") == {}


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "a//x", "", ".bucket/x", ".", "a\0b"])
def test_a_name_in_a_manifest_never_leads_out_of_the_runs_folder(here: Share, there: Share, path: str) -> None:
    entry = {"path": path, "size": 1, "sha256": "0" * 64}
    value = {"run": "run1", "part": "train", "attempt": 1, "files": [entry]}
    here.bucket.write(manifest_key("run1", "train", 1), json.dumps(value).encode())
    with pytest.raises(FtqError, match="no manifest"):
        there.fetch("run1", "train", 1)


def test_attempts_1_and_10_are_not_confused(here: Share) -> None:
    write(here, {"adapter/a": b"abc"})
    for attempt in (1, 10, 12):
        publish(here, "train", attempt, "adapter")
    here.forget_earlier("run1", "train", 2)
    assert here.bucket.names("run1") == ["train.10", "train.10.json", "train.12", "train.12.json"]
    assert sorted(here.bucket.sizes("run1/train.1")) == []
    here.forget_earlier("run1", "train", 12)
    assert sorted(here.bucket.sizes("run1")) == ["run1/train.12.json", "run1/train.12/adapter/a"]


# ---- checkpoints ----------------------------------------------------------------------------------------


def is_whole(folder: Path) -> bool:
    return (folder / "ftq.json").is_file()


def save(share: Share, attempt: int, step: int) -> Path:
    name = f"checkpoints/{attempt}"
    one = {f"{name}/checkpoint-{step}/weights": b"w" * step, f"{name}/checkpoint-{step}/ftq.json": b"{}"}
    return write(share, {**one, f"{name}/metrics.jsonl": b"m" * step, "checkpoints/train.json": b"{}"})


def test_checkpoints_go_up_once_each_and_the_newest_state_comes_down(
    here: Share, there: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = checkpoints.Sender(here, "run1", 1, is_whole)
    save(here, 1, 5)
    sender.send(Move())
    sent, put = list[str](), Bucket.put
    monkeypatch.setattr(Bucket, "put", lambda self, key, file: (sent.append(key), put(self, key, file))[1])
    save(here, 1, 10)
    write(here, {"checkpoints/1/checkpoint-15/weights": b"unsealed"})
    sender.send(Move())
    assert not any("checkpoint-5" in key for key in sent)
    folder = save(here, 1, 20)
    for path in (folder / "checkpoints/1/checkpoint-5").iterdir():  # as the training run prunes
        path.unlink()
    sender.send(Move())
    assert checkpoints.fetch(there, "run1", 0, 2, Move()) == 1
    names = ["checkpoint-10/ftq.json", "checkpoint-10/weights", "checkpoint-20/ftq.json", "checkpoint-20/weights"]
    assert sorted(files_of(there.home / "run1")) == [
        *(f"checkpoints/1/{name}" for name in names),
        "checkpoints/1/metrics.jsonl",
        "checkpoints/train.json",
    ]
    assert not any("checkpoint-5" in key for key in here.bucket.sizes("run1"))


def test_a_zombie_can_not_delete_the_checkpoints_of_a_later_attempt(here: Share, there: Share, tmp_path: Path) -> None:
    zombie = checkpoints.Sender(here, "run1", 1, is_whole)
    save(here, 1, 5)
    zombie.send(Move())
    assert checkpoints.fetch(there, "run1", 0, 2, Move()) == 1
    later = checkpoints.Sender(there, "run1", 2, is_whole)
    save(there, 2, 8)
    later.send(Move())
    save(here, 1, 50)
    zombie.send(Move())
    third = Share(Bucket(here.bucket.url), tmp_path / "third")
    assert checkpoints.fetch(third, "run1", 0, 3, Move()) == 2
    assert files_of(third.home / "run1") == files_of(there.home / "run1")
    assert checkpoints.fetch(third, "run1", 3, 3, Move()) is None  # made anew: nothing old may be used


def test_the_first_state_that_gets_there_ends_those_of_earlier_attempts(
    here: Share, there: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(here, 1, 5)
    checkpoints.Sender(here, "run1", 1, is_whole).send(Move())
    sender = checkpoints.Sender(there, "run1", 2, is_whole)
    save(there, 2, 8)
    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "_do", lambda *_, **__: (_ for _ in ()).throw(OutOfReach("away")))
        with pytest.raises(OutOfReach):
            sender.send(Move())
    sender.send(Move())
    assert here.bucket.names("run1") == ["checkpoints-2.2", "checkpoints-2.2.json"]


def test_the_machine_that_trained_keeps_its_own_state(here: Share) -> None:
    sender = checkpoints.Sender(here, "run1", 1, is_whole)
    folder = save(here, 1, 5)
    checkpoints.note_attempt(RunDir(folder), 1)
    sender.send(Move())
    save(here, 1, 9)
    before = files_of(folder)
    assert checkpoints.fetch(here, "run1", 0, 2, Move()) is None
    assert files_of(folder) == before


def test_logs_are_read_as_one_from_any_offset(here: Share) -> None:
    log = write(here, {"logs/train.log": b"of another machine\n"}) / "logs" / "train.log"
    first = LogSender(here.bucket, "run1", "train", 1, log)
    for text in (b"one\n", b"two\n"):
        with log.open("ab") as file:
            file.write(text)
        first.send()
    LogSender(here.bucket, "run1", "train", 10, log).send()  # nothing new
    second = LogSender(here.bucket, "run1", "train", 2, here.home / "new.log")
    (here.home / "new.log").write_bytes(b"three\n")
    second.send()
    logs = Logs(here.bucket)
    assert b"".join(logs.read("run1", "train", 0)) == b"one\ntwo\nthree\n"
    assert b"".join(logs.read("run1", "train", 5)) == b"wo\nthree\n"
    assert logs.has("run1", ("prepare", "train")) and not logs.has("run1", ("prepare",))


# ---- the limit ------------------------------------------------------------------------------------------


def test_the_least_recently_used_copies_go_and_only_what_the_bucket_has(here: Share, url: str) -> None:
    names = ("submit", "prepare")
    for number, run in enumerate(("old1", "used2", "mine3", "new4")):
        write(here, {"documents/a.md": b"d" * 1000, "dataset/a": b"x" * 1000, "logs/ask.log": b"l"}, run=run)
        write(here, {"run.json": b"{}", "checkpoints/1/a": b"c"} if run == "old1" else {}, run=run)
        for part, name in zip(names, ("documents", "dataset"), strict=True):
            publish(here, part, 1, name, run=run)
        with record.in_use(here.home / run):
            pass
        os.utime(here.home / run / record.FOLDER / "use", (number, number))
    write(here, {"dataset/a": b"only here"}, run="mine3")
    settings = Settings(here.home, "", "", artifacts_url=url, cache_gb=1e-9)
    with record.in_use(here.home / "used2"):
        assert limit.trim(settings) == ["new4"]  # old1 has checkpoints of a training run that goes on
    (here.home / "old1" / "checkpoints" / "1" / "a").unlink()
    assert limit.trim(settings) == ["old1", "used2"]
    assert files_of(here.home / "old1") == {"logs/ask.log": b"l"}
    here.fetch("old1", "prepare", 1)
    assert files_of(here.home / "old1") == {"dataset/a": b"x" * 1000, "logs/ask.log": b"l"}


def test_a_run_that_is_deleted_meanwhile_keeps_no_other_copy(
    tmp_path: Path, url: str, here: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is kept by a thread of the worker, beside whoever deletes runs."""
    for run in ("gone", "old1"):
        write(here, {"dataset/a": b"x" * 1000}, run=run)
        publish(here, "prepare", 1, "dataset", run=run)
    look = os.scandir

    def late(path: Any = ".") -> Any:
        if str(path) == str(here.home / "gone" / record.FOLDER):
            shutil.rmtree(here.home / "gone", ignore_errors=True)
        return look(path)

    monkeypatch.setattr(os, "scandir", late)
    assert limit.trim(Settings(here.home, "", "", artifacts_url=url, cache_gb=1e-9)) == ["old1"]


def test_a_deletion_that_did_not_reach_the_bucket_goes_on_by_gc(
    url: str, here: Share, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(here.home, "", f"sqlite:///{tmp_path}/shared.db", artifacts_url=url)
    client = Client(settings)
    for run in ("run1", "run2"):
        client.store.create(run, run, {"model": "m"}, "hash")
        client.cancel(run)
        write(here, {"documents/a.md": b"A"}, run=run)
        publish(here, "submit", 1, "documents", run=run)
    elsewhere = Client(dataclasses.replace(settings, home=tmp_path / "elsewhere"))
    elsewhere.room.remove(elsewhere.find("run2"))
    assert here.bucket.names() == ["run1"]
    delete = Bucket.delete
    monkeypatch.setattr(Bucket, "delete", lambda *_: (_ for _ in ()).throw(OutOfReach("away")))
    with pytest.raises(OutOfReach, match="run1 is deleted, its files aren't yet: away") as told:
        client.room.remove(client.find("run1"))
    assert told.value.hint == "`ftq gc` on this machine deletes them then."
    assert client.all() == [] and here.bucket.names() == ["run1"]
    monkeypatch.setattr(Bucket, "delete", delete)
    assert [path.name for path, _ in client.room.leftovers() if path.is_relative_to(here.home)] == [".run1.deleted"]
    monkeypatch.setattr(disk, "UNTOUCHED", -1)  # a stage may have been at work in the copy until then
    there = [path for path, _ in client.room.leftovers() if path.is_relative_to(here.home)]
    leftovers = [(path.name, why(path, here.home)) for path in there]
    assert leftovers == [
        (".run1.deleted", "a deletion was stopped there"),
        ("run2", "a copy of a run that was deleted"),
    ]
    for name, _ in leftovers:
        client.room.clear(here.home / name)
    assert here.bucket.names() == [] and not list(here.home.iterdir())
    client.close()
    elsewhere.close()


# ---- what a person sees ---------------------------------------------------------------------------------


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[BucketServer]:
    """A server of the test's own; the person's FTQ_HOME has nothing of what it holds."""
    with own_server("away", monkeypatch) as server:
        yield server


def test_the_documented_line_makes_a_bucket_that_can_be_used(
    away: BucketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parent.parent / "docs" / "object-storage.md").read_text()
    (line,) = re.findall(r'^python -c "(.+mkdir.+)"$', page, re.M)
    (url,) = re.findall(r"^export FTQ_ARTIFACTS_URL=(\S+)$", page, re.M)
    subprocess.run([sys.executable, "-c", line], check=True)
    monkeypatch.setenv("FTQ_ARTIFACTS_URL", url)
    assert [finding.level for finding in web.bucket(Settings.from_env())] == ["ok"]


def test_a_client_without_a_bucket_tells_the_same(away: BucketServer) -> None:
    client = Client(Settings.from_env())
    client.store.create("run1", "handbook", parse({"model": "smollm2-135m"}).model_dump(), "hash")
    for stage in STAGES:
        token = client.store.claim("run1", stage, 1, "w1", 60.0)
        assert token
        client.store.succeed(token, None, [])
    client.close()
    away.stop()
    for command in (["infer", "handbook", "Who?"], ["pull", "handbook"], ["logs", "handbook"], ["eval", "handbook"]):
        failed = cli_tools.run(*command)
        assert (failed.exit_code, failed.stdout) == (1, "")
        assert failed.stderr.startswith(f"Error: bucket {away.url} at http://127.0.0.1:{away.port} is unreachable (")
    assert "succeeded" in ok("status", "handbook").stdout and "claimed by w1" in ok("events", "handbook").stdout
    assert ok("retry", "handbook", "--from", "train").stdout


def test_a_report_is_written_only_with_what_the_bucket_has(away: BucketServer, home: Path, tmp_path: Path) -> None:
    client, maker = Client(Settings.from_env()), Share(Bucket(away.url), tmp_path / "maker")
    client.store.create("run1", "handbook", {"model": "m"}, "hash")
    reported.finished(maker.home / "run1")
    for stage in STAGES:
        token = client.store.claim("run1", stage, 1, "w1", 60.0)
        assert token
        client.store.succeed(token, None, [])
        publish(maker, stage, 1, *[path.name for path in RunDir(maker.home / "run1").outputs(stage)])
    client.close()
    away.stop()
    for command in (["report"], ["report", "--to", str(tmp_path / "h.html")], ["compare", "handbook"]):
        failed = cli_tools.run(*command, "handbook")
        assert (failed.exit_code, failed.stdout) == (1, "")
        assert failed.stderr.startswith(f"Error: bucket {away.url} at http://127.0.0.1:{away.port} is unreachable (")
    assert not list(home.rglob("*.html")) and not (tmp_path / "h.html").exists()
    away.start()
    assert "Did it learn?" in Path(ok("report", "handbook").stdout.strip()).read_text()
    away.stop()
    assert "Did it learn?" in Path(ok("report", "handbook").stdout.strip()).read_text()  # all of it is here


def test_a_run_that_waits_has_a_page_on_a_machine_that_has_nothing_of_it(away: BucketServer) -> None:
    client = Client(Settings.from_env())
    client.store.create("run1", "handbook", {"model": "m"}, "hash")
    client.close()
    assert "The run is queued" in Path(ok("report", "handbook").stdout.strip()).read_text()


def test_who_follows_a_log_waits_for_the_bucket(away: BucketServer, monkeypatch: pytest.MonkeyPatch) -> None:
    client, bucket = Client(Settings.from_env()), Bucket(away.url)
    client.store.create("run1", "handbook", {"model": "m"}, "hash")
    bucket.write("run1/logs/prepare.1/000000000000", b"one\n")
    away.stop()
    unreachable = f"bucket {away.url} at http://127.0.0.1:{away.port} is unreachable ("
    failed = cli_tools.run("logs", "handbook")
    assert (failed.exit_code, failed.stdout, failed.stderr.startswith(f"Error: {unreachable}")) == (1, "", True)

    def goes_on() -> None:
        bucket.write("run1/logs/prepare.1/000000000004", b"two\n")
        away.stop()

    def ends() -> None:
        away.start()
        bucket.write("run1/logs/train.1/000000000000", b"three\n")
        client.cancel("run1")

    monkeypatch.setattr("ftq.files.remote.logs.LOOK_SECONDS", 0)
    monkeypatch.setattr("ftq.files.remote.kinds.silence.SILENT_SECONDS", PATIENCE)  # it refuses, and isn't silent
    steps: list[Callable[[], object]] = [lambda: None, away.start, goes_on, lambda: None, ends, lambda: None]
    instead_of_sleep(monkeypatch, lambda seconds: steps.pop(0)())
    result = ok("logs", "handbook", "-f")
    monkeypatch.undo()
    client.close()
    assert (result.stdout, steps) == ("one\ntwo\nthree\n", [])
    assert result.stderr.count(f"Note: {unreachable}") == result.stderr.count("Ctrl-C ends the waiting.") == 2


# ---- what is wrong with it ------------------------------------------------------------------------------


class Closed(http.server.BaseHTTPRequestHandler):
    """A server that lets nobody in, as each kind says it."""

    kind = "s3"
    words: ClassVar = {
        "s3": b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>",
        "az": b"<Error><Code>AuthorizationFailure</Code><Message>not authorized</Message></Error>",
        "gs": b'{"error": {"code": 403, "message": "no storage.objects.list access"}}',
    }

    def _refuse(self) -> None:
        text = self.words[self.kind]
        self.send_response(403)
        self.send_header("Content-Type", "application/json" if self.kind == "gs" else "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_PUT = do_HEAD = do_POST = _refuse

    def log_message(self, *_: Any) -> None:
        pass


BROKEN = ["missing", "closed", "refused", "silent", "no credentials"]


@pytest.fixture(
    params=[
        *(("s3", how) for how in BROKEN),
        ("file", "no folder"),
        *(pytest.param((kind, how), marks=long) for kind in ("az", "gs") for how in BROKEN),
        *(pytest.param(("ceph", how), marks=long) for how in ("missing", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")),
        pytest.param(("ceph", "wrong clock"), marks=long),
    ],
    ids="-".join,
)
def broken(
    request: pytest.FixtureRequest,
    servers: Callable[[str], BucketServer],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[tuple[str, str, str]]:
    """(URL, what is said of it, what to do)."""
    kind, how = request.param
    if kind == "file":
        yield f"file://{tmp_path}/nonesuch", "there is no such folder", "Mount its disk"
        return
    server = servers(kind)
    kind = server.url.partition(":")[0]
    here, who, server_is = server.environment, CREDENTIALS[kind].split(" ", 1)[0], f"127.0.0.1:{server.port}"
    for name, value in here.items():
        monkeypatch.setenv(name, value)
    if how == "missing":
        make = "s3fs.S3FileSystem().mkdir('nonesuch')" if kind == "s3" else "or make it"
        yield f"{kind}://nonesuch/x", "there is no bucket nonesuch", make
    elif how in here:
        monkeypatch.setenv(how, "other")
        code = {"AWS_ACCESS_KEY_ID": "InvalidAccessKeyId", "AWS_SECRET_ACCESS_KEY": "SignatureDoesNotMatch"}[how]
        yield server.url, f"is closed ({code})", who
    elif how == "wrong clock":
        ahead, now = timedelta(hours=2), botocore.auth.get_current_datetime
        monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *told, **named: now(*told, **named) + ahead)
        yield server.url, "is closed: this machine's clock is wrong (RequestTimeTooSkewed)", "timedatectl set-ntp true"
    elif how == "no credentials":
        for name in here:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("HOME", str(tmp_path))
        yield server.url, "no credentials", LOGIN if kind == "gs" else who
    else:
        with answering(how, kind) as port:
            for name, value in here.items():
                monkeypatch.setenv(name, value.replace(server_is, f"127.0.0.1:{port}"))
            said = "is closed" if how == "closed" else "is unreachable"
            yield server.url, said, "AWS_ENDPOINT_URL" if kind == "s3" and how != "closed" else who


@contextmanager
def answering(how: str, kind: str) -> Iterator[int]:
    """A port where nobody listens, where nobody answers, or where a server refuses everybody."""
    if how == "refused":
        yield free_port()
    elif how == "silent":
        with socket.create_server(("127.0.0.1", 0)) as listening:
            yield listening.getsockname()[1]
    else:
        httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Refusing", (Closed,), {"kind": kind}))
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield httpd.server_port
        httpd.shutdown()
        httpd.server_close()


def test_submit_and_doctor_tell_within_five_seconds(
    broken: tuple[str, str, str], documents: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, said, fix = broken
    if said != "is unreachable" and fix != LOGIN:  # the server answers, as soon as a busy machine lets it
        give_time(monkeypatch)
    monkeypatch.setenv("FTQ_ARTIFACTS_URL", url)
    settings = Settings.from_env()
    began = time.monotonic()
    finding, *others = web.bucket(settings)
    assert time.monotonic() - began < SECONDS
    assert (finding.check, finding.level, others) == ("bucket", "problem", [])
    assert said in finding.message and fix in finding.fix
    client = Client(settings)
    began = time.monotonic()
    with pytest.raises(OutOfReach) as error:
        client.submit({"model": "smollm2-135m", "documents": str(documents)})
    assert time.monotonic() - began < SECONDS
    assert said in error.value.message
    assert error.value.is_lasting == (said not in ("is unreachable", "there is no such folder"))
    assert client.all() == [] and not home.exists()
    client.close()


@pytest.mark.parametrize(
    ("theirs", "ours", "message", "fix"),
    [
        ("s3://models/ftq", "s3://models", "FTQ_ARTIFACTS_URL=s3://models, but worker w1 keeps the files in "
         "s3://models/ftq", "export FTQ_ARTIFACTS_URL=s3://models/ftq"),
        ("s3://models/ftq", "", "FTQ_ARTIFACTS_URL isn't set here, but worker w1 keeps the files in s3://models/ftq",
         "export FTQ_ARTIFACTS_URL=s3://models/ftq"),
        ("", "s3://models", "FTQ_ARTIFACTS_URL=s3://models, but worker w1 shares a folder and no bucket",
         "Unset FTQ_ARTIFACTS_URL here, or set it there too."),
    ],
)  # fmt: skip
def test_a_machine_with_another_bucket_than_the_workers_is_told(
    theirs: str, ours: str, message: str, fix: str, documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By submit, by doctor, and by a worker that would take the others' runs."""
    if ours:
        monkeypatch.setenv("FTQ_ARTIFACTS_URL", ours)
    client = Client(Settings.from_env())
    client.store.see_worker("w1", "host", ["cpu", "gpu", "ask"], None, 1, {"bucket": theirs})
    with pytest.raises(UserError) as error:
        client.submit({"model": "smollm2-135m", "documents": str(documents)})
    assert (error.value.message, error.value.hint) == (message, fix)
    assert client.all() == []
    found = list(workers(client.settings, ask=lambda *_: {"w1"}))
    assert [(one.message, one.fix) for one in found if one.level == "problem"] == [(message, fix)]
    monkeypatch.setattr(worker, "WORKER_SILENCE", 0.0)
    monkeypatch.setattr(worker, "protect_files", lambda: None)  # it is for the whole process
    with pytest.raises(UserError) as error:
        worker._start(["cpu"], None, None)
    assert (error.value.message, error.value.hint) == (message, fix)
    client.close()


def test_workers_of_an_earlier_version_and_those_that_are_gone_name_no_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTQ_ARTIFACTS_URL", "s3://models")
    client = Client(Settings.from_env())
    client.store.see_worker("w1", "host", ["cpu"], None, 1, {"owner_limit": 0})
    assert other_bucket(client.store.workers(), "s3://models") is None
    client.close()


def test_a_whole_bucket_is_told_too(url: str) -> None:
    (finding,) = web.bucket(Settings(Path("x"), "", "", artifacts_url=url))
    assert (finding.level, finding.message) == ("ok", f"{url} takes files and gives them back")
    assert Bucket(url).names() == []


@pytest.mark.parametrize(
    "url",
    ["bucket/x", "s3://", "s3:///x", "file://x/y", "file:///", "s3://b/../c", "s3://b/x?y", "s3://key:secret@b/x"],
)
def test_a_malformed_url_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="FTQ_ARTIFACTS_URL") as error:
        Settings.from_env({"FTQ_ARTIFACTS_URL": url})
    assert "secret" not in error.value.text


@pytest.mark.parametrize(
    ("kind", "package", "file"), [("s3", "s3fs", "cluster"), ("gs", "gcsfs", "google"), ("az", "adlfs", "azure")]
)
def test_a_missing_package_names_what_to_install(
    kind: str, package: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"{package} isn't installed here") as error:
        Bucket(f"{kind}://b/x").probe()
    assert error.value.hint == f"pip install -r requirements/{file}.txt   (or: pip install 'ftq[{kind}]')"
    assert (Path(__file__).parent.parent / "requirements" / f"{file}.txt").is_file()


def test_an_unknown_kind_of_bucket_is_told() -> None:
    with pytest.raises(UserError, match="no such kind of bucket"):
        Bucket("foo://b/x").probe()


def test_an_entry_of_another_part_is_read_there() -> None:
    entry = Entry("checkpoints/1/a", 1, sha256_of(Path(__file__)), "checkpoints-1.2")
    manifest = Manifest("run1", "checkpoints-2", 2, (entry,))
    assert manifest.key(entry) == "run1/checkpoints-1.2/checkpoints/1/a"
    assert Manifest.from_bytes(manifest.to_bytes(), "run1", "checkpoints-2", 2) == manifest


def test_a_name_that_is_too_long_for_the_bucket_is_refused(here: Share) -> None:
    with pytest.raises(FtqError, match="too long for the bucket"):
        Upload(here.bucket, "run1", "submit", 1, {"d/" * 600 + "x": Path(__file__)})
