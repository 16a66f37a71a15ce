"""Where the files of each run went when it was submitted: a bucket, or a folder that all machines share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from ftq.store.database import Database
from ftq.store.schema import events, runs

AT_ONCE = 500  # ids that one query names


class Places(Database):
    """A part of RunStore."""

    def buckets(self, run_ids: Sequence[str]) -> dict[str, str]:
        """{run id: the bucket's URL, or empty for a folder}, without the runs that an earlier version has recorded."""
        told = dict[str, str]()
        query = sa.select(events.c.run_id, events.c.data).where(events.c.kind == "submitted")
        with self.reading() as db:
            for some_ids in _in_parts(run_ids):
                some = query.where(events.c.run_id.in_(some_ids))
                told |= {run_id: data["bucket"] for run_id, data in db.execute(some) if data and "bucket" in data}
        return told

    def known(self, run_ids: Sequence[str]) -> set[str]:
        """Those of these runs that are recorded."""
        with self.reading() as db:
            parts = (db.scalars(sa.select(runs.c.id).where(runs.c.id.in_(some))) for some in _in_parts(run_ids))
            return {run_id for part in parts for run_id in part}


def _in_parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[first : first + AT_ONCE] for first in range(0, len(ids), AT_ONCE))
