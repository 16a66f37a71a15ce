"""Runs as a key sees them. An `owner` of None sees everybody's: an admin's key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ftq.errors import NotFound
from ftq.store.database import Database
from ftq.store.records import Run
from ftq.store.schema import events, runs

# Newest first in the order of the submits, as RunStore.all has them: clocks may differ.
_SUBMITTED = sa.select(sa.func.min(events.c.id)).where(events.c.run_id == runs.c.id).scalar_subquery()
_NEWEST = (_SUBMITTED.desc(), runs.c.created_at.desc(), runs.c.id)


class Owned:
    def __init__(self, database: Database, owner: str | None) -> None:
        self._database, self._owner = database, owner

    def page(self, limit: int, skip: int = 0) -> list[Run]:
        """At most `limit` runs, the newest first."""
        with self._database.reading() as db:
            return self._database._runs(db, self._mine().order_by(*_NEWEST).limit(limit).offset(skip))

    def count(self) -> int:
        with self._database.reading() as db:
            return int(db.execute(self._mine().with_only_columns(sa.func.count(runs.c.id))).scalar_one())

    def some(self, ids: Sequence[str]) -> list[Run]:
        """Those of these runs that are there, in no order."""
        known = [one for one in ids if re.fullmatch(r"[A-Za-z0-9_-]+", one)]  # no database takes every text
        with self._database.reading() as db:
            return self._database._runs(db, self._mine().where(runs.c.id.in_(known)))

    def get(self, run_id: str) -> Run:
        """NotFound if there is no such run, or it is another's."""
        if (run := next(iter(self.some([run_id])), None)) is None:
            raise NotFound(f"There is no run {run_id}.", "It may have been deleted.")
        return run

    def _mine(self) -> sa.Select[Any]:
        query = sa.select(runs)
        return query if self._owner is None else query.where(runs.c.owner == self._owner)
