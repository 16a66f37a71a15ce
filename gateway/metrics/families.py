"""Every metric: its name, its labels, and where its numbers come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from ftq.client.client import Client
from ftq.client.workers import Member
from ftq.store.fleet.numbers import COUNTED, Numbers
from ftq.version import VERSION

STATES = ("up", "waiting", "refused", "draining", "drained", "stopping", "silent")


def text(client: Client, served: Mapping[tuple[str, int], int]) -> bytes:
    """The exposition. `served` counts this server's answers by path and status."""
    registry = CollectorRegistry()
    registry.register(_Collected([*_queue(client.store.numbers()), *_fleet(client.fleet.all()), *_server(served)]))
    return generate_latest(registry)


class _Collected(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def _queue(numbers: Numbers) -> Iterator[Metric]:
    yield _gauge("ftq_runs", "Runs by status.", ["status"], {(name,): n for name, n in numbers.runs.items()})
    waiting = numbers.waiting.items()
    yield _gauge("ftq_queue_stages", "Stages that wait for a worker.", ["queue"], {(q,): w.stages for q, w in waiting})
    oldest = {(queue,): one.seconds for queue, one in waiting}
    yield _gauge("ftq_queue_oldest_seconds", "How long the oldest of them has waited.", ["queue"], oldest)
    running = {(stage,): number for stage, number in numbers.running.items()}
    yield _gauge("ftq_stages_running", "Stages that a worker runs.", ["stage"], running)
    summary = SummaryMetricFamily(
        "ftq_stage_seconds", "Seconds of stages that succeeded, cache hits aside.", labels=["stage"]
    )
    for stage, (number, seconds) in numbers.finished.items():
        summary.add_metric([stage], number, seconds)
    yield summary
    speeds = {(one.run, one.worker): one.tokens_per_second for one in numbers.training}
    yield _gauge("ftq_train_tokens_per_second", "Speed of a training run.", ["run", "worker"], speeds)
    events = CounterMetricFamily("ftq_events", "Events of runs; lost is a lease or process lost.", labels=["kind"])
    for kind in COUNTED:
        events.add_metric([kind], numbers.events.get(kind, 0))
    yield events
    asked = {(status,): number for status, number in numbers.questions.items()}
    yield _gauge("ftq_questions", "Questions of the last day (ftq infer) by status.", ["status"], asked)


def _fleet(members: list[Member]) -> Iterator[Metric]:
    states = Counter(member.state for member in members)
    yield _gauge("ftq_workers", "Workers by state.", ["state"], {(state,): states[state] for state in STATES})
    silent = {(one.worker.name, one.worker.host): one.silent for one in members}
    yield _gauge("ftq_worker_silent_seconds", "Seconds since a worker's last sign of life.", ["worker", "host"], silent)
    busy = {(one.worker.name,): len(one.work) for one in members}
    yield _gauge("ftq_worker_stages", "Stages that a worker runs now.", ["worker"], busy)
    dropped = CounterMetricFamily("ftq_messages_dropped", "Messages that a worker couldn't use.", labels=["worker"])
    for one in members:
        dropped.add_metric([one.worker.name], one.worker.dropped)
    yield dropped
    foreign = {(one.worker.name,): len(one.worker.foreign) for one in members if one.state != "silent"}
    what = "Keys of a worker's broker that hold something else than ftq's."
    yield _gauge("ftq_worker_foreign_keys", what, ["worker"], foreign)
    refused = {(one.worker.name,): int(bool(one.worker.refused)) for one in members if one.state != "silent"}
    what = "Whether a worker's broker refuses it until somebody corrects a setting, such as its password."
    yield _gauge("ftq_worker_refused", what, ["worker"], refused)
    labels = ["worker", "gpu", "name"]
    cards: dict[str, dict[tuple[str, ...], float]] = {"total": {}, "used": {}, "use": {}}
    for member in members:
        for card in member.worker.facts.get("cards", []) if member.state != "silent" else []:
            for what, values in cards.items():
                if card.get(what) is not None:
                    values[(member.worker.name, str(card["gpu"]), str(card["name"]))] = card[what]
    yield _gauge("ftq_gpu_memory_bytes", "Memory of a worker's GPU.", labels, cards["total"])
    yield _gauge("ftq_gpu_memory_used_bytes", "Memory in use on it, by whomever.", labels, cards["used"])
    yield _gauge("ftq_gpu_use_ratio", "Share of the last second in which it computed.", labels, cards["use"])


def _server(served: Mapping[tuple[str, int], int]) -> Iterator[Metric]:
    answers = CounterMetricFamily("ftq_http_answers", "Answers of this server.", labels=["path", "status"])
    for (path, status), number in sorted(served.items()):
        answers.add_metric([path, str(status)], number)
    yield answers
    yield InfoMetricFamily("ftq_server", "The server that tells this.", {"version": VERSION})


def _gauge(name: str, says: str, labels: list[str], values: Mapping[Any, float]) -> Any:
    family = GaugeMetricFamily(name, says, labels=labels)
    for label, value in values.items():
        family.add_metric(list(label), value)
    return family
