"""Workers: their signs of life, what they serve and what they have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from ftq.database import Database
from ftq.records import Worker
from ftq.schema import workers

WORKER_SILENCE = 20.0  # seconds without a sign of life after which a worker counts as gone


class Workers(Database):
    """A part of RunStore."""

    def see_worker(self, name: str, host: str, queues: Iterable[str], gpu: str | None, pid: int,
                   facts: dict[str, Any] | None = None) -> None:  # fmt: skip
        """A worker's sign of life, and what it has (see records.Worker)."""
        values: dict[str, Any] = {"host": host, "queues": ",".join(queues), "gpu": gpu, "pid": pid, "facts": facts,
                                  "seen_at": self.clock()}  # fmt: skip
        with self._write() as db:
            if db.execute(workers.update().where(workers.c.name == name).values(**values)).rowcount == 0:
                db.execute(workers.insert().values(name=name, draining=False, **values))

    def drain_worker(self, name: str, draining: bool) -> None:
        """Ask the supervisors of a worker to hand their runs back (True), or start with a clean slate (False)."""
        with self._write() as db:
            db.execute(workers.update().where(workers.c.name == name).values(draining=draining))

    def is_draining(self, name: str) -> bool:
        """Whether the worker was told to stop, or has already gone."""
        with self._read() as db:
            return db.execute(sa.select(workers.c.draining).where(workers.c.name == name)).scalar() is not False

    def forget_worker(self, name: str) -> None:
        with self._write() as db:
            db.execute(workers.delete().where(workers.c.name == name))

    def live_workers(self, host: str | None = None) -> dict[str, set[str]]:
        """{name: its queues} of the workers, or of this host's, that gave a sign of life and weren't told to stop."""
        live = (workers.c.seen_at > self.clock() - WORKER_SILENCE) & ~workers.c.draining
        if host is not None:
            live &= workers.c.host == host
        with self._read() as db:
            rows = db.execute(sa.select(workers.c.name, workers.c.queues).where(live)).all()
        return {row.name: set(row.queues.split(",")) for row in rows}

    def live_queues(self) -> set[str]:
        """The queues that some worker was serving in the last moments."""
        return set[str]().union(*self.live_workers().values())

    def workers(self) -> list[Worker]:
        """Every worker that is known: the last one seen first, also those that ended without a word."""
        query = sa.select(workers).order_by(workers.c.seen_at.desc(), workers.c.name)
        alive = self.clock() - WORKER_SILENCE
        with self._read() as db:
            return [
                Worker(row.name, row.queues.split(","), row.facts or {}, row.seen_at > alive and not row.draining)
                for row in db.execute(query)
            ]
