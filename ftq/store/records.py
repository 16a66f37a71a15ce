"""The database's rows as plain records: runs, stages, workers, events."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ftq.errors import RunError
from ftq.files.artifact import Artifact
from ftq.files.run_dir import STAGES

FINISHED = frozenset({"succeeded", "failed", "cancelled"})
USER = "user:"  # before the name of a run's owner who is no key
MAX_GPUS = 8  # that may train one run together
LABEL = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,31}")  # of a worker
LABEL_RULE = "a label has letters, digits, `-` and `_` only, 32 at most"


@dataclass(frozen=True)
class Stage:
    """A stage of a run as the database has it."""

    name: str
    status: str
    attempt: int
    tries: int
    losses: int
    fresh_from: int
    cached: bool
    key: str | None
    worker: str | None
    lease_until: float | None
    queued_at: float | None
    started_at: float | None
    finished_at: float | None
    progress: dict[str, Any] | None
    plan: dict[str, Any] | None
    changes: dict[str, Any] | None
    error: RunError | None
    artifacts: list[Artifact] | None


@dataclass(frozen=True)
class Run:
    """A run and its stages in order. Its status is derived from theirs, never stored.

    No other run has its `name`. Runs that are versions of one model share the `family`. `owner` is the id of the key
    that asked for it, or user:NAME where a person with access to the database did; empty in one of an earlier ftq.
    `revision` is that of the base model which prepare used, as worker/stages/model/revisions.py writes it.
    """

    id: str
    name: str
    model: str
    spec: dict[str, Any]
    documents_hash: str
    wanted: str
    kept: bool
    created_at: float
    stages: list[Stage] = field(default_factory=list)
    family: str = ""
    version: int | None = None
    owner: str = ""
    revision: str | None = None

    @property
    def key(self) -> str:
        """The id of the key that asked for it; empty for a user's."""
        return "" if self.owner.startswith(USER) else self.owner

    @property
    def version_name(self) -> str | None:
        """`handbook:3` for a run that has succeeded."""
        return f"{self.family}:{self.version}" if self.version else None

    @property
    def status(self) -> str:
        statuses = {stage.status for stage in self.stages}
        for status in ("running", "failed", "cancelled"):
            if status in statuses:
                return status
        if statuses == {"succeeded"}:
            return "succeeded"
        return "paused" if self.wanted == "pause" else "queued"

    @property
    def state(self) -> str:
        """The status in a word; that of a run that is about to end says so."""
        words = {"cancel": "stopping", "pause": "pausing"}
        return words.get(self.wanted, "running") if self.status == "running" else self.status

    def status_of(self, stage: Stage) -> str:
        """The stage's status as people read it: that of a paused run waits for no worker."""
        return self.status if self.status == "paused" and stage == self.current else stage.status

    @property
    def standing(self) -> tuple[str, str]:
        """(why the run hasn't got all that its stages make, what to type about it)."""
        name, stage = self.name, f"its stage {self.current.name if self.current else STAGES[-1]}"
        return {
            "running": (f"{stage} is running", f"`ftq status {name} --watch` follows it."),
            "queued": (f"{stage} waits", f"`ftq status {name}` says for what."),
            "pausing": ("it is about to pause", f"`ftq resume {name}` lets it go on."),
            "paused": ("it is paused", f"`ftq resume {name}` lets it go on."),
            "stopping": ("it is being cancelled", f"`ftq retry {name}` takes it up afterwards."),
            "cancelled": ("it was cancelled", f"`ftq retry {name}` takes it up."),
            "failed": (f"{stage} failed", f"`ftq status {name}` says why."),
            "succeeded": ("it has none", f"`ftq retry {name} --from {STAGES[-1]}` makes it."),
        }[self.state]

    @property
    def goes_on(self) -> bool:
        """Whether the run may still get what it lacks, without a retry."""
        return self.state in ("running", "queued", "pausing", "paused")

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED

    @property
    def current(self) -> Stage | None:
        """The first stage that hasn't succeeded; None when all have."""
        return next((stage for stage in self.stages if stage.status != "succeeded"), None)

    @property
    def remaining(self) -> list[Stage]:
        return [stage for stage in self.stages if stage.status != "succeeded"]

    @property
    def error(self) -> RunError | None:
        return next((stage.error for stage in self.stages if stage.status == "failed"), None)

    @property
    def started_at(self) -> float | None:
        return min((stage.started_at for stage in self.stages if stage.started_at), default=None)

    @property
    def finished_at(self) -> float | None:
        times = [stage.finished_at for stage in self.stages if stage.finished_at]
        return max(times) if self.is_finished and times else None

    def stage(self, name: str) -> Stage:
        return next(stage for stage in self.stages if stage.name == name)


