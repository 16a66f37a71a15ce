"""`ftq worker`: Celery's worker with the options that ftq needs, in the foreground."""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import closing

from ftq.client.bucket.place import advise, other_bucket, other_than_last
from ftq.client.recording.record import make_home
from ftq.doorbell import away, owner
from ftq.errors import FtqError, UserError
from ftq.files.remote.bucket import Bucket, OutOfReach
from ftq.files.remote.kinds.opening import check_installed
from ftq.programs import WorkerOptions, end
from ftq.queue import BROKER_ERRORS, make_quick_app
from ftq.settings import Settings, protect_files
from ftq.store.records import ASK, MAX_GPUS, gpu_queue, labelled
from ftq.store.store import RunStore
from ftq.store.workers import WORKER_SILENCE
from worker.host import broker
from worker.host.folders import try_all
from worker.machine import hardware

THREADS = 4  # questions that a worker for them alone answers at the same time


def main() -> None:
    try:
        options = WorkerOptions.from_arguments(sys.argv[1:])
        asked = options.queues.split(",")
        queues = queues_for(asked, take_gpus(options.gpus, asked))
        _start(with_labels(queues, options.labels), options.name, options.concurrency)
    except FtqError as error:
        end(error)


def take_gpus(wanted: str | None, queues: list[str]) -> int:
    """How many GPUs this worker has; from now on it, and what it starts, sees no other.

    Those of --gpus, or those that CUDA_VISIBLE_DEVICES gives it, or the first: a worker trains one run at a time, and
    most runs take one GPU. A worker that serves no GPU's queue sees none unless it is told to: its exports and answers
    would take memory that a training run on that GPU has planned with.
    """
    if wanted:
        os.environ.update(hardware.visible(hardware.choose(wanted)))
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return len(hardware.own_gpus())
    if not any(queue.startswith("gpu") for queue in queues):
        os.environ.update(hardware.visible([]))
        return 0
    own = hardware.own_gpus()
    if len(own) > 1:
        others = ",".join(own[1:])
        print(f"This worker takes GPU 0 of {len(own)}. For the others: ftq worker --gpus {others}", file=sys.stderr)
        os.environ.update(hardware.visible(own[:1]))
    return len(hardware.own_gpus())


def queues_for(wanted: list[str], gpus: int) -> list[str]:
    """Celery's queues of a worker with so many GPUs: `gpu` stands for every run that they suffice for.

    The widest come first, since few workers have room for them. UserError for what this worker couldn't run.
    """
    most = max(1, min(gpus, MAX_GPUS))  # without a GPU the CPU trains
    served = [gpu_queue(count) for count in range(most, 0, -1)]
    queues = [queue for name in wanted for queue in (served if name == "gpu" else [name])]
    for queue in queues:
        if queue not in ("cpu", ASK, *served):
            needs = queue.removeprefix("gpu")
            raise UserError(
                f"--queues {queue}: that needs {needs} GPUs, this worker has {gpus}",
                "Give it more, for example --gpus 0,1.",
            )
    return list(dict.fromkeys(queues))


def with_labels(queues: list[str], labels: str) -> list[str]:
    """The queues, and before them those of the labels: few workers have these."""
    named = [label for label in labels.split(",") if label]
    return [*(labelled(queue, label) for label in named for queue in queues if queue != ASK), *queues]


def _start(queues: list[str], name: str | None, concurrency: int | None) -> None:
    """Stages are waited for in pool children; answers, whose models are other processes, in threads of this one."""
    pool, at_once = ("threads", THREADS) if queues == [ASK] else ("prefork", 1)
    if pool == "threads":
        os.environ["FTQ_STANDBY"] = "0"  # it never trains
    protect_files()
    settings = Settings.from_env()
    host = name or f"worker-{os.getpid()}"
    full = host if "@" in host else f"{host}@{socket.gethostname()}"
    make_home(settings)
    with closing(RunStore(settings.database_url)) as store:  # unreachable: said now, not in a log of Celery's
        _agree(store, settings.artifacts_url)
        start = away.advice(settings, store.workers())
    try_all(settings)
    if settings.artifacts_url:
        _try_bucket(settings, queues)
    if settings.embedded and not broker.answers(settings.broker_socket):
        broker.place(settings)  # where `ftq up` will put it: this process asks only once
        print(f"No broker is up for {settings.home}: this worker waits for it. {start}", file=sys.stderr)
    if other := _own(settings, full):
        raise UserError(*owner.differs(other, settings))
    from worker.app import app

    app.worker_main(
        [
            "worker",
            f"--pool={pool}",
            f"--concurrency={concurrency or at_once}",
            f"--queues={','.join(queues)}",
            f"--hostname={full}",
            "--without-gossip",
            "--without-mingle",
            "--loglevel=INFO",
        ]
    )


def _agree(store: RunStore, url: str) -> None:
    """Refuse another bucket than that of the workers that are up. One that was killed counts as up for a while."""
    until, is_told = time.monotonic() + WORKER_SILENCE, False
    while differs := other_bucket(store.workers(), url):
        if time.monotonic() > until:
            raise UserError(*differs)
        if not is_told:
            print(f"{differs[0]}: this waits {WORKER_SILENCE:.0f} s for that worker to end.", file=sys.stderr)
        is_told = True
        time.sleep(0.5)
    if odd := other_than_last(store, url):
        print(f"Note: {odd[0]}: runs from there can't go on here. If that wasn't meant: {odd[1]}", file=sys.stderr)


def _own(settings: Settings, worker: str) -> owner.Owner | None:
    """The other database to which the broker belongs; None if it is this one's now, or can't be asked yet.

    UserError if it refuses this worker, and waiting doesn't mend that.
    """
    with closing(RunStore(settings.database_url)) as store:
        mine = owner.of_store(settings, store, worker)
    try:
        with owner.connected(make_quick_app(settings)) as client:
            return owner.keep(client, mine, settings.embedded)
    except BROKER_ERRORS as error:
        if refused := away.refused(error, settings):
            raise refused from None
    return None


def _try_bucket(settings: Settings, queues: list[str]) -> None:
    """Refuse a bucket that waiting doesn't mend; say so if it is only out of reach. Who answers puts nothing there."""
    url = settings.artifacts_url
    check_installed(url)

    def advised(error: OutOfReach) -> OutOfReach:
        with closing(RunStore(settings.database_url)) as store:
            return advise(error, store, url)

    try:
        Bucket(url, advise=advised).probe(write=True)
    except OutOfReach as error:
        is_needed = not (error.gives and queues == [ASK])
        if error.is_lasting and is_needed:
            raise
        what = "this worker waits for it" if is_needed else "this worker answers with what is there"
        print(f"{error.message}: {what}.", error.hint, file=sys.stderr)


if __name__ == "__main__":
    main()
