"""The Celery app's settings, and the one function that sends work. Celery is the doorbell, the database the truth."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery, chain
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from ftq.broker.refusals import refusal
from ftq.errors import Unavailable
from ftq.files.run_dir import STAGES
from ftq.settings import Settings
from ftq.store.records import ASK, QUEUES, STAGE_QUEUES, Run, Stage, labelled, queue_of

PRIORITIES = {"high": 1, "normal": 4, "low": 7}  # on Redis 0 is served first
BEGUN = -1  # a run that has begun keeps its place: it goes on before those of its level that only wait
IN_TURN = -2  # one whose owner's turn it is goes before both; of those with high priority, with the begun ones
_STEPS = (0, 1, 2, 3, 4, 5, 6, 7)
DATABASE = "ftq_database"  # the message's header: which database its id is of
_SIGNATURE = "ftq_signature"  # another one
_ID = re.compile(rb'"headers": {"lang": "py", "task": "[a-z.]+", "id": "([A-Za-z0-9_.-]+)"')
_ATTEMPT = re.compile(rf"([^.]+)\.({'|'.join(STAGES)})\.([0-9]+)")  # the id of a stage's task
_ANSWER = "answer."  # how that of a question's begins
_STEP_SEPARATOR = "\x06\x16"  # kombu.transport.redis: the list of queue q at step 3 is `q\x06\x163`

# In a task: wait out a broker that only starts again, but not so long that the worker can't stop in its grace time.
# What couldn't be sent is the reconciler's.
PATIENT_PUBLISHING = {"max_retries": 10, "interval_start": 0.2, "interval_step": 0.2, "interval_max": 0.6}
QUICK_SECONDS = 1.5  # for who only looks

# Whatever a broker may raise, in any of its states. kombu takes only a part of it for a lost connection.
BROKER_ERRORS = (OperationalError, RedisError, OSError)


def make_app(settings: Settings) -> Celery:
    """The app as client and worker share it. Each setting that isn't Celery's default is here for a measured reason."""
    app = Celery("ftq", broker=settings.broker, set_as_current=False)
    app.signing_key = settings.signing_key  # not in app.conf, which workers show to whoever may ask them
    app.serves = []  # the queues of a worker's main process
    app.database = ""  # the identity of whose runs it sends, from when the database is open
    app.conf.update(
        # ids are all a message carries; results and states are the database's business
        task_serializer="json",
        accept_content=["json"],
        result_backend=None,
        task_ignore_result=True,
        # early acknowledgement: the lease protects a running stage, redelivery would run it twice
        task_acks_late=False,
        task_reject_on_worker_lost=False,
        task_retry_on_worker_lost=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # no worker takes a message that it can't start at once
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        worker_concurrency=1,
        worker_pool="prefork",
        # a forked child would inherit the database's locks as the reconciler's thread happened to hold them
        worker_pool_start_method="spawn",
        worker_proc_alive_timeout=60,
        worker_soft_shutdown_timeout=0,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": 86400,
            "socket_timeout": 30,
            "socket_connect_timeout": 3,
            "health_check_interval": 25,
            "priority_steps": list(_STEPS),
            "queue_order_strategy": "priority",
        },
        task_queues=[Queue(name, Exchange(name), routing_key=name) for name in QUEUES],
        task_default_queue="cpu",
        task_create_missing_queues=True,  # those of labels, which no process knows beforehand
        worker_send_task_events=True,
        task_send_sent_event=True,
        timezone="UTC",
    )
    if settings.tls:
        app.conf.broker_use_ssl = settings.tls.options()
    return app


def make_impatient_app(settings: Settings) -> Celery:
    """An app for the reconciler's thread: an unreachable broker is an error at once."""
    app = make_app(settings)
    app.conf.task_publish_retry_policy = {"max_retries": 0}
    app.conf.broker_transport_options |= {"max_retries": 0, "socket_timeout": 5}
    return app