def id_in(text: str) -> str:
    """The run's id in ftjob-ID and ft:BASE:ORG:SUFFIX:ID, as the gateway's clients say it; else the text as it is."""
    if text.startswith("ft:") and text.count(":") >= 4:
        return text.split(":")[4]
    return text.removeprefix("ftjob-")


def gpu_queue(gpus: int) -> str:
    """The queue of the runs that need `gpus` GPUs together: gpu, gpu2, gpu3..."""
    return "gpu" if gpus == 1 else f"gpu{gpus}"


ASK = "ask"  # the queue of the questions to finished runs
STAGE_QUEUES = ("cpu", *map(gpu_queue, range(1, MAX_GPUS + 1)))
QUEUES = (*STAGE_QUEUES, ASK)


def queue_of(stage: str, spec: dict[str, Any]) -> str:
    """The queue of a stage: training needs one GPU or several, answers from the adapter need one.

    A run with a label goes to the workers that have it.
    """
    if stage == "train":
        queue = gpu_queue(spec.get("gpus", 1))
    else:
        queue = "gpu" if stage == "infer" and spec.get("infer_with") == "adapter" else "cpu"
    return labelled(queue, spec.get("worker", ""))


def labelled(queue: str, label: str) -> str:
    """The queue of the workers with that label: gpu.bigmem. Without a label it is everybody's."""
    return f"{queue}.{label}" if label else queue


@dataclass(frozen=True)
class Worker:
    """A worker. `facts` has {"gpus": how many, "gpu": their name, "memory": bytes of the smallest of them}, "stages",
    those that it knows, "labels", "version" and "broker", and for a CPU that trains "dtype", its compute type.
    "dropped" is how many messages it couldn't use, "dropped_last" the last one's queue, why, and how it begins.
    "bucket" is where it keeps files, "endpoint" the server through which it has reached that, "waits" why it doesn't
    now, and "waits_fix" what to do about it.

    `seen_at` is the time of its last sign of life, `gpu` the name for people. One that is `draining` stops and hands
    its runs back; one that is `drained` finishes them and takes nothing new. "foreign" in `facts` is what it tells of
    each key of the broker that holds something else than ftq's, "refused" why its broker refuses it until somebody
    corrects that, and "refused_fix" what to type.
    """

    name: str
    queues: list[str]
    facts: dict[str, Any]
    is_live: bool
    host: str
    gpu: str | None
    seen_at: float
    draining: bool
    drained_at: float | None = None

    @property
    def drained(self) -> bool:
        return self.drained_at is not None

    @property
    def dropped(self) -> int:
        return int(self.facts.get("dropped", 0))

    @property
    def foreign(self) -> list[str]:
        return list(self.facts.get("foreign", []))

    @property
    def refused(self) -> str:
        """Why its broker refuses it, which waiting doesn't mend; empty where it doesn't."""
        return str(self.facts.get("refused", ""))

    @property
    def labels(self) -> list[str]:
        return list(self.facts.get("labels", []))

    @property
    def waits(self) -> str:
        """Why it can't use its bucket, for which it waits; empty where it can."""
        return str(self.facts.get("waits", ""))

    @property
    def takes(self) -> bool:
        """Whether it takes new work."""
        return self.is_live and not self.drained and not self.waits and not self.refused

    @property
    def served(self) -> list[str]:
        """Its queues, and those of its labels: questions have none."""
        own = [labelled(queue, label) for label in self.labels for queue in self.queues if queue != ASK]
        return [*own, *self.queues]

    @property
    def lacks(self) -> list[str]:
        """The stages that it doesn't know, being of an earlier version: it drops their messages.

        Nothing is known of a worker that has told nothing of itself.
        """
        known = self.facts.get("stages", STAGES[:4] if self.facts else STAGES)  # the first four were before it was told
        return [stage for stage in STAGES if stage not in known]


def served_by(workers: Iterable[Worker]) -> set[str]:
    """The queues, those of labels too, that any of them serves."""
    return {queue for worker in workers for queue in worker.served}


@dataclass(frozen=True)
class Work:
    """A stage that a worker runs, and since when."""

    worker: str
    run_id: str
    run: str
    stage: str
    attempt: int
    since: float


@dataclass(frozen=True)
class Version:
    """A finished run as a numbered model. `run` and `model` are empty if the run was deleted, `gone` says why."""

    family: str
    number: int
    run_id: str
    run: str
    model: str
    created_at: float
    is_latest: bool
    gone: str | None

    @property
    def name(self) -> str:
        return f"{self.family}:{self.number}"


@dataclass(frozen=True)
class Event:
    id: int
    at: float
    stage: str | None
    attempt: int | None
    kind: str
    message: str
    data: dict[str, Any] | None
