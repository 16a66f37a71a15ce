"""`ftq worker`: Celery's worker with the options that ftq needs, in the foreground."""

from __future__ import annotations

import argparse
import os
import socket
import sys

from ftq.errors import FtqError
from ftq.queue import QUEUES
from ftq.runs import RunStore
from ftq.settings import Settings, protect_files


def main() -> None:
    arguments = argparse.ArgumentParser(prog="ftq worker")
    arguments.add_argument("--queues", default=",".join(QUEUES), help="cpu, gpu or both (default both)")
    arguments.add_argument("--name", default="", help="the worker's name (default: one of its own for each process)")
    arguments.add_argument("--concurrency", type=int, default=1, help="stages at the same time (default 1)")
    given = arguments.parse_args()
    try:
        _start(given.queues, given.name, given.concurrency)
    except FtqError as error:
        sys.exit(f"Error: {error.message}\n{error.hint}".rstrip())


def _start(queues: str, name: str, concurrency: int) -> None:
    protect_files()
    RunStore(Settings.from_env().database_url).close()  # unreachable: said now, not in a log of Celery's
    from worker.app import app

    host = name or f"worker-{os.getpid()}"
    app.worker_main([
        "worker", "--pool=prefork", f"--concurrency={concurrency}", f"--queues={queues}",
        f"--hostname={host if '@' in host else f'{host}@{socket.gethostname()}'}",
        "--without-gossip", "--without-mingle", "--loglevel=INFO",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