def make_quick_app(settings: Settings) -> Celery:
    """An app for a look: a broker that is unreachable, or hangs, is an error within QUICK_SECONDS."""
    app = make_impatient_app(settings)
    app.conf.broker_transport_options |= {"socket_timeout": QUICK_SECONDS, "socket_connect_timeout": QUICK_SECONDS}
    return app


def task_id(run_id: str, stage: str, attempt: int) -> str:
    return f"{run_id}.{stage}.{attempt}"


def attempt_of(task: str) -> tuple[str, str, int] | None:
    """(run, stage, attempt) of a task's id; None for one that isn't a stage's."""
    match = _ATTEMPT.fullmatch(task)
    return (match[1], match[2], int(match[3])) if match else None


def question_of(task: str) -> str:
    """The question of a task's id; empty for one that isn't a question's."""
    return task.removeprefix(_ANSWER) if task.startswith(_ANSWER) else ""


def _priority(run: Run, stage: Stage, in_turn: bool) -> int:
    only_waits = stage is run.stages[0] and stage.attempt == 1
    return max(0, PRIORITIES[run.spec["priority"]] + (IN_TURN if in_turn else 0 if only_waits else BEGUN))


def send(app: Celery, run: Run, in_turn: bool = False) -> bool:
    """`deliver`, for who goes on without an answer; False if the broker takes nothing."""
    try:
        deliver(app, run, in_turn)
    except Unavailable:
        return False
    return True


def deliver(app: Celery, run: Run, in_turn: bool = False) -> None:
    """Send the chain of the stages that are still to do. Unavailable says why the broker doesn't take it.

    Submit, retry, resume and recovery are all this call. Sent twice is harmless: a stage is claimed once. A run that is
    running sends the rest itself, and one that is finished, paused or cancelled has nothing to send. `in_turn` puts
    the first of the stages before the others of its priority.
    """
    links = [_link(app, run, stage, in_turn and stage is run.current) for stage in run.remaining]
    if run.status != "queued" or run.wanted != "run":
        return
    with explained():
        chain(*links, app=app).apply_async()


def check(app: Celery) -> None:
    """Write to the broker as `deliver` does, without a message. Unavailable says why it takes nothing.

    PING, INFO and a login succeed also where nothing can be written.
    """
    with explained(), app.connection_for_write() as connection:
        app.amqp.queues["cpu"].bind(connection.default_channel).declare()


@contextmanager
def explained() -> Iterator[None]:
    """Unavailable for whatever the broker raises, with what it is or does."""
    try:
        yield
    except BROKER_ERRORS as error:
        why = refusal(error)
        raise Unavailable(f"the broker {why.what}", why.fix) from error


def is_foreign(error: BaseException | None) -> bool:
    """Whether a key holds something of another type than ftq's, by the broker's error or what it has caused."""
    while error is not None:
        if re.search(r"\bWRONGTYPE\b", f"{getattr(error, 'status_code', '')} {error}"):
            return True
        error = error.__cause__
    return False


def lists_of(queues: Iterable[str]) -> list[str]:
    """The keys of these queues' lists: one for each step of priority."""
    return [f"{queue}{_STEP_SEPARATOR}{step}" if step else queue for queue in queues for step in _STEPS]


def _link(app: Celery, run: Run, stage: Stage, in_turn: bool = False) -> Any:
    """One stage's message. Each link has a signature of its own: the rest of a chain travels in its first message."""
    name, arguments, task = f"ftq.{stage.name}", (run.id, stage.attempt), task_id(run.id, stage.name, stage.attempt)
    return app.signature(name, args=arguments, immutable=True).set(
        task_id=task,
        queue=queue_of(stage.name, run.spec),
        priority=_priority(run, stage, in_turn),
        argsrepr=f"{run.name} ({run.model})",
        headers=_headers(app, task, name, arguments),
    )


