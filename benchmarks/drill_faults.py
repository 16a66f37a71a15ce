"""The faults of the drill. Each breaks something, has it fixed, and waits until work goes on."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable

import psutil

from benchmarks.drill_machine import GRACE, LEASE, Worker, tell
from benchmarks.drill_runs import Drill, Injected, failed_by_design
from ftq import queue
from ftq.files.run_dir import STAGES
from ftq.store.records import Run

PUBLISHED = {"succeeded", "cache_hit"}
Fault = Callable[[Drill, Injected], None]
FAULTS: dict[str, Fault] = {}


def fault(kind: str) -> Callable[[Fault], Fault]:
    def add(function: Fault) -> Fault:
        FAULTS[kind] = function
        return function

    return add


def hit(drill: Drill, injected: Injected, break_it: Callable[[Run, Worker], None]) -> None:
    """Break something of a busy worker, see to it that two workers are up, and wait for its run to go on."""
    pair = drill.victim()
    if pair is None:
        if drill.next_fault == math.inf:
            drill.notes.append(f"{injected.kind}: nothing was running")
        return
    run, worker = pair
    injected.at = time.time()
    break_it(run, worker)
    drill.machine.replace_the_dead()
    drill.await_next(injected, run, injected.at)


@fault("stage killed (kill -9)")
def kill_stage(drill: Drill, injected: Injected) -> None:
    hit(drill, injected, lambda run, worker: tell(drill.machine.stage_pid(run), signal.SIGKILL))


@fault("pool child killed (kill -9)")
def kill_child(drill: Drill, injected: Injected) -> None:
    hit(drill, injected, lambda run, worker: tell(worker.child(), signal.SIGKILL))


@fault("worker killed (kill -9), another started")
def kill_worker(drill: Drill, injected: Injected) -> None:
    def break_it(run: Run, worker: Worker) -> None:
        worker.signal(signal.SIGKILL)
        worker.process.wait()

    hit(drill, injected, break_it)


@fault("worker asked to stop (SIGTERM)")
def stop_worker(drill: Drill, injected: Injected) -> None:
    hit(drill, injected, lambda run, worker: _stop(drill, injected, worker, lambda: worker.process.terminate()))


@fault("worker and stage asked to stop (systemd's SIGTERM to all)")
def stop_group(drill: Drill, injected: Injected) -> None:
    def break_it(run: Run, worker: Worker) -> None:
        def everything() -> None:
            stage = drill.machine.stage_pid(run)
            worker.signal(signal.SIGTERM)
            tell(stage, signal.SIGTERM)

        _stop(drill, injected, worker, everything)

    hit(drill, injected, break_it)


def _stop(drill: Drill, injected: Injected, worker: Worker, tell: Callable[[], None]) -> None:
    began = time.monotonic()
    tell()
    drill.wait(lambda: not worker.alive, GRACE + 2)
    if worker.alive:
        drill.notes.append(f"{injected.kind}: {worker.name} was still there {time.monotonic() - began:.1f} s later")
        drill.wait(lambda: not worker.alive, 60)


@fault("worker and stage frozen past the lease (SIGSTOP)")
def freeze_both(drill: Drill, injected: Injected) -> None:
    def break_it(run: Run, worker: Worker) -> None:
        stage = drill.machine.stage_pid(run)
        worker.signal(signal.SIGSTOP)
        tell(stage, signal.SIGSTOP)
        drill.pause_for(LEASE * drill.random.choice([1.3, 1.3, 1.8, 4]))
        worker.signal(signal.SIGCONT)
        tell(stage, signal.SIGCONT)

    hit(drill, injected, break_it)


@fault("worker frozen past the lease, its stage not")
def freeze_worker(drill: Drill, injected: Injected) -> None:
    def break_it(run: Run, worker: Worker) -> None:
        worker.signal(signal.SIGSTOP)
        drill.pause_for(LEASE * drill.random.choice([1.05, 1.3, 1.8]))
        worker.signal(signal.SIGCONT)

    hit(drill, injected, break_it)


@fault("pool child frozen past the lease")
def freeze_child(drill: Drill, injected: Injected) -> None:
    def break_it(run: Run, worker: Worker) -> None:
        child = worker.child()
        tell(child, signal.SIGSTOP)
        drill.pause_for(LEASE * drill.random.choice([1.05, 1.3, 1.8]))
        tell(child, signal.SIGCONT)

    hit(drill, injected, break_it)


@fault("both workers frozen past the lease")
def freeze_all(drill: Drill, injected: Injected) -> None:
    def break_it(run: Run, worker: Worker) -> None:
        for one in drill.machine.workers:
            one.signal(signal.SIGSTOP)
        drill.pause_for(LEASE * drill.random.choice([1.05, 1.3]))
        for one in drill.machine.workers:
            one.signal(signal.SIGCONT)

    hit(drill, injected, break_it)


@fault("everything killed at once, the broker too")
def kill_all(drill: Drill, injected: Injected) -> None:
    drill.victim()
    running = [run for run in drill.unfinished() if run.status == "running"]
    stages = [drill.machine.stage_pid(run) for run in running]
    for worker in drill.machine.workers:
        worker.signal(signal.SIGKILL)
    for pid in stages:
        tell(pid, signal.SIGKILL)
    drill.machine.stop_broker()
    if drill.random.random() < 0.5:
        drill.machine.wipe_broker()
    drill.machine.start_broker()
    for worker in drill.machine.workers:
        worker.process.wait()
    drill.machine.replace_the_dead()
    started = time.time()
    for run in running:
        drill.await_next(injected, run, started)


def _interrupt_broker(drill: Drill, injected: Injected, wipe: bool, meanwhile: Callable[[], None]) -> None:
    injected.runs += [run.id for run in drill.unfinished()]
    drill.machine.stop_broker(drill.random.choice([signal.SIGKILL, signal.SIGTERM]))
    meanwhile()
    if wipe:
        drill.machine.wipe_broker()
    drill.machine.start_broker()
    drill.await_claim(injected, time.time())


@fault("broker restarted with its data")
def restart_broker(drill: Drill, injected: Injected) -> None:
    _interrupt_broker(drill, injected, False, lambda: drill.pause_for(drill.random.uniform(0, 1.5)))


@fault("broker restarted empty")
def restart_broker_empty(drill: Drill, injected: Injected) -> None:
    _interrupt_broker(drill, injected, True, lambda: drill.pause_for(drill.random.uniform(0, 1.5)))


@fault("broker emptied while it runs (FLUSHALL)")
def flush_broker(drill: Drill, injected: Injected) -> None:
    injected.runs += [run.id for run in drill.unfinished()]
    drill.machine.redis().flushall()
    drill.await_claim(injected, time.time())


@fault("broker unreachable over the end of a stage")
def broker_unreachable(drill: Drill, injected: Injected) -> None:
    def until_a_stage_ends() -> None:
        before = count_events(drill, PUBLISHED)
        drill.wait(lambda: count_events(drill, PUBLISHED) > before, 10)
        drill.pause_for(drill.random.uniform(0.5, 3))

    drill.victim()
    _interrupt_broker(drill, injected, drill.random.random() < 0.3, until_a_stage_ends)


@fault("broker unreachable, a worker asked to stop meanwhile")
def broker_unreachable_and_stop(drill: Drill, injected: Injected) -> None:
    def stop_one() -> None:
        drill.pause_for(drill.random.uniform(0.2, 2))
        busy = [worker for run in drill.unfinished() if (worker := drill.machine.holder(run))]
        worker = drill.random.choice(busy or drill.machine.workers)
        _stop(drill, injected, worker, lambda: worker.process.terminate())

    drill.victim()
    _interrupt_broker(drill, injected, False, stop_one)


@fault("broker frozen for some seconds (SIGSTOP)")
def freeze_broker(drill: Drill, injected: Injected) -> None:
    injected.runs += [run.id for run in drill.unfinished()]
    assert drill.machine.broker
    drill.machine.broker.send_signal(signal.SIGSTOP)
    submitting, drill.submitting = drill.submitting, False  # a submit would wait for it, and so would the drill
    drill.pause_for(drill.random.uniform(1, 8))
    drill.submitting = submitting
    drill.machine.broker.send_signal(signal.SIGCONT)
    drill.await_claim(injected, time.time())


@fault("messages sent again, old ones too")
def send_again(drill: Drill, injected: Injected) -> None:
    drill.victim()
    runs = drill.client.all(6)
    injected.runs += [run.id for run in runs if not run.is_finished]
    app = drill.client._doorbell.app
    for run in runs:
        for _ in range(drill.random.randint(1, 3)):
            queue.send(app, run)
        for stage in run.stages:  # what any earlier attempt was sent with
            old = drill.random.randint(1, stage.attempt)
            app.send_task(f"ftq.{stage.name}", args=(run.id, old), task_id=f"{run.id}.{stage.name}.{old}", queue="cpu")


@fault("forged messages")
def forge(drill: Drill, injected: Injected) -> None:
    pair = drill.victim()
    app = drill.client._doorbell.app
    ids = [run.id for run in drill.client.all(4)]
    injected.runs += [pair[0].id] if pair else []
    for arguments in [("nobody", 1), (ids[0], 999), ("../../etc", 1), (ids[-1], "1 OR 1=1"), ({"a": 1}, []), ()]:
        for stage in drill.random.sample(STAGES, 2):
            app.send_task(
                f"ftq.{stage}", args=arguments, task_id="forged.train.1", queue=drill.random.choice(["cpu", "gpu"])
            )
    app.send_task("os.system", args=("true",), queue="gpu")
    app.send_task("ftq.answer", args=("nothing",), queue="cpu")


@fault("garbage in the broker")
def garbage(drill: Drill, injected: Injected) -> None:
    """What isn't a message, and messages of other programs, before and among those of the runs."""
    injected.runs += [run.id for run in drill.unfinished()]
    app, broker = drill.client._doorbell.app, drill.machine.redis()
    for raw in (b"not json", b"\xff\xfe", b"{}", b"[]", b'{"headers": {"task": "ftq.train"', b"[" * 100_000):
        key = drill.random.choice(["cpu", "gpu", "cpu\x06\x164", "gpu\x06\x164"])
        drill.random.choice([broker.lpush, broker.rpush])(key, raw)
    broker.publish("/0.celery.pidbox", b"{}")
    for task in ("ftq.judge", "shop.mail"):
        app.send_task(task, args=("x",), queue=drill.random.choice(["cpu", "gpu"]))
    for options in ({"serializer": "yaml"}, {"compression": "gzip"}, {"countdown": 3600}):
        app.send_task("ftq.train", args=("nobody", 1), queue="gpu", **options)
    if drill.wait(lambda: not any(map(broker.llen, ("cpu", "gpu"))), 20) is None:
        drill.notes.append(f"{injected.kind}: it still lay there after 20 s")
    drill.notes += [f"{injected.kind}: {worker.name} ended" for worker in drill.machine.workers if not worker.alive]


