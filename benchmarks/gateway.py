"""What `ftq serve` costs: its start, its memory, and an upload beside the same bytes written by hand.

Every number is the median of several rounds, but for an upload's: those are the quickest of several, because a machine
that does something else only ever makes them longer. Upload and plain write are measured in turns. The client sends
from memory over loopback, and its own processor time is part of it.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway_polls import busy
from ftq.client.client import Client
from ftq.programs import ServeOptions
from ftq.settings import Settings
from ftq.store.gateway.keys import Limits
from tests.tools import free_port

ROUNDS, UPLOADS, REQUESTS = 7, 6, 200
MEGABYTES = 500
ROW = b'{"messages": [{"role": "user", "content": "%s"}, {"role": "assistant", "content": "%s"}]}\n'
BOUNDARY = "4f0c6b6e2d7a93c1f5e80b1d29a7c364"  # as long as the official clients'
BLOCK = (ROW % (b"Why is the sky blue? " * 20, b"Because short waves are scattered more. " * 20)) * 800  # about 1 MB


@dataclass
class Row:
    """The rounds' numbers in the unit, and the most that the median may be."""

    name: str
    numbers: list[float]
    unit: str
    bar: float

    @property
    def missed(self) -> bool:
        return statistics.median(self.numbers) > self.bar

    def __str__(self) -> str:
        median, spread = statistics.median(self.numbers), f"{min(self.numbers):.3g} to {max(self.numbers):.3g}"
        verdict = "  MISSED" if self.missed else ""
        return f"| {self.name} | {median:.3g} {self.unit} | {spread} | {self.bar} {self.unit} |{verdict}"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ftq-bench-", dir=os.environ.get("FTQ_BENCH_DIR")) as folder:
        rows = list(measure(Path(folder)))
    print("| what | median | quickest to slowest | bar |\n|---|---|---|---|")
    print("\n".join(map(str, rows)))
    sys.exit(any(row.missed for row in rows))


def measure(folder: Path) -> Iterator[Row]:
    yield Row("from the start of the process to its first answer", start(folder / "start"), "s", 0.6)
    with served(folder / "memory") as gateway:
        for _ in range(20):
            gateway.get("/v1/files")
        yield Row("memory without a model (RSS)", [gateway.memory() / 1e6], "MB", 60)
        for path in ("/login", "/ftq/v1/about", "/v1/models"):
            gateway.get(path)
        gateway.send("POST", "/v1/chat/completions", iter([b"{}"]), {"Content-Length": "2"})
        yield Row("the same, once the page, chats and ftq's own API were asked for", [gateway.memory() / 1e6], "MB", 70)
    for purpose in ("batch", "fine-tune"):
        uploads = upload(folder / purpose, purpose)
        name = f"{MEGABYTES} MB uploaded ({purpose})"
        yield Row(f"{name}, over the same bytes written and synced", [uploads.share], "x", 2.0)
        yield Row(f"{name}, processor time of the gateway", [min(uploads.seconds)], "s", 2.0)
        yield Row(f"{name}, memory at its peak", [uploads.peak / 1e6], "MB", 90)
    with served(folder / "requests") as gateway:
        yield Row("GET /v1/files of 20, processor time of the gateway", request(gateway), "ms", 5.0)


@dataclass
class Uploads:
    """The wall times of uploads and of plain writes, the gateway's processor seconds, its most memory."""

    walls: list[float]
    plain: list[float]
    seconds: list[float]
    peak: float = 0

    @property
    def share(self) -> float:
        return min(self.walls) / min(self.plain)


class Gateway:
    """A process of `ftq serve`, and requests to it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, secret: str) -> None:
        self.process, self.port, self._headers = process, port, {"Authorization": f"Bearer {secret}"}
        self.took = 0.0  # seconds to its first answer

    def get(self, path: str) -> int:
        return self.send("GET", path)

    def upload(self, purpose: str, megabytes: int = MEGABYTES) -> int:
        part = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
        head = f'{part}"purpose"\r\n\r\n{purpose}\r\n{part}"file"; filename="train.jsonl"\r\n\r\n'
        blocks, tail = [BLOCK] * max(1, megabytes * 10**6 // len(BLOCK)), f"\r\n--{BOUNDARY}--\r\n"
        pieces = [head.encode(), *blocks, tail.encode()]
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        length = {"Content-Length": str(sum(map(len, pieces))), "Content-Type": kind}
        return self.send("POST", "/v1/files", iter(pieces), length)

    def send(
        self, method: str, path: str, body: Iterator[bytes] | None = None, headers: dict[str, str] | None = None
    ) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            connection.request(method, path, body, self._headers | (headers or {}))
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    def busy(self) -> float:
        """Seconds of processor time so far."""
        return busy(self.process.pid)

    def memory(self, name: str = "VmRSS") -> float:
        """Bytes, as the kernel counts them; VmHWM is the most so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return float(status.partition(f"{name}:")[2].split()[0]) * 1024


@contextmanager
def served(home: Path) -> Iterator[Gateway]:
    client = Client(Settings.from_env({"FTQ_HOME": str(home)}))
    secret = client.store.keys.create("bench", Limits(), admin=True).secret
    client.close()
    port = free_port()
    begun = time.perf_counter()
    environment = {**os.environ, "FTQ_HOME": str(home)}
    process = subprocess.Popen(ServeOptions(port=port).argv(), env=environment, stderr=subprocess.DEVNULL)
    try:
        gateway = Gateway(process, port, secret)
        wait(gateway)
        gateway.took = time.perf_counter() - begun
        yield gateway
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        shutil.rmtree(home)


def wait(gateway: Gateway) -> None:
    while True:
        try:
            assert gateway.get("/healthz") == 200
            return
        except ConnectionError:
            assert gateway.process.poll() is None
            time.sleep(0.005)


def start(home: Path) -> list[float]:
    """Seconds of each round; the first start, which also compiles, isn't counted."""
    seconds = []
    for _ in range(ROUNDS + 1):
        with served(home) as gateway:
            seconds.append(gateway.took)
    return seconds[1:]


def upload(home: Path, purpose: str) -> Uploads:
    done = Uploads([], [], [])
    with served(home) as gateway:
        for _ in range(UPLOADS):
            begun = time.perf_counter()
            plain(home / "plain")
            between, busy = time.perf_counter(), gateway.busy()
            assert gateway.upload(purpose) == 200
            done.plain.append(between - begun)
            done.walls.append(time.perf_counter() - between)
            done.seconds.append(gateway.busy() - busy)
        done.peak = gateway.memory("VmHWM")
    return done


def request(gateway: Gateway) -> list[float]:
    """Milliseconds of processor time of a request, each on a connection of its own; the mean of a round."""
    for _ in range(20):
        gateway.upload("batch", 1)
    rounds = []
    for _ in range(ROUNDS):
        busy = gateway.busy()
        for _ in range(REQUESTS):
            assert gateway.get("/v1/files") == 200
        rounds.append((gateway.busy() - busy) / REQUESTS * 1000)
    return rounds


def plain(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for _ in range(MEGABYTES * 10**6 // len(BLOCK)):
            file.write(BLOCK)
        os.fsync(file.fileno())
    path.unlink()


if __name__ == "__main__":
    main()
