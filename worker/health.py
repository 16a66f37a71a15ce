"""`python -m worker.health`: whether the workers that `ftq up` started on this host do their work (exit code 0 or 1).

A worker is asked twice: its main process through the broker, which a frozen one can't answer, and the database for its
sign of life. Meant as a container's health check; it takes a second, or ten where nobody answers.
"""

from __future__ import annotations

import socket
import sys
from collections import Counter
from collections.abc import Iterable

from ftq.errors import FtqError
from ftq.queue import make_impatient_app
from ftq.runs import RunStore
from ftq.settings import Settings
from worker import hardware

ANSWER_SECONDS = 5.0


def main() -> None:
    try:
        problems = check(Settings.from_env(), socket.gethostname(), max(1, len(hardware.gpus())))
    except FtqError as error:
        problems = [error.message]
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


def check(settings: Settings, host: str, gpu_workers: int) -> list[str]:
    """What is wrong with the workers of this host; at least so many of them have to serve the queue `gpu`."""
    store = RunStore(settings.database_url)
    try:
        alive = store.live_workers(host)
    finally:
        store.close()
    silent = sorted(set(alive) - answering(settings, alive)) if alive else []
    served = Counter(queue for name, queues in alive.items() if name not in silent for queue in queues)
    problems = [f"{name}: alive, but it doesn't answer through the broker" for name in silent]
    for queue, needed in (("cpu", 1), ("gpu", gpu_workers)):
        if served[queue] < needed:
            problems.append(f"queue {queue}: {served[queue]} of {needed} workers of {host} at work")
    return problems


def answering(settings: Settings, names: Iterable[str]) -> set[str]:
    """Those of the workers whose main process answers a ping in time; none where the broker is away."""
    from kombu.exceptions import OperationalError

    app = make_impatient_app(settings)
    with app.connection_for_write() as connection:
        try:
            found = app.control.ping(destination=list(names), timeout=ANSWER_SECONDS, connection=connection)
        except (OperationalError, *connection.connection_errors):
            return set()
    return {name for reply in found for name in reply}


if __name__ == "__main__":
    main()
