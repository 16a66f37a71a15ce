"""What the server's database tells: the verbs of `Reads` as requests."""

from __future__ import annotations

from typing import Any, TypeVar

from ftq.client.remote.connection import Connection
from ftq.errors import utf8
from ftq.store.records import Event, Run, Version, Worker
from ftq.store.wire.records import decode

Record = TypeVar("Record")


class Records:
    def __init__(self, server: Connection) -> None:
        self._server = server

    def get(self, run_id: str) -> Run:
        return decode(Run, self._server.get(f"/runs/{run_id}"))

    def all(self, limit: int | None = None) -> list[Run]:
        return self._list(Run, "/runs", limit=limit)

    def count(self) -> int:
        return int(self._server.get("/runs", limit=1)["count"])

    def find(self, text: str) -> Run:
        return decode(Run, self._server.get("/find", run=utf8(text)))

    def events(self, run_id: str, after: int = 0) -> list[Event]:
        return self._list(Event, f"/runs/{run_id}/events", after=after)

    def versions(self) -> list[Version]:
        return self._list(Version, "/versions")

    def workers(self) -> list[Worker]:
        return [decode(Worker, one["worker"]) for one in self._server.get("/workers")["data"]]

    def at_work_of(self, owner: str) -> int:
        return sum(run.status == "running" and run.owner == owner for run in self.all())

    def plans_on(self, card: str, model: str) -> list[dict[str, Any] | None]:
        return list(self._server.get("/plans", card=card, model=model)["data"])

    def last_plan(self, card: str | None = None) -> dict[str, Any] | None:
        plan: dict[str, Any] | None = self._server.get("/plans/last", card=card)["plan"]
        return plan

    def _list(self, kind: type[Record], path: str, **query: str | int | None) -> list[Record]:
        return [decode(kind, one) for one in self._server.get(path, **query)["data"]]
