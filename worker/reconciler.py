"""The reconciler: a thread in every worker's main process that sends on what got stuck.

It takes back stages whose lease ended, and sends queued stages again whose message is gone (because the broker was
unreachable or lost its data). Every worker may run one: the database decides who does what.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import cached_property
from typing import Any

from billiard.process import active_children

from ftq import queue
from ftq.client.bucket.place import advise
from ftq.errors import FtqError, LeaseLost, NotFound, first_line
from ftq.files.remote.bucket import OutOfReach
from ftq.files.run_dir import STAGES
from ftq.servers import place_of
from ftq.settings import Settings
from ftq.store.records import ASK, served_by
from ftq.store.store import RunStore
from ftq.version import VERSION
from worker.attempt import holders
from worker.incoming import transport
from worker.incoming.dropped import dropped
from worker.incoming.foreign import foreigners
from worker.incoming.ownership import Ownership
from worker.incoming.reach import Reach
from worker.machine import hardware

log = logging.getLogger("ftq.reconciler")
LOOK_SECONDS = 15.0  # between two looks at the GPUs: nvidia-smi takes a tenth of a second
REST, LONGEST_REST = 100, 25.0  # of a look's processor time, until the next one; two looks fit into a worker's minute
DRAIN_SECONDS = 0.5  # how often a worker that was asked to stop says so


class Reconciler:
    """Sends on what got stuck, gives this worker's sign of life, and says when the worker is about to stop."""

    def __init__(
        self, settings: Settings, worker: str, queues: list[str], take: Callable[[set[str]], None] = lambda queues: None
    ) -> None:
        """`take` lets the worker take messages from these of its queues. Until it is first called it takes none."""
        self.app, self.settings = queue.make_impatient_app(settings), settings
        self._wake, self._stopping = threading.Event(), threading.Event()
        self.worker, self._registered = worker, False
        self.queues = [name for name in queues if "." not in name]
        self.labels = sorted({name.partition(".")[2] for name in queues if "." in name})
        self._serves, self._take, self._taken = set(queues), take, set[str]()
        self._drained: bool | None = None  # not known yet
        self._ownership = Ownership(settings, worker, lambda: self.store)
        self._reach = Reach(settings.artifacts_url, self._wake.set, self._advised)
        self._others_answer = False  # whether another worker answers questions while the bucket is waited for
        self._cards, self._looked_at = list[dict[str, Any]](), -LOOK_SECONDS
        self._began = time.monotonic()
        self.every = min(5.0, settings.lease_seconds / 6)
        self.grace = min(8.0, settings.lease_seconds / 2)  # seconds that a message may be on its way
        self.app.amqp_cls = transport.Incoming  # which goes on where a key of the broker holds something else
        self._missing: set[str] = set()  # tasks that had no message at the last look
        self._look_at = 0.0  # when the broker may be looked through again, by time.monotonic
        self._dead: deque[tuple[str, str, int]] = deque()
        self._terminated: deque[tuple[str, str, int]] = deque()
        self._thread = threading.Thread(target=self._loop, name="reconciler", daemon=True)

    @cached_property
    def store(self) -> RunStore:
        """Opened when it is first needed: the database may be unreachable when the worker starts."""
        store = RunStore(self.settings.database_url)
        self.app.database = store.identity
        return store

    def start(self) -> None:
        threading.Thread(target=self._hand_back, name="drain", daemon=True).start()
        self._reach.start()
        self._thread.start()

    def take_back(self, run_id: str, stage: str, attempt: int) -> None:
        """Take back an attempt whose process in this worker has died, without waiting for its lease."""
        self._dead.append((run_id, stage, attempt))
        self._wake.set()

    def cancel(self, run_id: str, stage: str, attempt: int) -> None:
        """Cancel the run of an attempt that Flower's Terminate ended here, as soon as the database can be reached."""
        self._terminated.append((run_id, stage, attempt))
        self._wake.set()

    def drain(self) -> None:
        """Note that the worker stops. Called in a signal handler: only a thread may write to the database."""
        self._stopping.set()
        self._reach.stop()
        self._wake.set()

    def stop(self) -> None:
        self.drain()
        self._thread.join(timeout=5)
        with contextlib.suppress(Exception):
            self.store.forget_worker(self.worker)
        self._ownership.leave()

    def reconcile(self) -> list[str]:
        """Do one turn; return the ids of the runs that were sent on."""
        self._cancel_terminated()
        stuck = [*self._expired(), *self._without_message()]
        return [run.id for run in map(self.store.due, stuck) if run and queue.send(self.app, run)]

    def _without_message(self) -> list[str]:
        """The runs whose next stage waits and has had no message in the broker, now and at the look before.

        Missing once may mean that a worker has just taken it. A look reads the ids of all messages: with very many it
        is made less often, so that it takes a hundredth of a processor.
        """
        if time.monotonic() < self._look_at:
            return []
        if not self.store.may_look(self.worker):
            self._missing = set()
            return []
        began, used = time.monotonic(), time.thread_time()
        waiting = self.store.waiting(self.grace, self.settings.owner_limit)
        tasks = {queue.task_id(*attempt): attempt[0] for attempt in waiting}
        missing = set(tasks) - (self._sent() if tasks else set())
        twice, self._missing = missing & self._missing, missing
        pause = min(REST * (time.thread_time() - used), LONGEST_REST)
        self._look_at = began + pause if pause > self.every else began
        return [run_id for task, run_id in tasks.items() if task in twice]  # in the order of the submits

    def _sent(self) -> set[str]:
        return queue.messages(self.app, self.settings.lease_seconds / 2, self.store.labels_wanted())

    def _cancel_terminated(self) -> None:
        while self._terminated:
            with contextlib.suppress(NotFound):  # the run was deleted meanwhile
                self.store.cancel_attempt(*self._terminated[0], begun=True)
            self._terminated.popleft()

    def _expired(self) -> list[str]:
        """Take back stages whose process on this machine died or whose lease ended; the runs that go on at once."""
        run_ids = list[str]()

        def lose(holder: holders.Holder) -> None:
            with contextlib.suppress(LeaseLost):  # taken back already
                self.store.lose(holder.token, f"the process of {holder.worker} that held it died")
                run_ids.append(holder.run_id)

        while self._dead:
            run_ids += self.store.expire_attempt(*self._dead[0], worker=self.worker)
            self._dead.popleft()
        holders.end_the_dead(self.settings.home, lose)
        return [*run_ids, *self.store.expire(self.settings.lease_seconds)]

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._try(self._beat)
            self._try(self._ownership.renew)
            self._take_or_not()
            for run_id in self._try(self.reconcile) or []:
                log.warning("run %s was stuck: its next stage is sent again", run_id)
            self._wake.wait(self.every)
            self._wake.clear()

    def _beat(self) -> None:
        facts = hardware.facts(self.settings.memory_gb) | self._reach.facts()
        if time.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._looked_at, self._cards = time.monotonic(), hardware.in_use()
        facts |= foreigners.facts() | self._ownership.facts()
        facts |= {"stages": list(STAGES), "version": VERSION, "labels": self.labels, "cards": self._cards}
        facts |= {"owner_limit": self.settings.owner_limit, **dropped.facts()}
        facts |= {"broker": "" if self.settings.embedded else place_of(self.settings.broker_url)}
        host, gpu = socket.gethostname(), hardware.gpu_name()
        drained = self.store.see_worker(self.worker, host, self.queues, gpu, os.getpid(), facts)
        if drained != bool(self._drained):
            log.warning("drained: nothing new is taken" if drained else "undrained: work is taken again")
        self._drained = drained
        if self._reach.error and ASK in self._serves:
            others = [one for one in self.store.workers() if one.takes and one.name != self.worker]
            self._others_answer = ASK in served_by(others)
        if not self._registered:  # an earlier worker of this name may have died while it was stopping
            self.store.drain_worker(self.worker, False)
            self.store.lose_questions_of(self.worker, time.monotonic() - self._began)
            holders.forget_other_boots(self.settings.home, self._is_over)
            self._registered = True

    def _is_over(self, token: str) -> bool:
        try:
            self.store.check(token)
        except LeaseLost:
            return True
        return False

    def _take_or_not(self) -> None:
        if (wanted := self._wanted()) != self._taken:
            self._take(wanted)
            self._taken = wanted

    def _wanted(self) -> set[str]:
        """The queues to take from now. Without its bucket a worker answers what it can, where nobody else answers."""
        if self._drained is not False or self._ownership.other or not self._reach.known:
            return set()
        if self._reach.error:
            return set() if self._others_answer else self._serves & {ASK}
        return self._serves

    def _advised(self, error: OutOfReach) -> OutOfReach:
        try:
            return advise(error, self.store, self.settings.artifacts_url)
        except FtqError:  # without the database
            return error

    def _hand_back(self) -> None:
        """Ask this worker's supervisors to hand their runs back, again and again until the process ends.

        It has a thread of its own because the loop may be waiting for the broker, and repeats itself because the
        database may be unreachable.
        """
        self._stopping.wait()
        end = threading.Timer(self.settings.grace_seconds, self._end)
        end.daemon = True
        end.start()
        while True:
            self._try(lambda: self.store.drain_worker(self.worker, True))
            time.sleep(DRAIN_SECONDS)

    def _end(self) -> None:
        """End a worker that waits for a hanging broker or database.

        A stage saves its checkpoint without a supervisor, and when the lease ends another worker takes the run.
        """
        log.error("asked to stop %.0f s ago and still running: ended now", self.settings.grace_seconds)
        for child in active_children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
        os._exit(1)

    def _try(self, action: Any) -> Any:
        """Log an error instead of raising it: an unreachable broker or database must not end the thread."""
        try:
            return action()
        except Exception as error:
            log.warning("reconciler: %s", first_line(error))
            return None
