"""The server's workers. Only an admin's key may drain or forget one."""

from __future__ import annotations

from ftq.client.remote.connection import Connection
from ftq.client.remote.records import Records
from ftq.client.workers import Member
from ftq.store.wire.records import decode


class RemoteFleet:
    """The methods of ftq.client.workers.Fleet that a person uses."""

    def __init__(self, server: Connection, records: Records) -> None:
        self._server, self._records = server, records

    def all(self) -> list[Member]:
        return [decode(Member, one) for one in self._server.get("/workers")["data"]]

    def live_queues(self) -> set[str]:
        return self._records.live_queues()

    def drain(self, name: str) -> Member:
        return decode(Member, self._server.post("/workers/drain", {"name": name}))

    def undrain(self, name: str) -> Member:
        return decode(Member, self._server.post("/workers/undrain", {"name": name}))

    def forget(self, name: str) -> Member:
        return decode(Member, self._server.post("/workers/forget", {"name": name}))
