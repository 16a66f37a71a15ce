"""Somebody names another bucket than the queue's, none, or another server than the workers: no file is lost by that."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftq.client.bucket import unknown
from ftq.client.client import Client
from ftq.doctor import web
from ftq.doctor.workers import workers
from ftq.errors import Refused, UserError
from ftq.files import disk
from ftq.files.remote.bucket import Bucket
from ftq.files.remote.kinds.errors import Misnamed
from ftq.files.remote.share import Share, share_of
from ftq.files.remote.transfer import Move
from ftq.files.run_dir import STAGES, RunDir
from ftq.settings import Settings
from ftq.store.records import Run
from ftq.store.store import RunStore
from tests import cli_tools, reported
from tests.bucket_server import BucketServer
from tests.ceph_server import CephServer
from tests.cli_tools import ok
from tests.tools import give_time
from worker.attempt.remote.exchange import Exchange, Missing
from worker.attempt.watch import Watch
from worker.host import worker

URL = "FTQ_ARTIFACTS_URL"
OTHERS = ["s3://bucket/other", "s3://nonesuch/ftq", ""]  # another prefix, a bucket that isn't there, none


@pytest.fixture(params=[BucketServer, pytest.param(CephServer, marks=pytest.mark.long)], scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[BucketServer]:
    server: BucketServer = request.param("bucket")
    yield server
    server.close()


@pytest.fixture
def bucket(running: BucketServer, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[BucketServer]:
    """A bucket that is empty; the environment names it. Nobody gives it up for being slow."""
    give_time(monkeypatch)
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    yield running
    for key in list(running.keys()):
        running.client.delete_object(Bucket=running.bucket, Key=f"ftq/{key}")


@pytest.fixture
def run(bucket: BucketServer, documents: Path) -> Run:
    """A finished run, submitted and made on machines that this one shares nothing with but the database.

    It isn't the latest of its name, which `ftq gc` would spare.
    """
    options = ["--model", "smollm2-135m", "--documents", str(documents), "--set", "promote=never"]
    ok("submit", *options, "--name", "handbook")
    client = Client(Settings.from_env())
    run = client.find("handbook")
    make(client, run, documents.parent / "there")
    client.close()
    return run


def make(client: Client, run: Run, home: Path) -> None:
    """Have all that the stages make in the bucket, and in the database that they have succeeded."""
    folder = RunDir(home / run.id)
    reported.finished(folder.path)
    folder.log("train").parent.mkdir()
    for stage in STAGES:
        token = client.store.claim(run.id, stage, 1, "w1", 60.0)
        assert token
        share = Share(Bucket(client.settings.artifacts_url), home, client.store.identity)
        share.upload(run.id, stage, 1, [path.name for path in folder.outputs(stage)]).go(Move())
        share.bucket.write(f"{run.id}/logs/{stage}.1/000000000000", b"line\n")
        client.store.succeed(token, None, folder.artifacts(stage))


def refused(error: str, hint: str, *command: str) -> None:
    failed = cli_tools.run(*command)
    assert (failed.exit_code, failed.stderr) == (failed.exit_code or 1, f"Error: {error}\n{hint}\n"), command
    assert not failed.stdout


def named(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name this bucket; how messages say so."""
    monkeypatch.setenv(URL, url)
    return f"{URL}={url}" if url else f"{URL} isn't set here"


# ---- deleting -------------------------------------------------------------------------------------------


