"""Runs in the bucket that the database doesn't know. Their manifests say if they are another database's.

A submit writes its manifest last, so what is on its way has none.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from ftq.errors import FtqError, Unavailable
from ftq.files.remote.bucket import Bucket
from ftq.files.remote.manifest import Manifest
from ftq.store.store import RunStore

GRACE_SECONDS = 86_400.0  # what has changed since may be a submit, or the late end of a worker that was cut off
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_PART = re.compile(r"([a-z0-9-]{1,40})\.(\d{1,9})(\.json)?")


@dataclass(frozen=True)
class Unknown:
    """`is_ours`: its manifests name this database. Else none is named: they are an earlier version's, or missing."""

    run_id: str
    bytes: int
    is_ours: bool


def unknown(bucket: Bucket, store: RunStore) -> Iterator[Unknown]:
    """The runs that nobody has written to for a day, without those of other databases and what is no run."""
    there = [name for name in bucket.names() if _RUN.fullmatch(name)]
    known = store.known(there)
    for run_id in there:
        if run_id in known or not _is_run(names := bucket.names(run_id)):
            continue
        databases = databases_of(bucket, run_id, names)
        objects = bucket.objects(run_id).values() if databases <= {store.identity} else ()
        if objects and time.time() - max(one.changed_at for one in objects) > GRACE_SECONDS:
            yield Unknown(run_id, sum(one.bytes for one in objects), bool(databases))


def databases_of(bucket: Bucket, run_id: str, names: list[str] | None = None) -> set[str]:
    """The identities of the databases that the run's manifests name; `names`, what lies below it, if that is known."""
    named = set[str]()
    for name in bucket.names(run_id) if names is None else names:
        if (match := _PART.fullmatch(name)) and match[3]:
            try:
                manifest = Manifest.from_bytes(bucket.read(f"{run_id}/{name}"), run_id, match[1], int(match[2]))
            except Unavailable:
                raise
            except FtqError:  # it is damaged, or has just been deleted
                continue
            named.add(manifest.database)
    return named - {""}


def _is_run(names: list[str]) -> bool:
    """Whether all that is below a name is called as a run's parts are."""
    return all(name == "logs" or _PART.fullmatch(name) for name in names)
