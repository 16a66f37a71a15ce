"""How fast a poll is: `python -m benchmarks.gateway_polls [JOBS] [POLLERS]`.

A gateway of its own on loopback, with so many jobs, is asked by so many clients, each for a job and for its events:
once a second, as clients do, and then without a pause, which measures throughput. Told are the median and the 99th
percentile of what a client waits, the gateway's processor time of a request, and how busy the machine is.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from ftq.client.recording.names import new_id
from ftq.files.run_dir import STAGES, run_dir, write_jsonl
from ftq.programs import ServeOptions
from ftq.settings import Settings
from ftq.spec.options import parse
from ftq.store.gateway.jobs import Job
from ftq.store.gateway.keys import Limits
from ftq.store.store import RunStore
from tests.tools import free_port

SECONDS, STEPS = 10, 300
HEADERS = """\
Accept: application/json\r
Accept-Encoding: gzip, deflate\r
Connection: keep-alive\r
Content-Type: application/json\r
User-Agent: OpenAI/Python 3.57.0\r
X-Stainless-Lang: python\r
X-Stainless-OS: Linux\r
X-Stainless-Package-Version: 3.57.0\r
X-Stainless-Retry-Count: 0\r
"""


def main() -> None:
    jobs, pollers = (int(text) for text in [*sys.argv[1:], "1000", "100"][:2])
    with tempfile.TemporaryDirectory() as folder:
        secret, ids = make(Path(folder), jobs)
        port = free_port()
        environment = {"FTQ_HOME": folder, "PATH": "/usr/bin:/bin"}
        with subprocess.Popen(ServeOptions(port=port).argv(), env=environment, stderr=subprocess.DEVNULL) as server:
            wait_for(f"http://127.0.0.1:{port}")
            for name, pause in (("once a second", 1.0), ("without a pause", 0.0)):
                begun = busy(server.pid)
                waits = asyncio.run(poll(port, secret, ids, pollers, pause))
                tell(name, jobs, pollers, waits, busy(server.pid) - begun)
            server.terminate()


def tell(name: str, jobs: int, pollers: int, waits: list[float], used: float) -> None:
    print(json.dumps({
        "polls": name, "jobs": jobs, "pollers": pollers, "requests_a_second": round(len(waits) / SECONDS),
        "median_ms": round(1000 * statistics.median(waits), 2),
        "p99_ms": round(1000 * waits[len(waits) * 99 // 100], 2),
        "processor_ms_a_request": round(1000 * used / len(waits), 2), "load": round(os.getloadavg()[0], 1),
    }))  # fmt: skip


def make(home: Path, number: int) -> tuple[str, list[str]]:
    """Jobs that have succeeded, each with the events and metrics of a training run."""
    store, ids = RunStore(Settings.from_env({"FTQ_HOME": str(home)}).database_url), list[str]()
    key = store.keys.create("bench", Limits())
    spec = {**parse({"model": "smollm2-135m"}).model_dump(), "documents": "/nowhere"}
    for n in range(number):
        ids.append(run_id := new_id())
        store.jobs.begin(Job(run_id, key.key.id, {"model": "m", "training_file": "f", "metadata": {"n": str(n)}}, 1))
        store.create(run_id, f"run-{n}", spec, "0" * 64, "run", key.key.id)
        folder = run_dir(home, run_id)
        folder.path.mkdir()
        write_jsonl(folder.metrics, [{"step": step, "train_loss": 1.0} for step in range(1, STEPS + 1)])
        for stage in STAGES[: 1 + n % len(STAGES)]:
            token = store.claim(run_id, stage, 1, "box", 60)
            assert token
            store.succeed(token, None, [])
    store.close()
    return key.secret, ids


def wait_for(url: str) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            httpx.get(f"{url}/healthz")
            return
        except httpx.TransportError:
            time.sleep(0.05)
    raise SystemExit("the gateway doesn't answer")


async def poll(port: int, secret: str, ids: list[str], pollers: int, pause: float) -> list[float]:
    """Seconds that each request took. Every poller follows a job of its own on a connection of its own."""
    waits, until = list[float](), time.monotonic() + SECONDS

    async def one(job: str) -> None:
        await asyncio.sleep(random.random() * pause)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (began := time.monotonic()) < until:
            for end in ("", "/events?limit=10"):
                asked = time.monotonic()
                await get(reader, writer, f"/v1/fine_tuning/jobs/ftjob-{job}{end}", secret)
                waits.append(time.monotonic() - asked)
            await asyncio.sleep(max(0.0, pause - (time.monotonic() - began)))
        writer.close()

    await asyncio.gather(*(one(job) for job in random.sample(ids, pollers)))
    return sorted(waits)


async def get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, secret: str) -> None:
    """By hand, with the headers of the official client: a client's own time would be most of what is measured."""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {secret}\r\n{HEADERS}\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split()[0]))


def busy(pid: int) -> float:
    """Seconds of processor time so far."""
    numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
