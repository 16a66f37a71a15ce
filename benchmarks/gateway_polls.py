"""How fast a poll is: `python -m benchmarks.gateway_polls [JOBS] [POLLERS]`.

A gateway of its own on loopback, with so many jobs, is asked by so many clients, each once a second, for a job and for
its events. Told are the median and the 99th percentile of what a client waits, and the processor's time of a request.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
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


def main() -> None:
    jobs, pollers = (int(text) for text in [*sys.argv[1:], "1000", "100"][:2])
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        secret, ids = make(home, jobs)
        port = free_port()
        environment = {"FTQ_HOME": folder, "PATH": "/usr/bin:/bin"}
        with subprocess.Popen(ServeOptions(port=port).argv(), env=environment, stderr=subprocess.DEVNULL) as server:
            url = f"http://127.0.0.1:{port}"
            wait_for(url)
            waits = asyncio.run(poll(url, secret, ids, pollers))
            server.terminate()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    waits.sort()
    print(json.dumps({
        "jobs": jobs, "pollers": pollers, "requests": len(waits),
        "median_ms": round(1000 * statistics.median(waits), 2),
        "p99_ms": round(1000 * waits[len(waits) * 99 // 100], 2),
        "processor_ms_a_request": round(1000 * (used.ru_utime + used.ru_stime) / len(waits), 2),
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


async def poll(url: str, secret: str, ids: list[str], pollers: int) -> list[float]:
    """Seconds that each request took."""
    waits, until = list[float](), time.monotonic() + SECONDS
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {secret}"}, timeout=60) as client:

        async def one() -> None:
            await asyncio.sleep(random.random())
            while time.monotonic() < until:
                began = time.monotonic()
                for end in ("", "/events?limit=10"):
                    asked = time.monotonic()
                    answer = await client.get(f"{url}/v1/fine_tuning/jobs/ftjob-{random.choice(ids)}{end}")
                    answer.raise_for_status()
                    waits.append(time.monotonic() - asked)
                await asyncio.sleep(max(0.0, 1 - (time.monotonic() - began)))

        await asyncio.gather(*(one() for _ in range(pollers)))
    return waits


if __name__ == "__main__":
    main()