@fault("cancel")
def cancel(drill: Drill, injected: Injected) -> None:
    pair = drill.victim() if drill.random.random() < 0.8 else None
    waiting = [run for run in drill.unfinished() if run.status == "queued"]
    if pair is None and not waiting:
        return
    run = pair[0] if pair else drill.random.choice(waiting)
    injected.at = time.time()
    drill.client.cancel(run.id)
    injected.runs.append(run.id)
    drill.cancelled.add(run.id)
    if drill.wait(lambda: drill.store.get(run.id).is_finished, 10) is None:
        drill.notes.append(f"cancel: {run.name} was still {drill.store.get(run.id).status} after 10 s")
    pid = drill.machine.stage_pid(run)
    if drill.wait(lambda: not (pid and psutil.pid_exists(pid)), max(0.1, injected.at + 10 - time.time())) is None:
        drill.notes.append(f"cancel: the process of {run.name} was still there after 10 s")


@fault("pause, then resume")
def pause_and_resume(drill: Drill, injected: Injected) -> None:
    pair = drill.victim()
    if pair is None:
        return
    run = drill.client.pause(pair[0].id)
    if drill.wait(lambda: drill.store.get(run.id).status != "running", GRACE + 2) is None:
        drill.notes.append(f"pause: {run.name} was still running after {GRACE + 2:.0f} s")
    drill.pause_for(drill.random.uniform(0, 2))
    before = drill.store.get(run.id)
    if before.is_finished or before.current is None:
        return
    since = time.time()
    drill.client.resume(run.id)
    injected.runs.append(run.id)
    drill.await_claim(injected, since, run)


