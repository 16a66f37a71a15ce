"""The workers: how they are reached, who is up and does what, and what is missing where nobody takes a run's stages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ftq.errors import NotFound, Refused
from ftq.files.run_dir import STAGES
from ftq.programs import lacking
from ftq.store.records import ASK, MAX_GPUS, USER, Run, Work, Worker, gpu_queue, queue_of, served_by
from ftq.store.store import RunStore
from ftq.store.wire.reads import Reads
from ftq.store.workers import WORKER_SILENCE
from ftq.words import listed, plural

START = "Start it with `ftq up` (everything on this machine) or `ftq worker`."
KNOWN = 20  # names of workers, where one is looked for
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
        """up, draining (finishes what it has), drained (has nothing left), stopping, silent, waiting (for a bucket),
        refused (by its broker)."""
        if self.worker.draining and self.silent <= WORKER_SILENCE:
            return "stopping"
        if not self.worker.is_live:
            return "silent"
        if self.worker.drained:
            return "draining" if self.work else "drained"
        return "refused" if self.worker.refused else "waiting" if self.worker.waits else "up"


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

    def drain(self, *names: str) -> list[Member]:
        """Let workers take nothing new. They finish what they have. Refused, for all, where one isn't up."""
        return self._set(drainable(self.all(), names), True)

    def undrain(self, *names: str) -> list[Member]:
        """Let workers take work again."""
        return self._set(named(self.all(), names), False)

    def forget(self, *names: str) -> list[Member]:
        """Take workers that are gone for good off the list. Refused, for all, where one gives signs of life."""
        members = forgettable(self.all(), names)
        back = [one for one in members if not self._store.forget_worker(one.worker.name, only_silent=True)]
        forgettable(self.all(), [one.worker.name for one in back])  # such a one has come back at this moment
        return members

    def _set(self, members: Sequence[Member], drained: bool) -> list[Member]:
        names = [one.worker.name for one in members]
        for name in names:
            self._store.set_drained(name, drained)
        return named(self.all(), names)


def drainable(members: Sequence[Member], names: Sequence[str]) -> list[Member]:
    """Those that are named. Refused, with each that isn't up."""
    chosen = named(members, names)
    _refuse(
        (f"{one.worker.name} is {one.state}: it takes nothing", "`ftq workers` lists who is up.")
        for one in chosen
        if one.state in ("silent", "stopping")
    )
    return chosen


def forgettable(members: Sequence[Member], names: Sequence[str]) -> list[Member]:
    """Those that are named. Refused, with each that gives signs of life."""
    chosen = named(members, names)
    _refuse(
        (
            f"{one.worker.name} is {one.state}: only a silent worker can be forgotten",
            f"Stop it on {one.worker.host} (Ctrl-C or SIGTERM): it leaves the list by itself.",
        )
        for one in chosen
        if one.state != "silent"
    )
    return chosen


def named(members: Sequence[Member], names: Sequence[str]) -> list[Member]:
    """The workers of these names, or the only ones whose names begin so. NotFound, with each that isn't there."""
    chosen, wrong = dict[str, Member](), list[tuple[str, str]]()
    for name in dict.fromkeys(names):
        exact = [one for one in members if one.worker.name == name]
        matches = exact or [one for one in members if name and one.worker.name.startswith(name)]
        if len(matches) == 1:
            chosen[matches[0].worker.name] = matches[0]
        elif matches:
            which = listed([one.worker.name for one in matches], KNOWN)
            wrong.append((f"{name} matches {len(matches)} workers: {which}", "Type more of the name."))
        else:
            known = listed([one.worker.name for one in members], KNOWN)
            wrong.append(
                (f"no worker {name}" if name else "a name is empty", f"There are: {known}" if known else start())
            )
    if wrong:
        raise NotFound(*_together(wrong))
    return list(chosen.values())


def _refuse(reasons: Iterable[tuple[str, str]]) -> None:
    if wrong := list(reasons):
        raise Refused(*_together(wrong))


def _together(problems: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """(what is wrong, what to do), a line each."""
    messages, hints = zip(*problems, strict=True)
    return "\n".join(messages), "\n".join(dict.fromkeys(hints))


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
    others = live | served_by(waiting)
    for run in runs:
        if run.status == "running" and not live and not drained and not waiting:
            return f"No worker is up, so {run.name} stands still until one is. {start()}"
        ahead = run.remaining[1:] if run.status == "running" else run.remaining
        needed = {queue_of(stage.name, run.spec) for stage in ahead}
        if run.wanted != "run" or run.is_finished or not (missing := needed - live):
            continue
        if undrain := undraining(missing, drained):
            when = "after this stage" if run.status == "running" else "until one takes work again"
            return f"A{resting(missing, drained, others)[1:]}, so {run.name} waits {when}. {undrain}"
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
        return f"A{resting(missing, drained, live | served_by(_waiting(workers)))[1:]}. {undrain}"
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
    serving = [one for one in drained if missing & set(one.served)]
    for one in sorted(serving, key=lambda worker: (-len(missing & set(worker.served)), worker.name)):
        if left & set(one.served):
            names.append(one.name)
            left -= set(one.served)
    does = "is enough" if len(serving) > len(names) else f"lets {'it' if len(names) == 1 else 'them'} take work"
    return f"`ftq workers undrain {' '.join(names)}` {does}."


def resting(missing: set[str], drained: Sequence[Worker], live: set[str]) -> str:
    """Which workers of these queues are drained. `live` are the queues of those that aren't."""
    if not live:
        return f"all workers are drained ({listed(sorted(one.name for one in drained))})"
    names = sorted(one.name for one in drained if missing & set(one.served))
    return f"all workers of the queue {' or '.join(sorted(missing))} are drained ({listed(names)})"


def _drained(workers: Sequence[Worker]) -> list[Worker]:
    return [one for one in workers if one.is_live and one.drained]


def _waiting(workers: Sequence[Worker]) -> list[Worker]:
    return [one for one in workers if one.is_live and not one.drained and (one.waits or one.refused)]


def _cut_off(missing: set[str], waiting: Sequence[Worker], drained: Sequence[Worker]) -> str:
    """Why workers of these queues wait for their bucket, or their broker; empty if that isn't what is missing."""
    those = [one for one in waiting if missing & set(one.served)]
    if not those or missing - served_by([*those, *drained]):
        return ""
    one = those[0]
    names = [worker.name for worker in those if bool(worker.refused) == bool(one.refused)]
    who, s, its = ("worker", "s", "its") if len(names) == 1 else ("workers", "", "their")
    if one.refused:
        does, fix = f"take{s} nothing from {its} broker: {one.refused}", one.facts.get("refused_fix", "")
    else:
        does, fix = f"wait{s} for {its} bucket: {one.waits}", one.facts.get("waits_fix", "")
    first, *_ = str(fix).partition("\n")
    return f"{who} {', '.join(names)} {does}. On {one.host}: {first}"


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
