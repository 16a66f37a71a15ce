"""The drill's machine where several share nothing: a client, two workers to be hurt, and perhaps one that is spared."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks.drill_machine import Machine, Worker
from ftq.files.remote.share import Share, share_of
from ftq.files.run_dir import STAGES, RunDir, run_dir
from ftq.store.records import Run

if TYPE_CHECKING:
    from tests.cluster import Cluster

HURT, SPARED = ("a", "b"), "c"


class Apart(Machine):
    """A bucket, a database, a broker and machines in a cluster. What the drill does to its machine is done to these.

    `spared` adds a worker that no fault kills or freezes, so that its memory can be looked at for long. It is cut off
    like the others, and the broker and the database are what they are for all.
    """

    def __init__(self, parts: Cluster, module: str, spared: bool = False, **environment: str) -> None:
        here = parts.machine("here", user="client", module=module, **environment)
        self.parts, self.environment = parts, here.environment
        self.settings, self.client, self.logs, self.module = here.settings, here.client, here.logs, module
        self.hurt = [parts.machine(name, module=module, **environment) for name in HURT]
        self.spared = parts.machine(SPARED, module=module, **environment) if spared else None

    # -- as one machine

    @property
    def workers(self) -> list[Worker]:  # type: ignore[override]
        return [worker for machine in self.hurt for worker in machine.workers]

    @property
    def started(self) -> int:  # type: ignore[override]
        return sum(machine.started for machine in self._all)

    def start_workers(self) -> None:
        for machine in self._all:
            machine.start_worker()

    def replace_the_dead(self) -> None:
        for machine in self._all:
            machine.replace_the_dead()

    def holder(self, run: Run) -> Worker | None:
        return next((worker for machine in self.hurt if (worker := machine.holder(run))), None)

    def stage_pid(self, run: Run) -> int | None:
        return next((pid for machine in self._all if (pid := machine.stage_pid(run))), None)

    def published(self, run: Run) -> RunDir:
        """Everything that the run has in the bucket, each file compared with its checksum."""
        home = self.parts.folder / "published"
        share = share_of(replace(self.settings, home=home))
        assert isinstance(share, Share)
        for stage in STAGES:
            row = run.stage(stage)
            if row.status == "succeeded":
                share.fetch(run.id, stage, row.attempt)
        return run_dir(home, run.id)

    def close(self) -> None:
        """The cluster closes its machines."""

    # -- the broker

    @property
    def broker(self) -> Any:  # type: ignore[override]
        return self.parts.broker.process

    def start_broker(self) -> None:
        if self.broker.poll() is not None:
            self.parts.in_servers(self.parts.broker.start)

    def stop_broker(self, number: int = signal.SIGKILL) -> None:
        self.broker.send_signal(number)
        self.broker.wait(timeout=20)

    def wipe_broker(self) -> None:
        shutil.rmtree(self.parts.broker.folder / "appendonlydir", ignore_errors=True)
        (self.parts.broker.folder / "dump.rdb").unlink(missing_ok=True)

    def redis(self) -> Any:
        return self.parts.broker.connect("admin")

    # -- the network

    def name_of(self, worker: Worker) -> str:
        """The machine that the worker is on."""
        return next(machine.label for machine in self._all if worker in machine.workers)

    @contextlib.contextmanager
    def cut_off(self, name: str, *servers: str, answers_only: bool = False) -> Iterator[None]:
        """Let packets between the machine and these servers vanish while the block runs; or only their answers."""
        self.parts.network.cut(name, *servers, answers_only=answers_only)
        try:
            yield
        finally:
            self.parts.network.join(name, *servers, answers_only=answers_only)

    @contextlib.contextmanager
    def all_cut_off(self, *servers: str) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for machine in self._all:
                stack.enter_context(self.cut_off(machine.label, *servers))
            yield

    @property
    def _all(self) -> list[Machine]:
        return [*self.hurt, *([self.spared] if self.spared else [])]
