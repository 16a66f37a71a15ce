"""The workers: how they are reached, who is up and does what, and what is missing where nobody takes a run's stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ftq.errors import NotFound, Refused
from ftq.files.run_dir import STAGES
from ftq.programs import lacking
from ftq.store.records import ASK, MAX_GPUS, USER, Run, Work, Worker, gpu_queue, queue_of, served_by
from ftq.store.store import RunStore
from ftq.store.wire.reads import Reads
from ftq.store.workers import WORKER_SILENCE
from ftq.words import plural

START = "Start it with `ftq up` (everything on this machine) or `ftq worker`."
ELSEWHERE = "`ftq up` or `ftq worker` starts one where it is installed; `ftq doctor` says how this client finds it."


def start() -> str:
    """How a worker is started."""
    return ELSEWHERE if lacking() else START


@dataclass(frozen=True)
class Member:
    """A worker, what it does, and for how many seconds it has been silent."""

    worker: Worker
    work: tuple[Work, ...]
    silent: float

    @property
    def state(self) -> str:
        """up, draining (finishes what it has), drained (has nothing left), stopping, silent, waiting (for a bucket)."""
        if self.worker.draining and self.silent <= WORKER_SILENCE:
            return "stopping"
        if not self.worker.is_live:
            return "silent"
        if self.worker.drained:
            return "draining" if self.work else "drained"
        return "waiting" if self.worker.waits else "up"


class Fleet:
    """All workers that the database knows."""

    def __init__(self, store: RunStore) -> None:
        self._store = store

    def all(self) -> list[Member]:
        """Every worker, by name; one that died is listed for a day."""
        now, work = self._store.now(), self._store.at_work()
        workers = sorted(self._store.workers(), key=lambda worker: worker.name)
        return [
            Member(one, tuple(part for part in work if part.worker == one.name), max(0.0, now - one.seen_at))
            for one in workers
        ]

    def live_queues(self) -> set[str]:
        """The queues from which at least one worker takes work."""
        return self._store.live_queues()

    def drain(self, name: str) -> Member:
        """Let a worker take nothing new. It finishes what it has. Refused for one that isn't up."""
        member = self._find(name)
        if member.state in ("silent", "stopping"):
            raise Refused(f"{member.worker.name} is {member.state}: it takes nothing", "`ftq workers` lists who is up.")
        return self._set(member, True)

    def undrain(self, name: str) -> Member:
        """Let a worker take work again."""
        return self._set(self._find(name), False)

    def forget(self, name: str) -> Member:
        """Take a worker that is gone for good off the list. Refused for one that gives signs of life."""
        member = self._find(name)
        if not self._store.forget_worker(member.worker.name, only_silent=True):
            who = f"{member.worker.name} is {member.state}: only a silent worker can be forgotten"
            raise Refused(who, f"Stop it on {member.worker.host} (Ctrl-C or SIGTERM): it leaves the list by itself.")
        return member

    def _set(self, member: Member, drained: bool) -> Member:
        self._store.set_drained(member.worker.name, drained)
        return self._find(member.worker.name)

    def _find(self, name: str) -> Member:
        """The worker of that name, or the only one whose name begins with it."""
        members = self.all()
        exact = [one for one in members if one.worker.name == name]
        matches = exact or [one for one in members if name and one.worker.name.startswith(name)]
        if len(matches) == 1:
            return matches[0]
        names = ", ".join(one.worker.name for one in matches or members)
        if matches:
            raise NotFound(f"{name} matches {len(matches)} workers: {names}", "Type more of the name.")
        raise NotFound(f"no worker {name}", f"There are: {names}" if names else start())


def missing_for(runs: tuple[Run, ...], store: Reads) -> str:
    """Why nobody takes the first run that waits in vain, and what to do; empty if all are taken."""
    workers = store.workers()
    return _unserved(runs, workers) or _too_old(runs, workers) or _limited(runs, workers, store)


def _unserved(runs: tuple[Run, ...], workers: Sequence[Worker]) -> str:
    """Why the first of these runs that waits in vain does so, and what to do; empty if all are served.

    A run that is still recorded as running waits too where all are gone. A drained worker finishes the stage it has.
    """
    live, drained = served_by(one for one in workers if one.takes), _drained(workers)
    waiting = _waiting(workers)
    for run in runs:
        if run.status == "running" and not live and not drained and not waiting:
            return f"No worker is up, so {run.name} stands still until one is. {start()}"
        ahead = run.remaining[1:] if run.status == "running" else run.remaining
        needed = {queue_of(stage.name, run.spec) for stage in ahead}
        if run.wanted != "run" or run.is_finished or not (missing := needed - live):
            continue
        if undrain := undraining(missing, drained):
            when = "after this stage" if run.status == "running" else "until one takes work again"
            return f"{_resting(missing, live)}, so {run.name} waits {when}. {undrain}"
        if why := _cut_off(missing, waiting, drained):
            return f"{run.name} waits{' after this stage' if run.status == 'running' else ''}: {why}"
        if run.status != "running":
            why, how = explain(run.name, missing - served_by(drained), live | served_by(drained))
            return f"{why}. The run is recorded and starts as soon as one is there. {how}"
    return ""