@fault("cancel, and its worker killed at that moment")
def cancel_and_kill(drill: Drill, injected: Injected) -> None:
    pair = drill.victim()
    if pair is None:
        return
    run, worker = pair
    injected.runs.append(run.id)
    drill.cancelled.add(run.id)
    if drill.random.random() < 0.5:
        drill.client.cancel(run.id)
        worker.signal(signal.SIGKILL)
    else:
        worker.signal(signal.SIGKILL)
        drill.client.cancel(run.id)
    worker.process.wait()
    drill.machine.replace_the_dead()
    if drill.wait(lambda: drill.store.get(run.id).is_finished, 2 * LEASE + 5) is None:
        drill.notes.append(f"{injected.kind}: {run.name} was still {drill.store.get(run.id).status}")


@fault("retry of a cancelled or failed run")
def retry(drill: Drill, injected: Injected) -> None:
    def finished_badly() -> list[Run]:
        return [run for run in drill.client.all() if run.status == "cancelled" or failed_by_design(run)]

    for _ in range(3):
        if not finished_badly():
            cancel(drill, injected)
    over = finished_badly()
    if not over:
        drill.notes.append("retry: no run was cancelled")
        return
    run = drill.random.choice(over)
    first = run.current.name if run.current else STAGES[-1]
    stage = drill.random.choice([None, *STAGES[: STAGES.index(first) + 1]])
    since = injected.at = time.time()
    drill.client.retry(run.id, stage)
    drill.cancelled.discard(run.id)
    injected.runs = [run.id]
    drill.await_claim(injected, since, run)


def count_events(drill: Drill, kinds: set[str]) -> int:
    return sum(event.kind in kinds for run in drill.client.all() for event in drill.store.events(run.id))
