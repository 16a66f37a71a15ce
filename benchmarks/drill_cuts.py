"""Faults of machines that share nothing: packets to the bucket, the database or the broker vanish; or a machine."""

from __future__ import annotations

import signal

from benchmarks.drill_apart import Apart
from benchmarks.drill_faults import FAULTS, Fault, hit
from benchmarks.drill_machine import LEASE, Worker, tell
from benchmarks.drill_runs import Drill, Injected
from benchmarks.network import SERVERS
from ftq.store.records import Run

CUTS: dict[str, Fault] = {}


def _cut(drill: Drill, injected: Injected, *servers: str, answers_only: bool = False) -> None:
    """A cut for longer than the lease, of a machine that is at work."""

    def break_it(run: Run, worker: Worker) -> None:
        assert isinstance(drill.machine, Apart)
        with drill.machine.cut_off(drill.machine.name_of(worker), *servers, answers_only=answers_only):
            drill.pause_for(LEASE * drill.random.choice([1.3, 1.8, 4, 8]))

    hit(drill, injected, break_it)


def _everybody(drill: Drill, injected: Injected, *servers: str) -> None:
    """The same for all workers at once: the server is out of everybody's reach but the client's."""

    def break_it(run: Run, worker: Worker) -> None:
        assert isinstance(drill.machine, Apart)
        with drill.machine.all_cut_off(*servers):
            drill.pause_for(LEASE * drill.random.choice([1.3, 1.8, 4]))

    hit(drill, injected, break_it)


def _lose_power(drill: Drill, injected: Injected) -> None:
    """Nobody hears that the machine is gone: no connection is closed. It is back after a while."""

    def break_it(run: Run, worker: Worker) -> None:
        machine = drill.machine
        assert isinstance(machine, Apart)
        with machine.cut_off(machine.name_of(worker), *SERVERS):
            stage = machine.stage_pid(run)
            worker.signal(signal.SIGKILL)
            tell(stage, signal.SIGKILL)
            worker.process.wait()
            drill.pause_for(LEASE * drill.random.choice([0.5, 1.3, 4]))

    hit(drill, injected, break_it)


def _flap(drill: Drill, injected: Injected) -> None:
    """A network that comes and goes."""

    def break_it(run: Run, worker: Worker) -> None:
        assert isinstance(drill.machine, Apart)
        for _ in range(drill.random.randint(3, 8)):
            with drill.machine.cut_off(drill.machine.name_of(worker), *SERVERS):
                drill.pause_for(drill.random.uniform(0.1, 2))
            drill.pause_for(drill.random.uniform(0.1, 2))

    hit(drill, injected, break_it)


for _server in SERVERS:
    CUTS[f"cut off from the {_server}"] = lambda drill, injected, server=_server: _cut(drill, injected, server)
    CUTS[f"all workers cut off from the {_server}"] = lambda drill, injected, server=_server: _everybody(
        drill, injected, server
    )
CUTS["cut off from all three"] = lambda drill, injected: _cut(drill, injected, *SERVERS)
CUTS["answers of the database vanish"] = lambda drill, injected: _cut(drill, injected, "database", answers_only=True)
CUTS["answers of the bucket vanish"] = lambda drill, injected: _cut(drill, injected, "bucket", answers_only=True)
CUTS["network that comes and goes"] = _flap
CUTS["machine without power for a while"] = _lose_power
FAULTS.update(CUTS)