def send_question(app: Celery, question: str) -> None:
    """Ring for a question that the database holds. Unavailable says why the broker doesn't take it."""
    task, arguments = f"{_ANSWER}{question}", (question,)
    headers = _headers(app, task, "ftq.answer", arguments)
    with explained():
        app.send_task("ftq.answer", args=arguments, task_id=task, queue=ASK, priority=0, headers=headers)


def is_genuine(key: bytes, task: Any, *arguments: Any) -> bool:
    """Whether the message that started this Celery task was signed with the key for just this; True without a key."""
    if not key:
        return True
    signature = task.request.get(_SIGNATURE)
    wanted = _signature(key, task.request.id or "", task.name, arguments)
    return isinstance(signature, str) and hmac.compare_digest(signature.encode(), wanted.encode())


def send_back(app: Celery, request: Any, name: str) -> None:
    """Put a message, which a task's `request` shows, at the end of its queue again as it came."""
    info = request.delivery_info
    app.send_task(
        name,
        args=request.args,
        task_id=request.id,
        queue=info["routing_key"],
        priority=info["priority"],
        headers=request.headers,
        chain=request.chain,
        argsrepr=request.argsrepr,
    )


def _headers(app: Celery, task: str, name: str, arguments: tuple[Any, ...]) -> dict[str, str]:
    database = {DATABASE: app.database} if app.database else {}
    if not app.signing_key:
        return database
    return {**database, _SIGNATURE: _signature(app.signing_key, task, name, arguments)}


def _signature(key: bytes, task: str, name: str, arguments: tuple[Any, ...]) -> str:
    """HMAC-SHA256 over the task's id, name and arguments. No time in it: one sent again is claimed once anyway."""
    text = json.dumps([task, name, list(arguments)])
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def messages(app: Celery, handed_out: float, labels: Iterable[str] = ()) -> set[str]:
    """The ids of all stages whose message waits in the broker or was handed out in the last so many seconds.

    It looks into the queues of these labels too.

    One that was handed out long ago and not acknowledged doesn't count: a worker starts what it takes, or has died.
    Nor does one that was handed out in the future, by a clock that was ahead.
    """
    with app.connection_for_read() as connection:
        client = connection.default_channel.client
        queues = [labelled(queue, label) for label in ("", *labels) for queue in STAGE_QUEUES]
        with client.pipeline() as asked:  # one journey for all
            for key in lists_of(queues):
                asked.lrange(key, 0, -1)
            raw = [text for texts in _but_foreign(asked.execute(raise_on_error=False)) for text in texts]
        return {task for text in raw + _held(client, handed_out) if (task := _id_in(text))}


def _held(client: Any, handed_out: float) -> list[bytes | None]:
    """What was handed out and isn't acknowledged; nothing where the keys for that hold something else."""
    now = time.time()
    try:
        tags = client.zrangebyscore("unacked_index", now - handed_out, now + handed_out)
        return list(client.hmget("unacked", tags)) if tags else []
    except RedisError as error:
        if not is_foreign(error):
            raise
        return []


def _but_foreign(answers: list[Any]) -> Iterator[list[bytes]]:
    """The answers, without those of lists in whose place there is something else: no message is in it."""
    for answer in answers:
        if isinstance(answer, list):
            yield answer
        elif not is_foreign(answer):
            raise answer


def _id_in(text: bytes | None) -> str | None:
    """The task of a message, or of [message, exchange, routing key] as kombu keeps one that it handed out.

    Where a message is as Celery writes it, its id is found six times faster than by reading all of it.
    """
    if text and text.startswith(b"{") and (usual := _ID.search(text)):
        return usual[1].decode()
    try:
        value = json.loads(text or b"")
        message = value[0] if isinstance(value, list) else value
        return str(message["headers"]["id"])
    except (ValueError, TypeError, LookupError, RecursionError):  # not ours; it mustn't keep lost runs from being found
        return None
