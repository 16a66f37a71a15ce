"""The Celery app: `celery -A worker.app worker`, or `ftq worker`, which adds the right options.

Tasks run in Celery's pool child, which only supervises: the stage itself is a process of its own. The main
process keeps this worker's sign of life and the reconciler, and asks the children to hand back when it stops.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from celery import signals
from celery.exceptions import WorkerLostError
from celery.worker.consumer import Consumer
from celery.worker.consumer.consumer import STOP_CONDITIONS
from celery.worker.state import maybe_shutdown

from ftq.broker.refusals import refusal
from ftq.doorbell import away
from ftq.errors import printable
from ftq.notify.addresses import addresses as notified
from ftq.queue import BROKER_ERRORS, PATIENT_PUBLISHING, attempt_of, make_app, question_of
from ftq.settings import Settings, protect_files
from ftq.start import settle
from worker import tasks
from worker.incoming.transport import FellOver, Incoming
from worker.notifier import Notifier
from worker.reconciler import Reconciler

settle()
protect_files()  # before the first log or database file
settings = Settings.from_env()
addresses = notified()
app = make_app(settings)
app.amqp_cls = Incoming
app.conf.task_publish_retry_policy = PATIENT_PUBLISHING
app.conf.worker_consumer = "worker.app:QuickConsumer"
app.conf.include = ["worker.app"]  # the pool's children find their tasks here
tasks.register(app, settings)

log = logging.getLogger("ftq.worker")
RETRY_SECONDS = 3.0
_reconciler: Reconciler | None = None
_notifier: Notifier | None = None
_queues: list[str] = []  # that this worker serves


class _Printable(logging.Filter):
    """Replaces control characters: a broker's message may hold any, and the log may go to a terminal."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = printable(record.getMessage()), ()
        return True


class QuickConsumer(Consumer):  # type: ignore[misc]
    """Outlasts every state of the broker; Celery's own worker ends at what isn't a lost connection.

    A replica, a full disk, a missing right pass, and nothing would start the worker again. It tries again after three
    seconds at most, where Celery's own pauses grow to half a minute.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.connection_errors: tuple[type[BaseException], ...] = (*self.connection_errors, *BROKER_ERRORS)
        self._lost_at = -RETRY_SECONDS
        self._ticks = set[Callable[[], None]]()

    def connect(self) -> Any:
        """Connect, and take what kombu did for the connection before out of the event loop: it would keep all of it."""
        if not self.hub:
            return super().connect()
        self.hub.on_tick -= self._ticks
        others = set(self.hub.on_tick)
        connection = super().connect()
        self._ticks = self.hub.on_tick - others
        return connection

    def ensure_connected(self, connection: Any) -> Any:
        connect = connection.ensure_connection

        def patiently(_: Any, *arguments: Any, **options: Any) -> Any:
            pauses = {"interval_start": 1, "interval_step": 1, "interval_max": RETRY_SECONDS}
            return connect(lambda error, pause: _tell(error), *arguments, **options, **pauses)

        connection.ensure_connection = patiently
        return super().ensure_connected(connection)

    def on_connection_error_before_connected(self, exc: BaseException) -> None:
        _tell(exc)
        self._pause()

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        if not isinstance(exc, FellOver):  # it has been told
            _tell(exc)
        super().on_connection_error_after_connected(exc)
        self._pause()

    def _pause(self) -> None:
        """Wait if the last connection didn't last: a server that answers and takes nothing would be asked for ever."""
        until = self._lost_at + RETRY_SECONDS + 1
        while time.monotonic() < until and self.blueprint.state not in STOP_CONDITIONS:
            maybe_shutdown()
            time.sleep(0.2)
        self._lost_at = time.monotonic()


def _tell(error: BaseException) -> None:
    why = refusal(error)
    level, then = (logging.ERROR, ", in vain until somebody corrects that") if why.lasts else (logging.WARNING, "")
    fix = why.fix or away.advice(settings)
    log.log(level, "the broker %s (%s): tried again%s. %s", why.what, why.words, then, fix)


@signals.after_setup_logger.connect
def _keep_the_log_printable(logger: logging.Logger, **_: Any) -> None:
    for handler in logger.handlers:
        handler.addFilter(_Printable())


@signals.celeryd_after_setup.connect
def _decide_about_the_standby(instance: Any, **_: Any) -> None:
    """Turn the standby off unless there is one pool child and it trains. The children read this from the environment.

    They import this module anew, so a variable of this process wouldn't reach them.
    """
    if instance.concurrency != 1 or "gpu" not in instance.app.amqp.queues.consume_from:
        os.environ["FTQ_STANDBY"] = "0"


@signals.celeryd_after_setup.connect
def _take_nothing_yet(instance: Any, **_: Any) -> None:
    """Begin with no queue: the reconciler says when this worker may take something. Celery calls it after the above."""
    queues = instance.app.amqp.queues
    _queues[:] = instance.app.serves = list(queues.consume_from)
    for name in _queues:
        queues.deselect(name)


@signals.worker_ready.connect
def _start_reconciler(sender: Any, **_: Any) -> None:
    global _reconciler, _notifier
    reconciler = Reconciler(settings, sender.hostname, _queues, lambda wanted: _take_from(sender, wanted))
    reconciler.start()
    _reconciler = reconciler
    _notifier = Notifier(lambda: reconciler.store, addresses)
    _notifier.start()


def _take_from(consumer: Any, wanted: set[str]) -> None:
    """Let the worker take messages from these of its queues. Celery's loop does it: the reconciler is a thread.

    All are cancelled first: they are asked in the order in which they were added. A connection that is lost, or that
    the broker lets declare nothing, is followed by another, which consumes from what is selected then.
    """

    def attempt(action: Callable[[str], None], names: list[str]) -> Iterator[Exception]:
        for name in names:
            try:
                action(name)
            except Exception as error:
                log.info("%s: %s", name, error)
                yield error

    def change() -> None:
        errors = [*attempt(consumer.cancel_task_queue, [one for one in _queues if one in queues.consume_from])]
        errors += attempt(consumer.add_task_queue, [name for name in _queues if name in wanted])
        for error in errors:
            if isinstance(error, BROKER_ERRORS):
                raise error  # QuickConsumer connects anew

    queues = consumer.app.amqp.queues
    consumer.call_soon(change)


@signals.worker_shutting_down.connect
def _drain(**_: Any) -> None:
    """Ask the supervisors to stop: at their next look they save a checkpoint and hand their run back."""
    if _reconciler:
        _reconciler.drain()


@signals.worker_shutdown.connect
def _stop_reconciler(**_: Any) -> None:
    if _notifier:
        _notifier.stop()
    if _reconciler:
        _reconciler.stop()


@signals.task_revoked.connect
def _cancel(request: Any, terminated: bool, **_: Any) -> None:
    """Cancel the run of a task that was terminated while running, or revoked while waiting, in Flower.

    Celery carries out both in this process. The message of a revoked task would otherwise be sent again for ever.
    """
    attempt = attempt_of(request.id)
    if not _reconciler or not attempt:
        return
    if terminated:
        _reconciler.cancel(*attempt)
    else:
        _reconciler.store.cancel_attempt(*attempt)


@signals.task_failure.connect
def _child_died(task_id: str, exception: BaseException, **_: Any) -> None:
    """Take back what a killed pool child held, before its lease ends. Celery calls this in the main process."""
    if not isinstance(exception, WorkerLostError) or not _reconciler:
        return
    if question := question_of(task_id):
        _reconciler.store.lose_question(question)
    elif attempt := attempt_of(task_id):
        _reconciler.take_back(*attempt)
