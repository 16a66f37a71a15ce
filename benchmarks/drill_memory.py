"""The memory of processes that live through a whole drill: a spared worker, its supervisor, and `ftq serve`.

`ftq serve` is asked for its lists, its metrics and its page meanwhile, and a worker for answers.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path

from benchmarks.drill_apart import Apart
from ftq.programs import ServeOptions

EVERY_SECONDS, POLL_SECONDS, PATIENCE = 60.0, 2.0, 30.0
PORT = 8787
POLLED = ("/v1/models", "/v1/fine_tuning/jobs?limit=20", "/v1/files", "/metrics", "/")


def watch(machine: Apart, file: Path) -> None:
    """Start `ftq serve` on the client's machine, keep it busy, and note each minute how much memory all three have."""
    serve = Serve(machine)
    for action in (serve.keep_busy, lambda: _note(machine, serve, file)):
        threading.Thread(target=action, daemon=True).start()


class Serve:
    def __init__(self, machine: Apart) -> None:
        here = machine.parts.machines["here"]
        self.client, self.answers = machine.client, Counter[str]()
        create = [*here.prefix, str(Path(sys.executable).with_name("ftq")), "keys", "create", "drill", "--admin"]
        created = subprocess.run(create, env=here.environment, capture_output=True, text=True, check=True)
        self.key = next(word for word in created.stdout.split() if len(word) > 30)
        with (here.logs / "serve.log").open("ab") as log:
            self.process = subprocess.Popen([*here.prefix, *ServeOptions(port=PORT).argv()], env=here.environment,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # fmt: skip
        machine.parts.at_end(self.close)

    def keep_busy(self) -> None:
        while self.process.poll() is None:
            time.sleep(POLL_SECONDS)
            for path in POLLED:
                self._ask(path)
            with contextlib.suppress(Exception):
                done = next(run for run in self.client.all() if run.status == "succeeded")
                self.client.ask(done.id, "Why?")  # by a worker: fakes have no model that llama.cpp could load
                self.answers["question"] += 1

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()

    def _ask(self, path: str) -> None:
        request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}")
        request.add_header("Authorization", f"Bearer {self.key}")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
                answer.read()
                self.answers[f"{path.partition('?')[0]} {answer.status}"] += 1
        except OSError as error:
            self.answers[f"{path.partition('?')[0]} {getattr(error, 'code', type(error).__name__)}"] += 1


def _note(machine: Apart, serve: Serve, file: Path) -> None:
    began = time.monotonic()
    for number in range(24 * 60):
        time.sleep(max(0.0, began + number * EVERY_SECONDS - time.monotonic()))
        worker = machine.spared.workers[0]
        pids = {"worker": worker.process.pid, "supervisor": worker.child(), "serve": serve.process.pid}
        row = {name: {"pid": pid, **_mib(pid)} for name, pid in pids.items() if pid}
        with file.open("a") as lines:
            lines.write(json.dumps({"minute": number, **row, "answers": dict(serve.answers)}) + "\n")


def _mib(pid: int) -> dict[str, float]:
    """Its memory in MiB: resident, its share of it, its own alone; and how many threads and open files it has."""
    sizes = dict[str, float]()
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, _, rest = line.partition(":")
            sizes[name] = int(rest.split()[0]) / 1024
        own = sizes["Private_Clean"] + sizes["Private_Dirty"]
        threads, files = len(list(Path(f"/proc/{pid}/task").iterdir())), len(list(Path(f"/proc/{pid}/fd").iterdir()))
        mib = {"rss": sizes["Rss"], "pss": sizes["Pss"], "own": own}
        return {**{name: round(size, 1) for name, size in mib.items()}, "threads": threads, "files": files}
    return {}
