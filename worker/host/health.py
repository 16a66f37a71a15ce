"""`python -m worker.host.health [QUEUES]`: whether this host's workers do their work (exit code 0 or 1).

Without QUEUES they have to be those of `ftq up`; `cpu,gpu` is what a single `ftq worker --queues cpu,gpu` has to serve.

A worker is asked twice: its main process through the broker, which a frozen one can't answer, and the database for its
sign of life. Meant as a container's health check; it takes a second, or ten where nobody answers.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable, Sequence

from ftq.doctor.workers import answering_through
from ftq.errors import FtqError, printable
from ftq.queue import make_impatient_app
from ftq.settings import Settings
from ftq.store.records import ASK, MAX_GPUS, gpu_queue
from ftq.store.store import RunStore
from worker.machine import hardware

ANSWER_SECONDS = 5.0
UP = ("cpu", "gpu", ASK)  # what the workers of `ftq up` serve together


def main() -> None:
    try:
        gpus, queues = max(1, len(hardware.own_gpus())), sys.argv[1].split(",") if sys.argv[1:] else UP
        problems = check(Settings.from_env(), socket.gethostname(), gpus if "gpu" in queues else 0, queues)
    except FtqError as error:
        problems = [error.message]
    for problem in problems:
        print(printable(problem))
    sys.exit(1 if problems else 0)


def check(settings: Settings, host: str, gpus: int, queues: Sequence[str] = UP) -> list[str]:
    """What is wrong with the workers of this host. They have to serve these queues, and to train on so many GPUs.

    Where there is no GPU, `gpus` is 1: the CPU trains.
    """
    store = RunStore(settings.database_url)
    try:
        alive = store.live_workers(host)
    finally:
        store.close()
    app = make_impatient_app(settings)
    answering = answering_through(app, list(alive), ANSWER_SECONDS) if alive else None
    silent = sorted(set(alive) - (answering or set()))
    working = [served for name, served in alive.items() if name not in silent]
    problems = [f"{name}: alive, but it doesn't answer through the broker" for name in silent]
    for queue in queues:
        if queue != "gpu" and not any(queue in served for served in working):
            problems.append(f"queue {queue}: no worker of {host} serves it")
    if (trained_on := sum(map(gpus_of, working))) < gpus:
        problems.append(f"queue gpu: the workers of {host} serve it with {trained_on} of {gpus} GPUs")
    return problems


def gpus_of(queues: Iterable[str]) -> int:
    """How many GPUs a worker has, by its queues: one with two serves `gpu` and `gpu2`."""
    return max((count for count in range(1, MAX_GPUS + 1) if gpu_queue(count) in queues), default=0)


if __name__ == "__main__":
    main()
