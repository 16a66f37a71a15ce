"""The server's workers. Only an admin's key may drain or forget one."""

from __future__ import annotations

from ftq.client.remote.connection import Connection
from ftq.client.workers import Member, drainable, forgettable, named
from ftq.store.wire.records import decode


class RemoteFleet:
    """The methods of ftq.client.workers.Fleet that a person uses."""

    def __init__(self, server: Connection) -> None:
        self._server = server

    def all(self) -> list[Member]:
        return [decode(Member, one) for one in self._server.get("/workers")["data"]]

    def drain(self, *names: str) -> list[Member]:
        return self._post("drain", drainable(self.all(), names))

    def undrain(self, *names: str) -> list[Member]:
        return self._post("undrain", named(self.all(), names))

    def forget(self, *names: str) -> list[Member]:
        return self._post("forget", forgettable(self.all(), names))

    def _post(self, verb: str, members: list[Member]) -> list[Member]:
        """What the server says of each, which takes one at a time."""
        names = [one.worker.name for one in members]
        return [decode(Member, self._server.post(f"/workers/{verb}", {"name": name})) for name in names]
