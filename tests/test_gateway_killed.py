"""A gateway that is killed a hundred times while clients use it: nothing is lost, and nothing is made twice."""

from __future__ import annotations

import hashlib
import random
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from ftq.programs import ServeOptions
from ftq.store.gateway.keys import Limits
from gateway.files.storage import Storage
from tests import tools
from tests.deaths import age
from tests.gateway_tools import FORM, ROWS, multipart, strictly
from tests.tools import PATIENCE, free_port, until

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]
KILLS, CLIENTS, JOBS = 100, 3, 12
RETRIES = 1000  # the client's own; the default of two is for a server that is killed once


@dataclass
class Did:
    """What a client was told: its jobs by number, those that it cancelled, its files by name, those that it deleted.

    `sent` are the hashes of the files' bytes.
    """

    jobs: dict[str, str] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    files: dict[str, str] = field(default_factory=dict)
    sent: dict[str, str] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    calls: int = 0


@dataclass
class Once:
    """What a client knows that sends nothing twice: its files' hashes by id, and how often it got no answer."""

    kept: dict[str, str] = field(default_factory=dict)
    unsure: int = 0
    calls: int = 0


class Killer(threading.Thread):
    """Runs a gateway on one port, and kills it at random until that has been done KILLS times."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        super().__init__()
        self._environment, self._log, self._chance = environment, log, random.Random(7)
        self.options = ServeOptions(port=free_port())
        self.url = f"http://127.0.0.1:{self.options.port}"
        self.kills, self.process = 0, self._begun()
        self.longest = 1.0  # seconds that it lives
        self.is_up = threading.Event()  # a gateway listens, and nobody has begun to kill it

    def run(self) -> None:
        while self.kills < KILLS:
            until(lambda: _listens(self.options.port))
            self.is_up.set()
            time.sleep(self._chance.uniform(0, self.longest))
            assert self.process.poll() is None, self._log.read_text()
            self.is_up.clear()
            self.process.kill()
            assert self.process.wait() == -9
            self.kills += 1
            self.process = self._begun()
        self.is_up.set()

    def _begun(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(self.options.argv(), env=self._environment, stderr=log)


def test_killed_a_hundred_times_it_loses_nothing_and_makes_nothing_twice(tmp_path: Path, cache: Path) -> None:
    bench = tools.Bench(tmp_path / "home")
    try:
        bench.start_broker()
        bench.start_worker()
        keys = [bench.client.store.keys.create(f"client {number}", Limits()) for number in range(CLIENTS)]
        with killing(bench, tmp_path / "serve.log") as killer:
            once_key, once = bench.client.store.keys.create("once", Limits()), Once()
            done = [Did() for _ in keys]
            threads = [
                threading.Thread(target=use, args=(killer, key.secret, did, random.Random(number)))
                for number, (key, did) in enumerate(zip(keys, done, strict=True))
            ]
            threads.append(threading.Thread(target=use_once, args=(killer, once_key.secret, once, random.Random(7))))
            killer.longest = warm_up(killer, keys[0].secret)
            for thread in (killer, *threads):
                thread.start()
            for thread in (killer, *threads):
                thread.join()
            assert killer.kills == KILLS
            assert all(len(did.jobs) == JOBS for did in done)
            until(lambda: _listens(killer.options.port))
            for key, did in zip(keys, done, strict=True):
                check_jobs(openai.OpenAI(base_url=f"{killer.url}/v1", api_key=key.secret), did)
        assert bench.client.store.count() == CLIENTS * JOBS
        check_runs(bench, {job for did in done for job in did.cancelled})
        for key, did in zip(keys, done, strict=True):
            check_files(bench, key.key.id, did)
        check_folder(bench)
        check_once(bench, once_key.key.id, once)
    finally:
        bench.close()


@contextmanager
def killing(bench: tools.Bench, log: Path) -> Iterator[Killer]:
    killer = Killer(bench.environment, log)
    try:
        yield killer
    finally:
        killer.process.kill()
        killer.process.wait()


def warm_up(killer: Killer, secret: str) -> float:
    """How long a gateway may live, so that a kill falls into one of a few requests, however slow the machine is."""
    client = openai.OpenAI(base_url=f"{killer.url}/v1", api_key=secret, max_retries=RETRIES)
    began = time.monotonic()
    until(lambda: _listens(killer.options.port))
    listening = time.monotonic()
    client.files.delete(client.files.create(file=("warm", ROWS), purpose="fine-tune").id)
    client.close()
    return max(1.0, 4 * (time.monotonic() - listening), (listening - began) / 2)


def use(killer: Killer, secret: str, did: Did, chance: random.Random) -> None:
    """What a client does for as long as there are kills: files, jobs, polls, and ends of some of them."""
    client = openai.OpenAI(base_url=f"{killer.url}/v1", api_key=secret, max_retries=RETRIES, timeout=60)
    while killer.kills < KILLS or len(did.jobs) < JOBS:
        number = str(len(did.files))
        data = ROWS + b"\n" * int(number) + b" \n" * chance.choice((0, 0, 200_000))
        file = strictly(client.files.create(file=(number, data), purpose="fine-tune"))
        assert file.bytes == len(data)
        did.files[number], did.sent[number] = file.id, _hash(data)
        if len(did.jobs) < JOBS:
            begin(client, file.id, did, chance)
        for job_id in chance.sample(list(did.jobs.values()), 2 if len(did.jobs) > 1 else 0):
            assert client.fine_tuning.jobs.retrieve(job_id).id == job_id
            told = [event.id for event in client.fine_tuning.jobs.list_events(job_id, limit=3)]
            assert len(told) == len(set(told))
        if chance.random() < 0.3:
            name = chance.choice(sorted(set(did.files) - did.deleted))
            assert client.files.delete(did.files[name]).deleted
            did.deleted.add(name)
        did.calls += 1
    client.close()


def use_once(killer: Killer, secret: str, once: Once, chance: random.Random) -> None:
    """Upload and delete; what isn't answered isn't sent again, and may have been done."""
    headers = {**FORM, "authorization": f"Bearer {secret}"}
    while killer.kills < KILLS:
        assert killer.is_up.wait(PATIENCE)  # a gateway that is dying still listens: one answer is lost with each
        with suppress(httpx.TransportError), httpx.Client(base_url=killer.url, headers=headers, timeout=60) as http:
            while killer.kills < KILLS:
                once.unsure += 1
                data = chance.randbytes(chance.choice((10, 100_000, 3_000_000)))
                body = multipart(("purpose", None, b"batch"), ("file", "a", data))
                once.kept[http.post("/v1/files", content=body).json()["id"]] = _hash(data)
                if len(once.kept) > 20 or chance.random() < 0.5:
                    doomed = chance.choice(list(once.kept))
                    del once.kept[doomed]
                    http.delete(f"/v1/files/{doomed}")
                once.unsure -= 1
                once.calls += 1


def begin(client: openai.OpenAI, file: str, did: Did, chance: random.Random) -> None:
    """Create a job, and once more as a retry does; some are paused and resumed, some cancelled."""
    jobs, number = client.fine_tuning.jobs, str(len(did.jobs))
    asked: dict[str, Any] = {"model": "smollm2-135m", "training_file": file, "seed": int(number)}
    asked |= {"hyperparameters": {"n_epochs": 1}, "metadata": {"n": number}}
    job = strictly(jobs.create(**asked))
    assert jobs.create(**asked, extra_headers={"x-stainless-retry-count": "1"}).id == job.id
    did.jobs[number] = job.id
    with suppress(openai.BadRequestError):  # it has succeeded already
        if chance.random() < 0.3:
            jobs.pause(job.id)
            jobs.resume(job.id)
        if chance.random() < 0.3:
            assert jobs.cancel(job.id).status == "cancelled"
            did.cancelled.add(job.id)


def check_jobs(client: openai.OpenAI, did: Did) -> None:
    """Each job is there once under its number, ends as it should, and was told of once."""
    jobs = client.fine_tuning.jobs
    for job_id in did.jobs.values():
        until(lambda job_id=job_id: jobs.retrieve(job_id).finished_at, 300, pause=0.5)
    listed = [strictly(job) for job in jobs.list(limit=5)]
    assert sorted((job.metadata["n"], job.id) for job in listed if job.metadata) == sorted(did.jobs.items())
    for job in listed:
        texts = Counter(event.message for event in jobs.list_events(job.id))
        assert texts[f"Created fine-tuning job: {job.id}"] == 1
        assert job.status == ("cancelled" if job.id in did.cancelled else "succeeded"), job
        done, trained = job.status == "succeeded", any(text.startswith("Step ") for text in texts)
        assert texts["The job has successfully completed"] == done
        assert done <= len(job.result_files) <= trained  # one that was cancelled after its training has its losses
        if job.result_files:
            assert client.files.content(job.result_files[0]).text.startswith("step,train_loss")


def check_runs(bench: tools.Bench, cancelled: set[str]) -> None:
    """No stage ran a second time but for a person's pause."""
    for run in bench.client.all():
        if f"ftjob-{run.id}" not in cancelled:
            pauses = len([event for event in bench.client.store.events(run.id) if event.kind == "paused"])
            assert all(stage.attempt <= 1 + pauses for stage in run.stages), run


