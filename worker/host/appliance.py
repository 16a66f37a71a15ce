"""FTQ_AUTO_SUBMIT: `ftq up` as an appliance. It trains one model on documents/ and finds that run at the next start.

The folder is looked at once, at the start: the same documents and options are the same run, others a new one.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ftq.client.client import Client
from ftq.errors import FtqError
from ftq.settings import Settings
from ftq.spec.given import read_config
from ftq.store.records import Run


def start(settings: Settings, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Start in a thread if FTQ_AUTO_SUBMIT names a model. A problem is reported and ends nothing else."""
    if environ.get("FTQ_AUTO_SUBMIT"):
        threading.Thread(target=_serve, args=(settings, environ, say), name="appliance", daemon=True).start()


def wanted(environ: Mapping[str, str]) -> dict[str, Any]:
    """The run's options: those of the YAML file FTQ_AUTO_CONFIG, and the model."""
    config = environ.get("FTQ_AUTO_CONFIG")
    return {**(read_config(Path(config)) if config else {}), "model": environ["FTQ_AUTO_SUBMIT"]}


def ensure(client: Client, options: dict[str, Any]) -> tuple[Run, str]:
    """(the run of these options and of the documents as they are now, what was done about it).

    Submitted if there is none, retried if it failed, otherwise left alone: a run that was cancelled stays so.
    """
    with _one_at_a_time(client.settings.home):
        run = find(client, options)
        if run is None:
            return client.submit(options).run, "submitted"
        if run.status == "failed":
            return client.retry(run.id)[0], "had failed and is tried again"
        return run, "found"


def find(client: Client, options: dict[str, Any]) -> Run | None:
    """The run of the same documents and options: one that succeeded, else the newest.

    Options that only one of the two versions of ftq knows don't count: an update trains nothing anew.
    """
    spec, documents = client.dry_run(options)
    runs = [run for run in client.all() if run.documents_hash == documents.hash and _same(run.spec, spec)]
    return next((run for run in runs if run.status == "succeeded"), runs[0] if runs else None)


def _same(recorded: dict[str, Any], spec: dict[str, Any]) -> bool:
    return all(recorded[name] == spec[name] for name in recorded.keys() & spec.keys())


def describe(client: Client, run: Run) -> str:
    """One line on where the run stands, and what to type."""
    stage = run.current
    if run.status == "succeeded":
        where = f"{client.place}/{run.id}"
        return f'{run.name} is ready: ftq infer {run.name} "A question?"  ({where})'
    if run.status == "failed" and run.error:
        return f"{run.name} failed: {run.error.text}"
    if run.status == "cancelled":
        return f"{run.name} was cancelled and stays so: ftq retry {run.name} goes on with it"
    if run.status == "paused":
        return f"{run.name} is paused: ftq resume {run.name} goes on with it"
    return f"{run.name}: {stage.name} is {stage.status}" if stage else f"{run.name} is {run.status}"


def _serve(settings: Settings, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
    client = Client(settings)
    try:
        run, done = ensure(client, wanted(environ))
        say(f"appliance {run.name} {done}: {run.model} from {run.spec['documents']}")
        for line in _changes(client, run.id):
            say(f"appliance {line}")
    except FtqError as error:
        say(f"appliance Error: {error.text}")
    finally:
        client.close()


def _changes(client: Client, run_id: str, seconds: float = 2.0) -> Iterator[str]:
    """Yield the run's line each time it changes, until the run is finished."""
    last = ""
    for run in client.follow(run_id, seconds):
        line = describe(client, run)
        if line != last:
            yield line
        last = line


@contextmanager
def _one_at_a_time(home: Path) -> Iterator[None]:
    """Lock the folder, so that two containers started together submit one run."""
    home.mkdir(parents=True, exist_ok=True)
    lock = os.open(home / "appliance.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
