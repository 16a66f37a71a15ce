"""What the client and the queue cost, side by side with doing the same without them. `make bench`.

Every number is the median of several rounds. Where something is compared, both sides are measured in turns, so that
a machine that is busy for a moment slows both. The stages are those of tests/fake_stages: real processes that do
next to nothing, so what is left is the queue's own time.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ftq.client.client import Client
from ftq.files.run_dir import STAGES, RunDir
from ftq.settings import Settings
from ftq.spec.options import parse
from ftq.store.records import Run
from worker.host import broker

ROUNDS, QUEUE_ROUNDS = 11, 7
RUNS, DOCUMENTS = 1000, 1000
FTQ = str(Path(sys.executable).with_name("ftq"))
PYTHON = [sys.executable, "-c", "pass"]


@dataclass
class Row:
    """Seconds: the median of the rounds, the quickest and the slowest, and the bar."""

    name: str
    seconds: list[float]
    bar: float

    def __str__(self) -> str:
        median = statistics.median(self.seconds)
        verdict = "" if median <= self.bar else "  MISSED"
        spread = f"{min(self.seconds):.3f} to {max(self.seconds):.3f}"
        return f"| {self.name} | {median:.3f} s | {spread} | {self.bar} s |{verdict}"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ftq-bench-") as folder:
        rows = list(measure(Path(folder)))
    print("| what | median | quickest to slowest | bar |\n|---|---|---|---|")
    print("\n".join(map(str, rows)))
    sys.exit(any(statistics.median(row.seconds) > row.bar for row in rows))


def measure(folder: Path) -> Iterator[Row]:
    yield Row("`ftq --help`, less bare `python -c pass`", help_over_python(), 0.15)
    yield Row(f"`ftq status` over {RUNS:,} runs", status(folder / "status"), 0.6)
    with served(folder / "queue") as client:
        yield Row(f"`ftq submit` of {DOCUMENTS:,} documents", submit(client, folder), 1.5)
        with worker(client):
            to_start, overhead = through_the_queue(client, folder)
        yield Row("from submitted to the first stage's process", to_start, 0.3)
        yield Row("a run of five stages, less the same five processes by hand", overhead, 2.0)


def help_over_python() -> list[float]:
    taken([FTQ, "--help"])  # the first one compiles
    return [taken([FTQ, "--help"]) - taken(PYTHON) for _ in range(ROUNDS)]


def status(home: Path) -> list[float]:
    client = Client(settings(home))
    spec = parse({"model": "qwen3-4b"}).model_dump()
    for number in range(RUNS):
        client.store.create(f"r{number:04}", f"qwen3-4b-{number}", spec, "")
    client.close()
    return [taken([FTQ, "status"], home) for _ in range(ROUNDS)]


def submit(client: Client, folder: Path) -> list[float]:
    """With a broker, without a worker; each run is cancelled so that the worker finds nothing to do."""
    documents = folder / "documents"
    documents.mkdir()
    for number in range(DOCUMENTS):
        (documents / f"{number}.md").write_text(f"# Document {number}\n\n" + "A sentence of some words. " * 40)
    command = [FTQ, "submit", "--model", "qwen3-4b", "--documents", str(documents)]
    seconds = [taken(command, client.settings.home) for _ in range(ROUNDS)]
    for run in client.all():
        client.cancel(run.id)
    return seconds


def through_the_queue(client: Client, folder: Path) -> tuple[list[float], list[float]]:
    """(from the event submitted to the event started, a whole run less its processes by hand)."""
    to_start, overhead = [], []
    for number in range(QUEUE_ROUNDS + 1):
        documents = folder / f"documents-{number}"  # of its own, or the cache would answer
        documents.mkdir()
        (documents / "a.md").write_text(f"# Document {number}\n\nIt has one sentence of some words.\n")
        taken([FTQ, "submit", "--model", "qwen3-4b", "--documents", str(documents)], client.settings.home)
        run = client.all(limit=1)[0]
        finished = finish(client, run)
        at = {event.kind: event.at for event in reversed(client.store.events(run.id))}
        to_start.append(at["started"] - at["submitted"])
        overhead.append((finished.finished_at or 0.0) - finished.created_at - by_hand(client, run, folder))
    return to_start[1:], overhead[1:]  # the first one warms the worker


def finish(client: Client, run: Run) -> Run:
    *_, finished = client.follow(run.id, seconds=0.05)
    if finished.status != "succeeded":
        raise RuntimeError(f"run {run.id} {finished.status}: {finished.error}")
    return finished


def by_hand(client: Client, run: Run, folder: Path) -> float:
    """The same four processes one after the other, in a copy of the run's folder."""
    copy = folder / f"copy-{run.id}"
    shutil.copytree(client.run_dir(run.id).documents, RunDir(copy).documents)
    shutil.copy(client.run_dir(run.id).run_json, copy)
    return sum(taken([sys.executable, "-m", f"tests.fake_stages.{stage}", str(copy)]) for stage in STAGES)


@contextmanager
def served(home: Path) -> Iterator[Client]:
    """A client whose embedded broker runs."""
    client = Client(settings(home))
    server = broker.start(client.settings)
    try:
        yield client
    finally:
        client.close()
        if server:
            server.terminate()
            server.wait(10)


@contextmanager
def worker(client: Client) -> Iterator[None]:
    """A worker with the fake stages, up when the block begins."""
    log = (client.settings.home / "worker.log").open("wb")
    command = [sys.executable, "-m", "tests.fake_worker"]
    process = subprocess.Popen(command, env=environment(client.settings.home), stdout=log, stderr=log)
    try:
        until = time.monotonic() + 30
        while not {"cpu", "gpu"} <= client.store.live_queues() and time.monotonic() < until:
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def taken(command: list[str], home: Path | None = None) -> float:
    """Wall seconds of a command that has to succeed."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(home))
    return time.perf_counter() - began


def settings(home: Path) -> Settings:
    return Settings.from_env({"FTQ_HOME": str(home)})


def environment(home: Path | None) -> dict[str, str]:
    mine = {name: value for name, value in os.environ.items() if not name.startswith("FTQ_")}
    return mine | ({"FTQ_HOME": str(home)} if home else {})


if __name__ == "__main__":
    main()