def would_wait(spec: dict[str, Any], store: Reads | None, owner: str) -> str:
    """What `missing_for` would say of a run of this owner that isn't recorded. Without a store no worker is up."""
    workers = store.workers() if store else []
    live = served_by(one for one in workers if one.takes)
    missing = {queue_of(stage, spec) for stage in STAGES} - live
    drained = _drained(workers)
    if undrain := undraining(missing, drained):
        return f"{_resting(missing, live)}. {undrain}"
    if why := _cut_off(missing, _waiting(workers), drained):
        return why[0].upper() + why[1:]
    if missing or store is None:
        return ". ".join(explain("It", missing - served_by(drained), live | served_by(drained)))
    return _at_limit(owner, workers, store)


def undraining(missing: set[str], drained: Sequence[Worker]) -> str:
    """How drained workers come to serve all of these queues; empty if they can't, or if none is missing."""
    if not missing or missing - served_by(drained):
        return ""
    names, left = list[str](), set(missing)
    for one in sorted(drained, key=lambda worker: (-len(missing & set(worker.served)), worker.name)):
        if left & set(one.served):
            names.append(one.name)
            left -= set(one.served)
    return f"`ftq workers undrain {' '.join(names)}` lets {'it' if len(names) == 1 else 'them'} take work."


def _drained(workers: Sequence[Worker]) -> list[Worker]:
    return [one for one in workers if one.is_live and one.drained]


def _waiting(workers: Sequence[Worker]) -> list[Worker]:
    return [one for one in workers if one.is_live and not one.drained and one.waits]


def _cut_off(missing: set[str], waiting: Sequence[Worker], drained: Sequence[Worker]) -> str:
    """Why workers of these queues wait for their bucket, and what to do; empty if that isn't what is missing."""
    those = [one for one in waiting if missing & set(one.served)]
    if not those or missing - served_by([*those, *drained]):
        return ""
    names, one = ", ".join(worker.name for worker in those), those[0]
    who = f"worker {names} waits for its" if len(those) == 1 else f"workers {names} wait for their"
    fix = str(one.facts.get("waits_fix", "")).partition("\n")[0]
    return f"{who} bucket: {one.waits}. On {one.host}: {fix}"


def _resting(missing: set[str], live: set[str]) -> str:
    """Who is drained, where the workers of these queues are."""
    return f"All workers of the queue {' or '.join(sorted(missing))} are drained" if live else "All workers are drained"


def _limited(runs: tuple[Run, ...], workers: Sequence[Worker], store: Reads) -> str:
    """Which run waits because its owner has as many at work as FTQ_OWNER_LIMIT allows; empty if none does."""
    for run in runs:
        if run.status == "queued" and run.wanted == "run" and (why := _at_limit(run.owner, workers, store)):
            return f"{run.name} waits. {why}"
    return ""


def _at_limit(owner: str, workers: Sequence[Worker], store: Reads) -> str:
    """The workers tell their limits; a worker without one takes every run."""
    limits = [int(one.facts.get("owner_limit") or 0) for one in workers if one.is_live and set(one.queues) != {ASK}]
    if not owner or not limits or not all(limits) or (number := store.at_work_of(owner)) < max(limits):
        return ""
    who = owner.removeprefix(USER) if owner.startswith(USER) else "this key"
    are = f"{plural(number, 'run')} of {who} {'is' if number == 1 else 'are'} at work"
    return f"{are}, as many as FTQ_OWNER_LIMIT lets one owner have"


def _too_old(runs: tuple[Run, ...], workers: Sequence[Worker]) -> str:
    """Which worker doesn't know a stage that a run waits for, and what to do; empty if none is so old.

    It drops the stage's messages. They are sent again, until another worker takes one.
    """
    for run in runs:
        if run.wanted != "run" or run.is_finished:
            continue
        for stage in run.remaining:
            queue = queue_of(stage.name, run.spec)
            old = [one.name for one in workers if one.is_live and queue in one.served and stage.name in one.lacks]
            if old:
                which = f"{', '.join(old)} {'is' if len(old) == 1 else 'are'} of an earlier version of ftq"
                return (
                    f"{which}, without the stage {stage.name}: {run.name} waits there until another worker takes it. "
                    f"Restart {'it' if len(old) == 1 else 'them'} with this version."
                )
    return ""


def explain(name: str, missing: set[str], live: set[str]) -> tuple[str, str]:
    """(what is missing for the run of that name, how to start it)."""
    label = next((queue.partition(".")[2] for queue in sorted(missing) if "." in queue), "")
    of, option = (f" with the label {label}", f" --label {label}") if label else ("", "")
    if label:  # only the workers that have it count
        live = {queue.partition(".")[0] for queue in live if queue.endswith(f".{label}")}
        missing = {queue.partition(".")[0] for queue in missing}
    wide = next((count for count in range(2, MAX_GPUS + 1) if gpu_queue(count) in missing), 0)
    if wide and live:
        most = next((count for count in range(MAX_GPUS, 1, -1) if gpu_queue(count) in live), 1)
        example = ",".join(map(str, range(wide)))
        return (
            f"{name} needs a worker{of} with {wide} GPUs, and no worker here has more than {most}",
            f"`ftq worker{option} --gpus {example}` starts one.",
        )
    if not live:
        return f"No worker{of} is up", f"`ftq worker{option}` starts one." if label else start()
    queues = sorted(missing)
    return (
        f"No worker{of} serves the queue {' or '.join(queues)}",
        f"`ftq worker{option} --queues {','.join(queues)}` starts one.",
    )
