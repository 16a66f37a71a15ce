"""`ftq up` for a benchmark: everything on this machine, in FTQ_HOME, and gone at the end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ftq.client.client import Client
from ftq.settings import Settings

FTQ = [sys.executable, "-c", "from cli.main import main; main()"]
STOP = 20.0  # seconds to stop; then it is killed


@contextlib.contextmanager
def up(port: str, until: float) -> Iterator[Client]:
    """`ftq up` once it serves every queue; RuntimeError with what it said if it doesn't by time.monotonic() `until`."""
    with open(f"{os.environ['FTQ_HOME']}.up.log", "wb") as output:
        process = subprocess.Popen([*FTQ, "up", "--port", port], stdout=output, stderr=output)
    try:
        client = Client(Settings.from_env())
        while not {"cpu", "gpu", "ask"} <= client.store.live_queues():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(Path(output.name).read_text())
            time.sleep(0.2)
        yield client
    finally:
        process.terminate()
        try:
            process.wait(STOP)
        except subprocess.TimeoutExpired:
            process.kill()  # what it started ends with it
            process.wait()
