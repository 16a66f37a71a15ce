"""What ftq costs with very many runs waiting: processor seconds and counts, for clocks tell little on a busy machine.

    python -m benchmarks.scale costs --runs 10000               what is done again and again while they wait
    python -m benchmarks.scale queue --runs 1000 --workers 20   real workers, whose stages take no time, do them all
    python -m benchmarks.scale idle --workers 8                 what a worker that only waits asks of the servers

The database is SQLite in a new folder, or that of --database; the broker is a real one of its own. With --json FILE the
figures are kept.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from benchmarks.drill_machine import Machine
from ftq import queue
from ftq.files.run_dir import STAGES, RunDir, write_json
from ftq.spec.options import parse
from ftq.store.schema import events, runs, stages
from worker.reconciler import Reconciler

AGO = 3600.0  # seconds since the first submit
PRIORITIES = ("low", "normal", "high")
PATIENCE = 3600.0  # seconds without an end of all runs
SETTLED, MEASURED = 20.0, 40.0  # seconds of waiting workers, before and while they are measured


def fill(machine: Machine, count: int, owners: int = 20) -> None:
    """So many runs that wait for prepare, of all priorities, and their messages, as submits have left them."""
    store, specs = machine.client.store, [parse({"model": "smollm2-135m", "priority": one}) for one in PRIORITIES]
    now = store.now()
    with store.writing() as db:
        for number in range(count):
            run_id, at, spec = f"r{number:06d}", now - AGO + number * AGO / 2 / count, specs[number % 3].model_dump()
            db.execute(runs.insert().values(id=run_id, name=run_id, model=spec["model"], spec=spec, family=run_id,
                                            documents_hash=run_id, created_at=at, owner=f"user:u{number % owners}",
                                            ))  # fmt: skip
            for position, stage in enumerate(STAGES):
                queued = at if position == 0 else None
                db.execute(stages.insert().values(run_id=run_id, name=stage, position=position, queued_at=queued))
            db.execute(events.insert().values(run_id=run_id, at=at, kind="submitted", message="submitted"))
    for run in sorted(store.all(), key=lambda run: run.created_at):
        folder = RunDir(machine.settings.home / run.id)
        folder.documents.mkdir(parents=True)
        write_json(folder.run_json, {"id": run.id, "name": run.name, "spec": run.spec, "documents_hash": run.id})
        queue.deliver(machine.client._doorbell.app, run)


def seconds(action: Callable[[], Any], times: int = 3) -> float:
    """Processor seconds of this thread, the least of some."""
    taken = []
    for _ in range(times):
        began = time.thread_time()
        action()
        taken.append(time.thread_time() - began)
    return min(taken)


def costs(machine: Machine, count: int) -> dict[str, float]:
    """Processor milliseconds of what is done again and again while so many runs wait."""
    fill(machine, count)
    turns = Reconciler(machine.settings, "w1@host", ["cpu", "gpu"])

    def look() -> None:
        turns._look_at = 0.0
        turns.reconcile()

    def none() -> None:
        turns._look_at = time.monotonic() + 1
        turns.reconcile()

    def status(*arguments: str) -> Callable[[], None]:
        command = [sys.executable, "-c", "from cli.start import main; main()", "status", *arguments]
        return lambda: subprocess.run(command, env=machine.environment, check=True, stdout=subprocess.DEVNULL) and None

    parts: dict[str, Callable[[], Any]] = {
        "reconciler: a turn that looks through the broker": look,
        "reconciler: a turn that doesn't": none,
        "a claim's look for whose turn it is": lambda: turns.store.next_in_turn("r000000", "prepare"),
        "metrics: all numbers": turns.store.numbers,
        "notices: what has stalled": lambda: turns.store.note_stalled(2 * AGO),
    }
    found = {name: round(1000 * seconds(action), 1) for name, action in parts.items()}
    commands = {"ftq status": status(), "ftq status RUN": status("r000000"), "ftq status --all": status("--all")}
    return found | {name: round(1000 * _of_children(action), 1) for name, action in commands.items()}


def _of_children(action: Callable[[], None]) -> float:
    """Processor seconds of the processes that it starts and waits for, the least of three."""
    taken = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        action()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken)


def through(machine: Machine, count: int, workers: int) -> dict[str, Any]:
    """Do all runs by so many workers; what it took, and how far the order was that of the priorities."""
    fill(machine, count)
    for _ in range(workers):
        machine.start_worker("cpu,gpu")
    store, began, end = machine.client.store, time.monotonic(), time.monotonic() + PATIENCE
    while (done := store.numbers().runs).get("succeeded", 0) < count and time.monotonic() < end:
        print(f"{time.monotonic() - began:6.0f} s  {done}", flush=True)
        time.sleep(10)
    spent = sum(_processor(worker.process.pid) for worker in machine.workers)
    listed = store.all()
    published = [event for run in listed for event in store.events(run.id) if event.kind in ("succeeded", "claimed")]
    firsts = sorted((run.started_at or 0.0, PRIORITIES.index(run.spec["priority"])) for run in listed)
    out_of_order = _inversions([-priority for _, priority in firsts])
    return {
        "runs": count,
        "workers": workers,
        "succeeded": done.get("succeeded", 0),
        "claims": sum(event.kind == "claimed" for event in published),
        "stages done": sum(event.kind == "succeeded" for event in published),
        "clock seconds": round(time.monotonic() - began),
        "processor ms a stage, all workers together": round(1000 * spent / count / len(STAGES), 1),
        "begun before one of a higher priority, share of pairs": round(out_of_order, 4),
    }


def idle(machine: Machine, workers: int) -> dict[str, Any]:
    """What a waiting worker costs, and asks of the broker and of PostgreSQL, on average over a time."""
    for _ in range(workers):
        machine.start_worker("cpu,gpu")
    store = machine.client.store
    while len(store.live_workers()) < workers:
        time.sleep(1)
    time.sleep(SETTLED)
    before, began = _counters(machine), time.monotonic()
    time.sleep(MEASURED)
    after, took = _counters(machine), time.monotonic() - began
    found = {name: round((after[name] - before[name]) / took / workers, 3) for name in before}
    memory = [
        psutil.Process(pid).memory_full_info().pss for worker in machine.workers for pid in _tree(worker.process.pid)
    ]
    found["MB of memory, shared parts divided"] = round(sum(memory) / workers / 1e6)
    if store.engine.dialect.name == "postgresql":
        with store.reading() as db:
            mine = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            found["connections to PostgreSQL"] = round((db.exec_driver_sql(mine).scalar_one() - 1) / workers, 2)
    with machine.client._doorbell.app.connection_for_read() as connection:
        clients = connection.default_channel.client.info("clients")["connected_clients"]
    found["connections to the broker"] = round(clients / workers, 2)
    return {"workers": workers, "a second and worker": found}


def _counters(machine: Machine) -> dict[str, float]:
    with machine.client._doorbell.app.connection_for_read() as connection:
        info = connection.default_channel.client.info()
    found = {
        "processor seconds": sum(_processor(worker.process.pid) for worker in machine.workers),
        "the broker's processor seconds": float(info["used_cpu_sys"]) + float(info["used_cpu_user"]),
        "commands to the broker": float(info["total_commands_processed"]),
        "bytes from the broker": float(info["total_net_output_bytes"]),
    }
    store = machine.client.store
    if store.engine.dialect.name == "postgresql":
        with store.reading() as db:
            query = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
            found["transactions of PostgreSQL"] = float(db.exec_driver_sql(query).scalar_one())
    return found


def _tree(pid: int) -> list[int]:
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def _processor(pid: int) -> float:
    """Processor seconds of a process and its children."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return float(sum(sum(process.cpu_times()[:4]) for process in processes))


def _inversions(ranks: list[int]) -> float:
    """The share of pairs of different rank that stand the wrong way round."""
    wrong = pairs = 0
    seen = dict.fromkeys(set(ranks), 0)
    for rank in ranks:
        wrong += sum(number for other, number in seen.items() if other > rank)
        pairs += sum(number for other, number in seen.items() if other != rank)
        seen[rank] += 1
    return wrong / max(1, pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["costs", "queue", "idle"])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=20)
    parser.add_argument("--database", default="")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with TemporaryDirectory(prefix="ftq-scale-") as folder:
        environment = {"FTQ_DATABASE_URL": given.database, "FTQ_LEASE_SECONDS": "60"}
        machine = Machine(Path(folder) / "artifacts", "benchmarks.scale_worker", **environment)
        machine.start_broker()
        try:
            found = {
                "costs": lambda: costs(machine, given.runs),
                "queue": lambda: through(machine, given.runs, given.workers),
                "idle": lambda: idle(machine, given.workers),
            }[given.what]()
        finally:
            machine.close()
    print(json.dumps(found, indent=1))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
