"""A bucket, a database and a broker, each on an address of its own, and machines that share nothing else.

Every machine is a network namespace with folders that no other sees (benchmarks/network.py). The thread that opens a
cluster is on the machine `here` until it is closed.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import sqlalchemy as sa

from benchmarks.drill_machine import LEASE, Machine
from benchmarks.network import SERVERS, Network, alone
from tests import database_server
from tests.brokers import SecuredBroker
from tests.bucket_server import BucketServer

FAKES = "tests.fake_worker"


class Cluster:
    """`environment` is what a process needs to use the servers."""

    def __init__(self, folder: Path, stack: ExitStack, lease: float) -> None:
        self.folder, self.everybodys, self.lease = folder, folder / "machines", lease
        self.journal = folder / "journal.jsonl"
        self.network = stack.enter_context(Network())
        with self.network.servers.entered():
            self._start_servers(stack)
        self.machines: dict[str, Machine] = {}
        self._stack = stack
        stack.enter_context(self.network.add("here").entered())
        stack.enter_context(_own_sockets())
        stack.enter_context(mock.patch.dict(os.environ, self.bucket.environment))

    def machine(
        self, name: str, kind: type[Any] = Machine, user: str = "worker", module: str = FAKES, **environment: str
    ) -> Any:
        """A machine with its own address and folders, without a worker yet; `here` is a client's."""
        space = self.network.machines.get(name) or self.network.add(name)
        mine = self.everybodys / name
        mine.mkdir(parents=True)
        wanted = {
            "FTQ_LEASE_SECONDS": str(self.lease),
            "FTQ_JOURNAL": str(self.journal),
            "FTQ_CACHE": str(mine / "cache"),
            **self.environment(user),
            **environment,
        }
        machine = self.machines[name] = kind(mine / "artifacts", module, **wanted)
        machine.label = name
        self._stack.callback(machine.close)
        machine.prefix = alone(space, mine, self.everybodys)
        return machine

    def environment(self, user: str) -> dict[str, str]:
        return {
            "FTQ_DATABASE_URL": f"postgresql+psycopg://ftq@{SERVERS['database']}/cluster",
            "FTQ_DATABASE_PASSWORD_FILE": str(self.folder / "database.password"),
            **self.broker.environment(user),
            **self.bucket.environment,
        }

    def cut(self, name: str, *servers: str) -> None:
        """Let all packets between the machine and these servers (bucket, database, broker) vanish."""
        self.network.cut(name, *servers)

    def join(self, name: str, *servers: str) -> None:
        self.network.join(name, *servers)

    def in_servers(self, action: Callable[[], object]) -> None:
        """Do what opens a socket where the servers are."""
        with self.network.servers.entered():
            action()

    def at_end(self, action: Callable[[], object]) -> None:
        """Do it when the cluster is closed, before its servers end."""
        self._stack.callback(action)

    def _start_servers(self, stack: ExitStack) -> None:
        password = secrets.token_hex(8)
        (self.folder / "database.password").write_text(password)
        self.database = stack.enter_context(database_server.start(SERVERS["database"]))
        engine = sa.create_engine(self.database, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"ALTER USER ftq PASSWORD '{password}'")
            connection.exec_driver_sql("CREATE DATABASE cluster")
        engine.dispose()
        self.database = self.database.replace("/postgres?", "/cluster?")  # on its socket, past all cuts
        self.broker = SecuredBroker(self.folder / "broker", address=SERVERS["broker"])
        stack.callback(self.broker.close)
        self.bucket = BucketServer(f"b{os.getpid()}-{secrets.token_hex(4)}", SERVERS["bucket"])
        stack.callback(self.in_servers, self.bucket.close)


@contextmanager
def cluster(folder: Path, lease: float = LEASE) -> Iterator[Cluster]:
    """Everything started is gone at the end."""
    with ExitStack() as stack:
        yield Cluster(folder, stack, lease)


@contextmanager
def _own_sockets() -> Iterator[None]:
    """Give fsspec a new thread, in this thread's network: the one that it has may be in another."""
    import fsspec.asyn

    before = fsspec.asyn.loop[0], fsspec.asyn.iothread[0]
    fsspec.asyn.loop[0] = fsspec.asyn.iothread[0] = None
    yield
    fsspec.asyn.loop[0], fsspec.asyn.iothread[0] = before