def check_files(bench: tools.Bench, owner: str, did: Did) -> None:
    """Every file that was confirmed is there once, as it was sent, and none that was deleted."""
    there = [file for file in bench.client.store.files.page(owner, 10_000) if not file.run_id]
    assert Counter(file.filename for file in there) == Counter(set(did.files) - did.deleted)
    assert {file.id for file in there} == {did.files[file.filename] for file in there}
    storage = Storage(bench.client.store, bench.settings.home)
    assert all(_hash(storage.path(file).read_bytes()) == did.sent[file.filename] for file in there)


def check_once(bench: tools.Bench, owner: str, once: Once) -> None:
    """Every file that was confirmed is there as it was sent; more than these only where an answer was lost."""
    storage = Storage(bench.client.store, bench.settings.home)
    recorded = {file.id: file for file in bench.client.store.files.page(owner, 10_000)}
    assert set(recorded) >= set(once.kept) and once.calls
    assert len(recorded) - len(once.kept) <= once.unsure <= KILLS
    assert all(_hash(storage.path(recorded[file_id]).read_bytes()) == sent for file_id, sent in once.kept.items())


def check_folder(bench: tools.Bench) -> None:
    """After the sweep there are the bytes of what is recorded, and nothing half made."""
    home = bench.settings.home
    for left in [*(home / "files").glob(".*"), *home.glob(".*.partial"), *home.glob("[!.]*/.*.partial")]:
        age(left)
    storage = Storage(bench.client.store, home)
    storage.sweep()
    recorded = {file.id for file in bench.client.store.files.page(None, 100_000)}
    assert {path.name for path in (home / "files").iterdir()} == recorded
    for path, _ in bench.client.room.leftovers():
        bench.client.room.clear(path)
    assert not list(home.rglob("*.partial")) and not list(home.glob("[!.]*/.submitting"))
    assert {path.parent.name for path in home.glob("*/run.json")} == {run.id for run in bench.client.all()}


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _listens(port: int) -> bool:
    """By a bare connection: asking costs the processor that the gateway starts with."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False