def test_a_run_is_deleted_only_where_its_files_are(
    run: Run, bucket: BucketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = bucket.keys()
    for url in OTHERS:
        error = f"{named(url, monkeypatch)}, but the files of handbook are in {bucket.url}"
        for command in (["rm", "handbook"], ["gc", "--last", "0"]):
            refused(error, f"export {URL}={bucket.url}", *command, "--yes")
        refused(error, f"export {URL}={bucket.url}", "gc", "--last", "0", "--dry-run")
        client = Client(Settings.from_env())
        for delete in (client.room.remove, client.models.delete):
            with pytest.raises(Refused, match=re.escape(error)):
                delete(client.find("handbook"))
        client.close()
    assert bucket.keys() == before and [one.version for one in Client(Settings.from_env()).all()] == [1]
    monkeypatch.setenv(URL, bucket.url)
    assert "Deleted 1 run." in ok("gc", "--last", "0", "--yes").stderr
    assert bucket.keys() == []


@pytest.mark.parametrize("url", ["s3://bucket/other", ""])
def test_a_run_of_an_earlier_version_is_deleted_only_in_the_bucket_of_the_workers(
    url: str, bucket: BucketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(Settings.from_env())
    client.store.create("run1", "handbook", {"model": "m"}, "hash")
    client.cancel("handbook")
    client.store.see_worker("w1", "host", ["cpu"], None, 1, {"bucket": bucket.url})
    error = f"{named(url, monkeypatch)}, but worker w1 keeps the files in {bucket.url}"
    for command in (["rm", "handbook", "--yes"], ["gc", "--last", "0", "--yes"]):
        refused(error, f"export {URL}={bucket.url}", *command)
    assert [run.name for run in client.all()] == ["handbook"]
    client.close()


def test_what_was_copied_to_another_bucket_is_deleted_there(
    run: Run, bucket: BucketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = f"s3://{bucket.bucket}/ftq/new"
    for key in list(bucket.keys()):
        source = {"Bucket": bucket.bucket, "Key": f"ftq/{key}"}
        bucket.client.copy_object(Bucket=bucket.bucket, Key=f"ftq/new/{key}", CopySource=source)
    monkeypatch.setenv(URL, new)
    assert ok("logs", "handbook", "--stage", "train").stdout == "line\n"
    ok("rm", "handbook", "--yes")
    assert bucket.keys("new/") == []


def test_gc_leaves_old_runs_in_an_earlier_bucket_alone(
    run: Run, bucket: BucketServer, documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, new = bucket.keys(run.id), f"s3://{bucket.bucket}/ftq/new"
    monkeypatch.setenv(URL, new)
    ok("submit", "--model", "smollm2-135m", "--documents", str(documents), "--name", "new")
    ok("cancel", "new")
    told = ok("gc", "--last", "0", "--yes").stderr
    assert f"Spared: {URL}={new}, but the files of handbook are in {bucket.url}." in told
    assert "Deleted 1 run." in told and bucket.keys("new/") == [] and bucket.keys(run.id) == before


def test_gc_says_that_the_bucket_is_out_of_reach(home: Path, documents: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without an old run; what waits to be deleted stays."""
    server = BucketServer("away")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    client = Client(Settings.from_env())
    client.store.create("run1", "handbook", {"model": "m"}, "hash")
    client.cancel("handbook")
    mark = home / ".gone1.deleted"
    mark.mkdir()
    server.stop()
    for last in ("0", "10"):
        for how in ("--yes", "--dry-run"):
            failed = cli_tools.run("gc", "--last", last, how)
            assert (failed.exit_code, failed.stdout) == (1, "")
            assert failed.stderr.startswith(f"Error: bucket {server.url} at http://127.0.0.1:{server.port} is unreach")
    assert mark.is_dir() and [run.name for run in client.all()] == ["handbook"]
    server.start()
    ok("gc", "--yes")
    assert not mark.exists()
    client.close()
    server.close()


# ---- runs that the database doesn't know ----------------------------------------------------------------


@pytest.fixture
def strays(run: Run, bucket: BucketServer, documents: Path, tmp_path: Path) -> dict[str, list[str]]:
    """{what: the keys} of all that the bucket has."""
    keys = {"known": bucket.keys()}

    def new(what: str) -> None:
        keys[what] = [key for key in sorted(bucket.keys()) if all(key not in known for known in keys.values())]

    client = Client(Settings.from_env())
    ok("submit", "--model", "smollm2-135m", "--documents", str(documents), "--name", "lost")
    client.store.delete(client.find("lost").id)  # and another machine had its mark
    new("ours")
    other = Client(Settings.from_env({**bucket.environment, "FTQ_HOME": str(tmp_path / "other")}))
    other.submit({"model": "smollm2-135m", "documents": str(documents)})
    other.close()
    new("another's")
    earlier = Share(Bucket(bucket.url), tmp_path / "earlier")
    (earlier.home / "abcd2345" / "documents").mkdir(parents=True)
    (earlier.home / "abcd2345" / "documents" / "a.md").write_text("A")
    earlier.upload("abcd2345", "submit", 1, ["documents"]).go(Move())
    new("an earlier version's")
    Bucket(bucket.url).write("efgh2345/submit.1/documents/a.md", b"A")
    new("one that is on its way")
    Bucket(bucket.url).write("notes/a.md", b"A")
    new("no run")
    client.close()
    return keys


def test_gc_deletes_a_run_in_the_bucket_that_this_database_has_forgotten(
    strays: dict[str, list[str]], bucket: BucketServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of another database, and what may be one's only if somebody says that there is none."""
    everything = sorted(bucket.keys())
    for folder in home.iterdir():  # this machine has nothing of it
        if folder.is_dir():
            folder.rename(home.parent / folder.name)
    assert "Nothing to delete" in ok("gc", "--yes").stderr  # all of it is new
    monkeypatch.setattr(unknown, "GRACE_SECONDS", -600.0)
    (lost,) = {key.partition("/")[0] for key in strays["ours"]}
    shown = ok("gc", "--dry-run")
    assert re.fullmatch(
        rf"\.{lost}\.unknown  a run in the bucket that the database doesn't know  \d+ B\n", shown.stdout
    )
    assert f"{bucket.url} has 2 runs that the database doesn't know, and nothing says whose: abcd2345 (" in shown.stderr
    assert "`ftq gc --orphans` deletes them too" in shown.stderr and sorted(bucket.keys()) == everything
    assert "Deleted 0 runs and 1 leftover." in ok("gc", "--yes").stderr
    assert sorted(bucket.keys()) == [key for key in everything if key not in strays["ours"]]
    assert "Deleted 0 runs and 2 leftovers." in ok("gc", "--yes", "--orphans").stderr
    assert sorted(bucket.keys()) == sorted([*strays["known"], *strays["another's"], *strays["no run"]])


def test_a_copy_of_another_databases_run_goes_without_the_run(
    strays: dict[str, list[str]], bucket: BucketServer, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One machine with two databases, and one FTQ_HOME for both. A stage of the other's may be at work in it."""
    (other,) = {key.partition("/")[0] for key in strays["another's"]}
    (tmp_path / "other" / other).rename(home / other)
    ok("gc", "--yes")
    assert (home / other).exists()
    monkeypatch.setattr(disk, "UNTOUCHED", -1)
    ok("gc", "--yes")
    assert not (home / other).exists() and set(strays["another's"]) <= set(bucket.keys())


def test_gc_through_a_server_leaves_orphans_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTQ_SERVER", "http://127.0.0.1:1")
    failed = cli_tools.run("gc", "--orphans")
    assert "`ftq gc --orphans` goes where the database is." in failed.stderr and failed.exit_code


# ---- reading --------------------------------------------------------------------------------------------


def test_who_reads_with_another_bucket_is_told_of_the_runs_own(
    run: Run, bucket: BucketServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(Settings.from_env())
    client.store.see_worker("w1", "host", ["ask"], None, 1)  # of a version that tells no bucket
    client.close()
    (home / run.id).rename(home.parent / "aside")  # this isn't the machine that submitted
    for url in OTHERS:
        error = f"{named(url, monkeypatch)}, but the files of handbook are in {bucket.url}"
        for command in ("pull", "logs", "logs -f", "logs --stage train", "eval", "report", "compare handbook"):
            refused(error, f"export {URL}={bucket.url}", *command.split(), "handbook")
        asked = cli_tools.run("infer", "handbook", "Who?")
        assert asked.exit_code and asked.stderr.endswith(f"export {URL}={bucket.url}\n"), asked.stderr
        assert error in " ".join(ok("status", "handbook").stdout.split())
        for listed in (
            [json.loads(ok("status", "handbook", "--json").stdout)],
            json.loads(ok("status", "--json").stdout),
        ):
            paths = [one["path"] for one in listed[0]["artifacts"]]
            assert f"{bucket.url}/{run.id}/export.1/model-q8_0.gguf" in paths
            assert all(path.startswith(bucket.url) for path in paths)
    monkeypatch.setenv(URL, bucket.url)
    assert ok("logs", "handbook", "--stage", "train").stdout == "line\n"
    assert "next: ftq infer" in ok("status", "handbook").stdout


def test_a_machine_that_has_the_files_reads_them_without_the_bucket(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, "")
    assert f"{URL} isn't set here" in ok("status", "handbook").stdout
    (home.parent / "there" / run.id / "model-f16.gguf").rename(home / run.id / "model-f16.gguf")
    assert "next: ftq infer" in ok("status", "handbook").stdout


# ---- what is wrong with the bucket ----------------------------------------------------------------------


def test_the_line_that_is_told_makes_the_bucket(bucket: BucketServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL, f"s3://{bucket.bucket}-new/ftq")
    (finding,) = web.bucket(Settings.from_env())
    said, line = finding.fix.splitlines()
    assert (finding.level, said) == ("problem", f"Correct {URL}, or make the bucket:")
    subprocess.run(line, shell=True, check=True)
    assert [finding.level for finding in web.bucket(Settings.from_env())] == ["ok"]
    bucket.client.delete_bucket(Bucket=f"{bucket.bucket}-new")


def test_a_run_that_goes_to_another_bucket_than_the_last_one_is_noted(
    run: Run, bucket: BucketServer, documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless a worker that is up uses that one: then it was meant."""
    error = f"{named('s3://bucket/other', monkeypatch)}, but the files of handbook are in {bucket.url}"
    note = f"{error.replace('handbook', 'the last run')}: if that wasn't meant, `ftq rm second`, export"
    submit = ("submit", "--model", "smollm2-135m", "--documents", str(documents), "--name")
    assert note in ok(*submit, "second").stderr
    ok("rm", "second", "--yes")
    client = Client(Settings.from_env())
    client.store.see_worker("w1", "host", ["cpu"], None, 1, {"bucket": "s3://bucket/other"})
    assert "wasn't meant" not in ok(*submit, "third").stderr
    ok("rm", "third", "--yes")
    client.close()


@pytest.mark.parametrize("known", ["a worker that is up", "a worker that is gone", "a run"])
def test_nobody_is_told_to_make_a_bucket_where_the_right_one_is_known(
    known: str, bucket: BucketServer, documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(Settings.from_env())
    if known == "a run":
        client.submit({"model": "smollm2-135m", "documents": str(documents)})
    else:
        client.store.see_worker("w1", "host", ["cpu"], None, 1, {"bucket": bucket.url})
        client.store.drain_worker("w1", known == "a worker that is gone")
    monkeypatch.setenv(URL, "s3://nonesuch/ftq")
    fix = f"export {URL}={bucket.url}"
    (finding,) = web.bucket(Settings.from_env())
    assert finding.fix == f"The files of the runs are in {bucket.url}: {fix}"
    with pytest.raises((Misnamed, UserError)) as error:
        Client(Settings.from_env()).submit({"model": "smollm2-135m", "documents": str(documents)})
    assert error.value.hint.endswith(fix)
    found = [one for one in workers(Settings.from_env(), ask=lambda *_: set()) if fix in one.fix]
    assert [one.level for one in found] == {"a worker that is up": ["problem"], "a run": ["warning"]}.get(known, [])
    client.close()


def test_the_server_of_the_workers_is_named(
    bucket: BucketServer, documents: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without AWS_ENDPOINT_URL the bucket is looked for at Amazon's: a local server stands for it here."""
    client, theirs = Client(Settings.from_env()), bucket.environment["AWS_ENDPOINT_URL"]
    client.store.see_worker("w1", "host", ["cpu"], None, 1, {"bucket": bucket.url, "endpoint": theirs})
    for here, said in (
        ("", "AWS_ENDPOINT_URL isn't set here"),
        ("http://127.0.0.1:1", "AWS_ENDPOINT_URL=http://127.0.0.1:1"),
    ):
        monkeypatch.setenv("AWS_ENDPOINT_URL", here)
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
        hint = f"{said}, but worker w1 reaches this bucket through {theirs}: export AWS_ENDPOINT_URL={theirs}"
        (finding,) = web.bucket(Settings.from_env())
        assert finding.fix.startswith(f"{hint}\n")
        failed = cli_tools.run("submit", "--model", "smollm2-135m", "--documents", str(documents))
        assert failed.exit_code and f"\n{hint}\n" in failed.stderr
        worker._try_bucket(Settings.from_env(), ["cpu"])  # it waits
        assert f"this worker waits for it. {hint}\n" in capsys.readouterr().err
    client.close()


def test_a_stage_that_finds_nothing_names_the_runs_bucket(
    run: Run, bucket: BucketServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker with another prefix, the first that is up, takes the run."""
    monkeypatch.setenv(URL, "s3://bucket/other")
    settings = dataclasses.replace(Settings.from_env(), home=tmp_path / "worker")
    store = RunStore(settings.database_url)
    token = store.retry(run.id, "prepare") and store.claim(run.id, "prepare", 2, "w1", 60.0)
    assert token
    watch = Watch(store, settings, token, time.monotonic(), lambda *_: None)
    with pytest.raises(Missing) as error:
        Exchange(share_of(settings, database=store.identity), settings, store, watch).fetch_submitted(run)
    assert error.value.hint == (
        f"It went to {bucket.url}, and this worker has {URL}=s3://bucket/other: correct that. `ftq retry RUN`"
    )
    store.close()


def test_what_an_earlier_version_recorded_says_nothing(home: Path) -> None:
    home.mkdir()
    store = RunStore(f"sqlite:///{home}/ftq.db")
    store.create("run1", "handbook", {"model": "m"}, "hash")
    store.create("run2", "manual", {"model": "m"}, "hash", bucket="")
    assert store.buckets(["run1", "run2", "run3"]) == {"run2": ""}
    assert store.known(["run1", "run3"]) == {"run1"}
    store.close()
