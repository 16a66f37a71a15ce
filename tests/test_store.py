"""The store: every verb's guard, fencing, accounting; the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from ftq.errors import FtqError, LeaseLost, NotFound, Refused, RunError, Unavailable, UserError
from ftq.files.artifact import Artifact
from ftq.files.run_dir import STAGES
from ftq.plan import calibration
from ftq.plan.card import Correction
from ftq.store import schema
from ftq.store.attempts import MOST_LOSSES
from ftq.store.questions import LOST, OLD_SECONDS, Reply
from ftq.store.records import QUEUES, Event, Run, Stage, Worker, queue_of
from ftq.store.server import postgres as server
from ftq.store.store import RunStore
from tests.tools import PATIENCE

SPEC = {"model": "qwen3-4b", "documents": "d", "infer_with": "gguf"}
ERROR = RunError("bug", "it broke", "look")
FILES = [Artifact("adapter", "adapter", 5)]
LEASE = 60.0
START = 1000.0


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


ROOT = Path(__file__).parents[1]
ON_BOTH = pytest.mark.parametrize(
    "url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True
)  # what hangs on each database's locks and SQL; the rest meets PostgreSQL in `make test-all`


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database without tables. No verb needs two connections at once: of PostgreSQL's there is one."""
    monkeypatch.setattr(server, "POOL", {"pool_size": 1, "max_overflow": 0, "pool_timeout": 10.0})
    postgres: str = request.getfixturevalue("postgres") if request.param == "postgresql" else ""
    return postgres or f"sqlite:///{tmp_path}/ftq.db"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(url: str, clock: Clock) -> Iterator[RunStore]:
    store = RunStore(url, clock)
    yield store
    store.close()


@pytest.fixture
def run(store: RunStore) -> Run:
    return store.create("abc", "first", SPEC, "hash")


def stage(name: str, **values: Any) -> Stage:
    """A stage as it is after submit, but for `values`."""
    nothing: dict[str, Any] = dict.fromkeys(Stage.__dataclass_fields__)
    return Stage(**{**nothing, "name": name, "status": "queued", "attempt": 1, "tries": 0, "losses": 0, "fresh_from": 0,
                    "cached": False, **values})  # fmt: skip


def claim(store: RunStore, name: str, attempt: int = 1, run_id: str = "abc") -> str:
    token = store.claim(run_id, name, attempt, "w1", LEASE)
    assert token
    return token


def succeed(store: RunStore, *names: str, attempt: int = 1) -> None:
    for name in names:
        store.succeed(claim(store, name, attempt), f"key-{name}", FILES)


def statuses(store: RunStore, run_id: str = "abc") -> list[tuple[str, int]]:
    return [(stage.status, stage.attempt) for stage in store.get(run_id).stages]


def said(store: RunStore, run_id: str = "abc") -> list[tuple[str | None, int | None, str, str]]:
    return [(event.stage, event.attempt, event.kind, event.message) for event in store.events(run_id)]


def snapshot(store: RunStore) -> tuple[list[Run], list[Event]]:
    """Everything that a verb could change."""
    runs = store.all()
    return runs, [event for run in runs for event in store.events(run.id)]


# ---- submit, look ---------------------------------------------------------------------------------------


def test_a_run_as_it_is_recorded(store: RunStore, run: Run) -> None:
    stages = [stage("prepare", queued_at=START), stage("train"), stage("export"), stage("infer"), stage("evaluate")]
    assert run == Run("abc", "first", "qwen3-4b", SPEC, "hash", "run", False, START, stages, "first")
    assert store.get("abc") == store.find("first") == run
    assert store.events("abc") == [Event(1, START, None, None, "submitted", "submitted as first: qwen3-4b", None)]
    assert (run.status, run.current, run.error, run.started_at) == ("queued", run.stages[0], None, None)


@ON_BOTH
def test_a_name_is_taken_once(store: RunStore, run: Run) -> None:
    before = snapshot(store)
    with pytest.raises(UserError) as caught:
        store.create("xyz", "first", SPEC, "hash")
    assert caught.value.message == "the name first is taken"
    assert snapshot(store) == before


def test_find_by_id_name_and_unique_prefix(store: RunStore, clock: Clock) -> None:
    for run_id, name in [("abc1", "one"), ("abd2", "two"), ("xyz3", "abc1x"), ("q_r4", "abd2")]:
        clock.now += 1
        store.create(run_id, name, SPEC, "hash")
    assert [store.find(wanted).id for wanted in ("abc1", "abc", "one", "x", "abc1x", "q_", "abd2")] == [
        "abc1", "abc1", "abc1", "xyz3", "xyz3", "q_r4", "abd2",  # the last one's id is another's name
    ]  # fmt: skip
    for wanted, message, hint in [
        ("ab", "ab begins the ids of 2 runs: abc1 (one), abd2 (two)", "Type more of the id, or a name."),
        ("a%", "no run matches a%", "Recent runs: q_r4 (abd2), xyz3 (abc1x), abd2 (two)"),
        ("on", "no run matches on", "Did you mean one?"),
        ("Two", "no run matches Two", "Did you mean two?"),
        ("twoo", "no run matches twoo", "Did you mean two?"),
    ]:
        with pytest.raises(NotFound) as caught:
            store.find(wanted)
        assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize("wanted", ["", " ", "\t"])
def test_an_empty_name_is_not_a_prefix_of_the_only_run(store: RunStore, run: Run, wanted: str) -> None:
    with pytest.raises(NotFound) as caught:
        store.find(wanted)
    said = ("no run is named: the name is empty", "Recent runs: abc (first)")
    assert (caught.value.message, caught.value.hint) == said


def test_nothing_there(store: RunStore) -> None:
    with pytest.raises(NotFound) as caught:
        store.find("abc")
    assert caught.value.hint == "There is no run yet: `ftq submit`."
    for verb in (store.get, store.cancel, store.pause, store.resume, store.retry, store.delete):
        with pytest.raises(NotFound, match=r"^no run abc$"):
            verb("abc")
    assert (store.all(), store.count(), store.names(""), store.events("abc")) == ([], 0, set(), [])
    assert store.claim("abc", "prepare", 1, "w1", LEASE) is None


def test_all_newest_first_count_and_names(store: RunStore, clock: Clock) -> None:
    for number in range(4):
        clock.now += 1
        store.create(f"r{number}", f"run_{number}", SPEC, "hash")
    assert [run.id for run in store.all()] == ["r3", "r2", "r1", "r0"]
    assert [run.id for run in store.all(2)] == ["r3", "r2"]
    assert [len(run.stages) for run in store.all(2)] == [5, 5]
    assert store.count() == 4
    store.create("x", "runx9", SPEC, "hash")
    assert store.names("run_") == {"run_0", "run_1", "run_2", "run_3"}  # `_` is no wildcard


def test_status_is_derived(store: RunStore, run: Run) -> None:
    seen = []

    def look() -> None:
        run = store.get("abc")
        seen.append((run.status, run.current.name if run.current else None, run.is_finished))

    look()
    token = claim(store, "prepare")
    look()
    store.succeed(token, None, [])
    look()
    store.pause("abc")
    look()
    store.resume("abc")
    store.fail(claim(store, "train"), ERROR)
    look()
    store.retry("abc")
    look()
    succeed(store, "train", attempt=2)
    store.cancel("abc")
    look()
    store.retry("abc")
    succeed(store, "export", "infer", "evaluate", attempt=3)
    look()
    assert seen == [
        ("queued", "prepare", False), ("running", "prepare", False), ("queued", "train", False),
        ("paused", "train", False), ("failed", "train", True), ("queued", "train", False),
        ("cancelled", "export", True), ("succeeded", None, True),
    ]  # fmt: skip


def test_queue_of() -> None:
    asked = [("prepare", {}), ("train", {}), ("export", {}), ("infer", {}), ("infer", {"infer_with": "adapter"})]
    assert [queue_of(*one) for one in asked] == ["cpu", "gpu", "cpu", "cpu", "gpu"]
    wide = {"gpus": 3, "infer_with": "adapter"}
    assert [queue_of(stage, wide) for stage in STAGES] == ["cpu", "gpu3", "cpu", "gpu", "cpu"]
    assert QUEUES == ("cpu", "gpu", "gpu2", "gpu3", "gpu4", "gpu5", "gpu6", "gpu7", "gpu8", "ask")


# ---- claim ----------------------------------------------------------------------------------------------


@ON_BOTH
def test_a_claim_takes_the_stage_and_its_lease(store: RunStore, run: Run, clock: Clock) -> None:
    clock.now += 5
    claim(store, "prepare")
    assert store.get("abc").stages[0] == stage(
        "prepare", status="running", tries=1, worker="w1", queued_at=START, started_at=1005.0, lease_until=1065.0
    )
    assert said(store)[1:] == [("prepare", 1, "claimed", "claimed by w1")]


@pytest.mark.parametrize(
    ("name", "attempt", "before"),
    [
        ("train", 1, lambda store: None),
        ("prepare", 2, lambda store: None),
        ("prepare", 0, lambda store: None),
        ("prepare", 1, lambda store: claim(store, "prepare")),
        ("prepare", 1, lambda store: succeed(store, "prepare")),
        ("train", 1, lambda store: claim(store, "prepare")),
        ("export", 1, lambda store: succeed(store, "prepare")),
        ("prepare", 1, lambda store: store.pause("abc")),
        ("prepare", 1, lambda store: store.cancel("abc")),
        ("prepare", 1, lambda store: store.fail(claim(store, "prepare"), ERROR)),
        ("train", 1, lambda store: store.fail(claim(store, "prepare"), ERROR)),
        ("prepare", 1, lambda store: store.release(claim(store, "prepare"), "handed_back", "back")),
        ("prepare", 1, lambda store: store.delete("abc")),
    ],
)
def test_what_cannot_be_claimed(
    store: RunStore, run: Run, name: str, attempt: int, before: Callable[[RunStore], Any]
) -> None:
    before(store)
    found = snapshot(store)
    assert store.claim("abc", name, attempt, "w2", LEASE) is None
    assert snapshot(store) == found


def test_after_a_success_the_next_stage_is_the_head(store: RunStore, run: Run, clock: Clock) -> None:
    token = claim(store, "prepare")
    clock.now += 7
    store.succeed(token, "key", FILES, cached=True)
    assert store.get("abc").stages[:3] == [
        stage("prepare", status="succeeded", tries=1, cached=True, key="key", worker="w1", queued_at=START,
              started_at=START, finished_at=1007.0, artifacts=FILES),
        stage("train", queued_at=1007.0), stage("export"),
    ]  # fmt: skip
    assert said(store)[-1] == ("prepare", 1, "cache_hit", "cache hit: nothing that goes into this stage has changed")


# ---- the lease ------------------------------------------------------------------------------------------

LATE: list[Callable[[RunStore, str], Any]] = [
    lambda store, token: store.renew(token, LEASE),
    lambda store, token: store.hold(token, LEASE).__enter__(),
    lambda store, token: store.check(token),
    lambda store, token: store.progress(token, {"percent": 50}),
    lambda store, token: store.note(token, "checkpoint", "checkpoint at step 5"),
    lambda store, token: store.plan(token, "16-bit base", {"steps": 5}),
    lambda store, token: store.succeed(token, "key", FILES),
    lambda store, token: store.fail(token, ERROR),
    lambda store, token: store.release(token, "handed_back", "back"),
    lambda store, token: store.lose(token, "it went away"),
]


@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("meanwhile", ["queued again", "claimed again", "succeeded", "deleted", "cancelled"])
def test_a_process_that_lost_its_lease_can_change_nothing(
    store: RunStore, run: Run, clock: Clock, late: Callable[[RunStore, str], Any], meanwhile: str
) -> None:
    token = claim(store, "prepare")
    if meanwhile == "cancelled":
        store.cancel("abc")
    clock.now += LEASE + 1
    assert store.expire(LEASE) == ([] if meanwhile == "cancelled" else ["abc"])
    if meanwhile == "claimed again":
        claim(store, "prepare", 2)
    if meanwhile == "succeeded":
        succeed(store, "prepare", attempt=2)
    if meanwhile == "deleted":
        store.delete("abc")
    before = snapshot(store)
    with pytest.raises(LeaseLost):
        late(store, token)
    assert snapshot(store) == before
    store.say_lease_lost("abc", "prepare", 1, "w1")  # the one thing it may still do, also of a deleted run
    lines = [] if meanwhile == "deleted" else said(store)[-1:]
    message = "w1 came too late: its lease was over, it published nothing"
    assert lines == ([] if meanwhile == "deleted" else [("prepare", 1, "lease_lost", message)])
    assert store.all() == before[0]


def test_a_renewed_lease_does_not_end(store: RunStore, run: Run, clock: Clock) -> None:
    token = claim(store, "prepare")
    clock.now += LEASE - 1
    store.renew(token, LEASE)
    clock.now += LEASE
    assert store.expire(LEASE) == []
    clock.now += 1
    assert store.expire(LEASE) == ["abc"]
    assert store.expire(LEASE) == []


@ON_BOTH
def test_a_lease_that_is_held_cannot_end_meanwhile(store: RunStore, run: Run, clock: Clock) -> None:
    token, found = claim(store, "prepare"), []
    clock.now += LEASE + 1  # over, but nobody has taken it back yet
    thread = threading.Thread(target=lambda: found.append(list(store.expire(LEASE))))
    with store.hold(token, LEASE):
        thread.start()
        thread.join(0.15)
        assert found in ([], [[]])  # it waits, or leaves the stage alone
    thread.join(PATIENCE)
    assert found == [[]]
    assert statuses(store)[0] == ("running", 1)


def lose(store: RunStore, clock: Clock, attempt: int) -> None:
    """Claim the attempt when it is due, and lose it."""
    queued_at = store.get("abc").stages[0].queued_at
    assert queued_at
    clock.now = max(clock.now, queued_at)
    store.lose(claim(store, "prepare", attempt), "it went away")


def test_a_lost_attempt_is_none_of_the_run_s_and_the_next_one_comes_at_once(
    store: RunStore, run: Run, clock: Clock
) -> None:
    claim(store, "prepare")
    clock.now += LEASE + 1
    assert store.expire(LEASE) == ["abc"]
    assert store.get("abc").stages[0] == stage(
        "prepare", attempt=2, losses=1, worker="w1", queued_at=1061.0, started_at=START
    )
    assert said(store)[2:] == [("prepare", 1, "lost", "lease lost: no sign of life from w1")]
    assert store.due("abc") == store.get("abc")


def test_after_each_further_loss_it_waits_longer_and_nobody_takes_it_before(
    store: RunStore, run: Run, clock: Clock
) -> None:
    waits = []
    for attempt in range(1, 11):
        lose(store, clock, attempt)
        queued_at = store.get("abc").stages[0].queued_at
        assert queued_at
        waits.append(queued_at - clock.now)
    assert waits == [0, 2, 4, 8, 16, 32, 64, 120, 120, 120]
    assert said(store)[-1] == (
        "prepare", 10, "lost", "it went away; tried again in 120 s, as it was lost 10 times in a row",
    )  # fmt: skip
    for passed in (0, 118):
        clock.now += passed
        assert store.claim("abc", "prepare", 11, "w1", LEASE) is None
        assert (store.due("abc"), store.waiting(8)) == (None, [])
    clock.now += 2
    assert store.due("abc") == store.get("abc")
    assert store.waiting(8) == [("abc", "prepare", 11)]  # nobody has sent it: no message is on its way
    claim(store, "prepare", 11)


def test_expire_names_only_the_runs_that_go_on_at_once(store: RunStore, run: Run, clock: Clock) -> None:
    lose(store, clock, 1)
    claim(store, "prepare", 2)
    clock.now += LEASE + 1
    assert store.expire(LEASE) == []
    assert statuses(store)[0] == ("queued", 3)
    clock.now += 2
    claim(store, "prepare", 3)
    assert store.expire_attempt("abc", "prepare", 3) == []
    assert statuses(store)[0] == ("queued", 4)


def test_one_that_is_lost_every_time_fails_and_says_why(store: RunStore, run: Run, clock: Clock) -> None:
    for attempt in range(1, MOST_LOSSES + 1):
        assert statuses(store)[0] == ("queued", attempt)
        lose(store, clock, attempt)
    error = RunError(
        "lost",
        "it went away; lost 30 times in a row without a checkpoint, so either the machine is unstable or the run "
        "itself brings its worker down",
        "`ftq logs first --stage prepare` has the full log; `ftq retry first` tries again.",
        "prepare.30 on w1",
    )
    assert (store.get("abc").status, store.get("abc").error) == ("failed", error)
    assert said(store)[-1] == ("prepare", 30, "failed", f"failed (lost): {error.message}")
    assert 2700 < clock.now - START < 3600  # about an hour of waits, beside the attempts
    assert (store.expire(LEASE), store.due("abc"), store.waiting(0)) == ([], None, [])
    store.retry("abc")
    lose(store, clock, 31)
    assert (statuses(store)[0], store.get("abc").stages[0].losses) == (("queued", 32), 1)


@pytest.mark.parametrize("proof", ["checkpoint", "adaptation", "success", "retry"])
def test_losses_are_counted_anew_after(store: RunStore, run: Run, clock: Clock, proof: str) -> None:
    for attempt in (1, 2, 3):
        lose(store, clock, attempt)
    if proof == "retry":
        store.retry("abc")
    else:
        clock.now += 4
        token = claim(store, "prepare", 4)
        assert store.get("abc").stages[0].losses == 3
    if proof == "checkpoint":
        store.note(token, "checkpoint", "checkpoint at step 5", step=5)
    elif proof == "adaptation":
        store.release(token, "retried", "less memory", changes={"batch_size": 1})
    elif proof == "success":
        store.succeed(token, None, [])
    assert store.get("abc").stages[0].losses == 0


def test_a_user_who_retries_or_resumes_doesnt_wait(store: RunStore, run: Run, clock: Clock) -> None:
    for attempt in (1, 2, 3):
        lose(store, clock, attempt)
    assert store.due("abc") is None
    retried = store.retry("abc")
    assert (retried.status, retried.stages[0].attempt, retried.stages[0].queued_at) == ("queued", 4, clock.now)
    assert said(store)[-1] == (None, None, "retried", "retried by the user: prepare waits no longer")
    with pytest.raises(Refused):
        store.retry("abc")  # nothing waits any more
    for attempt in (4, 5, 6):
        lose(store, clock, attempt)
    store.pause("abc")
    assert store.due("abc") is None
    store.resume("abc")
    claim(store, "prepare", 7)


def test_a_stage_that_was_queued_by_a_clock_that_was_ahead_is_taken(store: RunStore, clock: Clock) -> None:
    clock.now += 8 * 3600
    store.create("abc", "first", SPEC, "hash")
    clock.now -= 8 * 3600
    assert store.waiting(8) == [("abc", "prepare", 1)]
    claim(store, "prepare")


def test_a_lease_of_a_clock_that_was_ahead_ends_a_lease_from_now(store: RunStore, run: Run, clock: Clock) -> None:
    clock.now += 8 * 3600
    claim(store, "prepare")
    clock.now -= 8 * 3600
    assert store.expire(LEASE) == []
    clock.now += LEASE
    assert store.expire(LEASE) == []
    clock.now += 1
    assert store.expire(LEASE) == ["abc"]
    claim(store, "prepare", 2)


def test_one_who_renews_a_lease_of_a_clock_that_was_ahead_keeps_it(store: RunStore, run: Run, clock: Clock) -> None:
    clock.now += 8 * 3600
    token = claim(store, "prepare")
    clock.now -= 8 * 3600
    for _ in range(5):
        assert store.expire(LEASE) == []
        clock.now += LEASE / 4
        store.renew(token, LEASE)


@ON_BOTH
def test_with_a_server_a_worker_s_clock_decides_nothing(url: str) -> None:
    store, ahead = RunStore(url), 0.0 if url.startswith("sqlite") else 8 * 3600.0
    store.clock = lambda: time.time() + ahead
    store.create("abc", "first", SPEC, "hash")
    store.renew(claim(store, "prepare"), LEASE)
    store.see_worker("w1", "host", ["cpu"], None, 1)
    found = store.get("abc").stages[0]
    assert found.lease_until and found.queued_at and found.started_at
    for at in (found.lease_until - LEASE, found.queued_at, found.started_at, store.events("abc")[-1].at):
        assert abs(at - time.time()) < 60
    assert store.workers()[0].is_live
    store.close()


@ON_BOTH
@pytest.mark.parametrize("ahead", [8 * 3600.0, -8 * 3600.0, 10 * 365 * 86_400.0])
def test_a_question_outlives_a_client_whose_clock_is_wrong(url: str, ahead: float) -> None:
    """Clients and workers of other machines share a server, so theirs is SQLite's only clock or none at all."""
    worker, client = RunStore(url), RunStore(url)
    if not url.startswith("sqlite"):
        client.clock = lambda: time.time() + ahead
    worker.create("abc", "first", SPEC, "hash")
    question = worker.ask("abc", "why?", {})
    worker.see_worker("w1", "host", ["ask"], None, 1)
    worker.take_question(question, "w1")
    client.lose_question_if_silent(question)
    client.ask("abc", "how?", {})  # deletes what is older than a day
    assert (worker.read_answer(question).status, client.count_questions()) == ("running", 0)
    assert abs(client.now() - time.time()) < 60
    worker.close()
    client.close()


def test_runs_are_listed_in_the_order_of_their_submits(store: RunStore, clock: Clock) -> None:
    """`gc` deletes by this order; a clock that was years ahead or behind would keep or delete the wrong ones."""
    for number, step in enumerate((0.0, 10 * 365 * 86_400.0, -11 * 365 * 86_400.0, 60.0)):
        clock.now += step
        store.create(f"{number}", f"run-{number}", SPEC, "hash")
    assert [run.id for run in store.all()] == ["3", "2", "1", "0"]
    assert [run.id for run in store.all(2)] == ["3", "2"]
    with pytest.raises(NotFound) as caught:
        store.find("none")
    assert caught.value.hint == "Recent runs: 3 (run-3), 2 (run-2), 1 (run-1)"


@pytest.mark.parametrize("years", [-10, 10])
def test_a_clock_that_steps_in_the_middle_of_a_stage_ends_nothing(
    store: RunStore, run: Run, clock: Clock, years: int
) -> None:
    """Its holder renews the lease; a worker that only looks takes nothing back before a lease has passed."""
    token = claim(store, "prepare")
    clock.now += years * 365 * 86_400
    if years < 0:  # forwards, the lease is over at once for whoever looks before it is renewed
        assert store.expire(LEASE) == []
    store.renew(token, LEASE)
    assert store.expire(LEASE) == []
    store.progress(token, {"percent": 1.0})
    store.succeed(token, None, [])
    assert store.get("abc").stage("prepare").status == "succeeded"
    assert store.due("abc") is not None
    claim(store, "train")


def test_only_one_line_of_the_store_reads_a_clock() -> None:
    """Whatever else did would compare a machine's clock with the server's."""
    lines = [line.strip() for path in (ROOT / "ftq" / "store").glob("*.py") for line in path.read_text().splitlines()]
    assert [line for line in lines if "self.clock()" in line] == ["return self.clock()"]
    assert [line for line in lines if "time.time" in line] == ["LOCAL_CLOCK = time.time"]


def test_a_longer_lease_than_one_s_own_is_no_wrong_clock(store: RunStore, run: Run, clock: Clock) -> None:
    claim(store, "prepare")
    for _ in range(3):
        assert store.expire(LEASE / 20) == []
        clock.now += LEASE / 4
    assert statuses(store)[0] == ("running", 1)


def test_a_dead_process_is_taken_back_at_once_but_only_its_own_attempt(store: RunStore, run: Run) -> None:
    claim(store, "prepare")
    assert store.expire_attempt("abc", "prepare", 2) == []
    assert store.expire_attempt("abc", "train", 1) == []
    assert store.expire_attempt("abc", "prepare", 1, worker="w2") == []
    assert statuses(store)[0] == ("running", 1)
    assert store.expire_attempt("abc", "prepare", 1, worker="w1") == ["abc"]
    assert store.expire_attempt("abc", "prepare", 1) == []
    assert statuses(store)[0] == ("queued", 2)
    assert said(store)[2:] == [("prepare", 1, "lost", "the process of w1 that held it died")]


# ---- release, progress, accounting ----------------------------------------------------------------------


def test_release_gives_a_new_attempt_with_changes_that_stay(store: RunStore, run: Run, clock: Clock) -> None:
    token = claim(store, "prepare")
    store.progress(token, {"percent": 10})
    clock.now += 3
    store.release(token, "retried", "less memory", changes={"batch_size": 1}, counts=True)
    assert store.get("abc").stages[0] == stage(
        "prepare", attempt=2, tries=1, worker="w1", queued_at=1003.0, started_at=START,
        progress={"percent": 10, "updated_at": START}, changes={"batch_size": 1},
    )  # fmt: skip
    store.release(claim(store, "prepare", 2), "handed_back", "back")
    found = store.get("abc").stages[0]
    assert (found.attempt, found.tries, found.changes) == (3, 0, {"batch_size": 1})
    assert [line[:3] for line in said(store)[1:]] == [
        ("prepare", 1, "claimed"), ("prepare", 1, "retried"), ("prepare", 2, "claimed"), ("prepare", 2, "handed_back"),
    ]  # fmt: skip


def test_a_checkpoint_proves_that_the_attempt_brought_something(store: RunStore, run: Run) -> None:
    store.release(claim(store, "prepare"), "retried", "again", counts=True)
    token = claim(store, "prepare", 2)
    assert store.get("abc").stages[0].tries == 2
    store.note(token, "warning", "careful")
    assert store.get("abc").stages[0].tries == 2
    store.note(token, "checkpoint", "checkpoint at step 5", step=5)
    assert store.get("abc").stages[0].tries == 1
    assert [(event.kind, event.data) for event in store.events("abc")][-2:] == [
        ("warning", None), ("checkpoint", {"step": 5}),
    ]  # fmt: skip


def test_a_command_in_what_a_stage_says_names_its_run(store: RunStore, run: Run) -> None:
    """A stage is a function of a folder and writes RUN; the store knows which run that is."""
    token, name = claim(store, "prepare"), store.get("abc").name
    store.note(token, "warning", "odd: `ftq logs RUN --stage prepare`, then `ftq retry RUN`. RUNS too.")
    store.fail(token, RunError("user", "it broke", "`ftq retry RUN`"))
    said = [event.message for event in store.events("abc")]
    assert f"odd: `ftq logs {name} --stage prepare`, then `ftq retry {name}`. RUNS too." in said
    assert not any(" RUN" in one.replace("RUNS", "") for one in said)
    assert (error := store.get("abc").error) and error.hint == f"`ftq retry {name}`"


def test_progress_is_of_this_attempt(store: RunStore, run: Run, clock: Clock) -> None:
    token = claim(store, "prepare")
    clock.now += 1
    store.progress(token, {"percent": 50, "loss": 0.5})
    assert store.get("abc").stages[0].progress == {"percent": 50, "loss": 0.5, "updated_at": 1001.0}
    store.release(token, "retried", "again", counts=True)
    claim(store, "prepare", 2)
    assert store.get("abc").stages[0].progress is None


# ---- cancel, pause, retry, delete -----------------------------------------------------------------------


def test_cancel_of_a_queued_run_is_at_once_and_once(store: RunStore, run: Run, clock: Clock) -> None:
    succeed(store, "prepare")
    clock.now += 1
    store.cancel("abc")
    assert statuses(store) == [("succeeded", 1), *[("cancelled", 1)] * 4]
    assert (store.get("abc").status, store.get("abc").finished_at) == ("cancelled", 1001.0)
    before = snapshot(store)
    assert store.cancel("abc") == store.get("abc") == store.pause("abc") == store.resume("abc")
    assert snapshot(store) == before
    assert said(store)[-1] == (None, None, "cancelled", "cancelled by the user")


def test_cancel_of_a_running_stage_waits_for_its_supervisor(store: RunStore, run: Run) -> None:
    token = claim(store, "prepare")
    assert store.check(token) == ("run", False)
    assert store.cancel("abc").status == "running"
    assert store.check(token) == ("cancel", False)
    store.release(token, "handed_back", "asked to stop")
    assert statuses(store) == [("cancelled", 1)] * 5
    assert said(store)[-1] == ("prepare", 1, "cancelled", "stopped: cancelled by the user")


@pytest.mark.parametrize("lost", [0, MOST_LOSSES - 1])
def test_cancel_of_a_run_whose_worker_is_dead_is_done_when_the_lease_ends(
    store: RunStore, run: Run, clock: Clock, lost: int
) -> None:
    for attempt in range(1, lost + 1):
        lose(store, clock, attempt)
    clock.now += 120
    claim(store, "prepare", lost + 1)
    store.cancel("abc")
    clock.now += LEASE + 1
    assert store.expire(LEASE) == []
    assert [status for status, _ in statuses(store)] == ["cancelled"] * 5
    assert store.waiting(0) == []


def test_cancel_of_a_paused_run(store: RunStore, run: Run) -> None:
    store.pause("abc")
    assert store.cancel("abc").status == "cancelled"


def test_a_finished_run_stays_as_it_is(store: RunStore, run: Run) -> None:
    succeed(store, *STAGES)
    before = snapshot(store)
    for verb in (store.cancel, store.pause, store.resume):
        assert verb("abc").status == "succeeded"
    assert snapshot(store) == before


def test_pause_and_resume(store: RunStore, run: Run, clock: Clock) -> None:
    token = claim(store, "prepare")
    assert store.pause("abc").status == "running"
    assert store.check(token) == ("pause", False)
    store.release(token, "handed_back", "stopped for a pause")
    assert (store.get("abc").status, store.waiting(-1)) == ("paused", [])
    assert store.claim("abc", "prepare", 2, "w1", LEASE) is None
    before = snapshot(store)
    store.pause("abc")
    assert snapshot(store) == before
    clock.now += 100
    resumed = store.resume("abc")
    assert (resumed.status, resumed.stages[0].queued_at) == ("queued", 1100.0)
    before = snapshot(store)
    store.resume("abc")
    assert snapshot(store) == before
    claim(store, "prepare", 2)
    assert [line[2] for line in said(store)] == [
        "submitted", "claimed", "paused", "handed_back", "resumed", "claimed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "attempt", "status"), [("prepare", 2, "cancelled"), ("prepare", 1, "queued"), ("train", 2, "cancelled")]
)
def test_only_an_attempt_that_waits_is_cancelled(
    store: RunStore, run: Run, stage: str, attempt: int, status: str
) -> None:
    store.cancel("abc")
    store.retry("abc")
    store.cancel_attempt("abc", stage, attempt)
    assert store.get("abc").status == status


def test_an_attempt_that_runs_is_not_cancelled_by_an_old_message(store: RunStore, run: Run) -> None:
    store.claim("abc", "prepare", 1, "w1", 60)
    store.cancel_attempt("abc", "prepare", 1)
    assert store.get("abc").wanted == "run"
    store.cancel_attempt("abc", "prepare", 2, begun=True)
    assert store.get("abc").wanted == "run"


@pytest.mark.parametrize(("ended", "status"), [(False, "running"), (True, "cancelled")])
def test_an_attempt_that_was_terminated_cancels_its_run_though_it_has_just_succeeded(
    store: RunStore, run: Run, ended: bool, status: str
) -> None:
    token = claim(store, "prepare")
    if ended:
        store.succeed(token, None, [])
    store.cancel_attempt("abc", "prepare", 1, begun=True)
    assert (store.get("abc").wanted, store.get("abc").status) == ("cancel", status)


def test_retry_goes_on_where_it_failed(store: RunStore, run: Run, clock: Clock) -> None:
    succeed(store, "prepare")
    token = claim(store, "train")
    store.release(token, "retried", "less", changes={"batch_size": 1}, counts=True)
    store.fail(claim(store, "train", 2), ERROR)
    assert (store.get("abc").error, store.get("abc").status) == (replace(ERROR, place="train.2 on w1"), "failed")
    clock.now += 9
    prepared = store.get("abc").stages[0]
    retried = store.retry("abc")
    assert retried.stages == [
        prepared, stage("train", attempt=3, worker="w1", queued_at=1009.0, changes={"batch_size": 1}),
        stage("export", attempt=2), stage("infer", attempt=2), stage("evaluate", attempt=2),
    ]  # fmt: skip
    assert said(store)[-1] == ("train", None, "retried", "retried by the user from train")
    claim(store, "train", 3)


def test_retry_from_a_stage_does_it_anew(store: RunStore, run: Run, clock: Clock) -> None:
    store.release(claim(store, "prepare"), "retried", "less", changes={"batch_size": 1}, counts=True)
    store.succeed(claim(store, "prepare", 2), "key", FILES)
    succeed(store, *STAGES[1:])
    prepared = store.get("abc").stages[0]
    clock.now += 9
    retried = store.retry("abc", "train")
    assert retried.stages == [
        prepared,
        stage("train", attempt=2, fresh_from=2, worker="w1", queued_at=1009.0, artifacts=FILES),
        stage("export", attempt=2, fresh_from=2, worker="w1", artifacts=FILES),
        stage("infer", attempt=2, fresh_from=2, worker="w1", artifacts=FILES),
        stage("evaluate", attempt=2, fresh_from=2, worker="w1", artifacts=FILES),
    ]
    assert store.find_cached("train", "key-train") is None
    store.cancel("abc")
    assert store.retry("abc", "prepare").stages[0] == stage(
        "prepare", attempt=3, fresh_from=3, worker="w1", queued_at=1009.0, artifacts=FILES
    )


def old_run(store: RunStore) -> None:
    """Make `abc` a run of a version that had no evaluation."""
    with store.engine.begin() as db:
        db.exec_driver_sql("DELETE FROM stages WHERE name = 'evaluate'")


def test_a_run_of_a_version_with_four_stages_ends_with_its_last_one(store: RunStore, run: Run) -> None:
    old_run(store)
    succeed(store, *STAGES[:2])
    store.pause("abc")
    assert store.resume("abc").current == store.get("abc").stages[2]
    succeed(store, *STAGES[2:4])
    assert (store.get("abc").status, store.get("abc").current) == ("succeeded", None)
    assert store.waiting(-1) == []


@ON_BOTH
@pytest.mark.parametrize(("first", "queued"), [("evaluate", 1), ("train", 4)])
def test_retry_of_such_a_run_evaluates_it_too(store: RunStore, run: Run, first: str, queued: int) -> None:
    old_run(store)
    succeed(store, *STAGES[:4])
    retried = store.retry("abc", first)
    assert [stage.name for stage in retried.stages] == [*STAGES]
    assert [stage.name for stage in retried.remaining] == [*STAGES[-queued:]]
    succeed(store, *STAGES[-queued:-1], attempt=2)
    succeed(store, "evaluate")
    assert store.get("abc").status == "succeeded"


def test_retry_of_a_cancelled_run(store: RunStore, run: Run) -> None:
    succeed(store, "prepare")
    store.cancel("abc")
    assert store.retry("abc").status == "queued"
    assert statuses(store) == [("succeeded", 1), *[("queued", 2)] * 4]
    claim(store, "train", 2)


@pytest.mark.parametrize(
    ("before", "from_stage", "message"),
    [
        (lambda store: None, None, "run first is queued, there is nothing to retry"),
        (lambda store: claim(store, "prepare"), "prepare", "run first is running, there is nothing to retry"),
        (lambda store: store.pause("abc"), None, "run first is paused, there is nothing to retry"),
        (lambda store: (claim(store, "prepare"), store.cancel("abc")), None, "run first is still being cancelled"),
        (lambda store: succeed(store, *STAGES), None,
         "run first succeeded, there is nothing to retry"),
        (lambda store: store.cancel("abc"), "train", "run first can't go on from train: prepare isn't done"),
    ],
)  # fmt: skip
def test_retry_is_refused(
    store: RunStore, run: Run, before: Callable[[RunStore], Any], from_stage: str | None, message: str
) -> None:
    before(store)
    found = snapshot(store)
    with pytest.raises(Refused) as caught:
        store.retry("abc", from_stage)
    assert caught.value.message == message
    assert "`ftq " in caught.value.hint
    assert snapshot(store) == found


@ON_BOTH
def test_delete_forgets_everything_but_refuses_a_running_run(store: RunStore, run: Run) -> None:
    other = store.create("xyz", "second", SPEC, "hash")
    token = claim(store, "prepare")
    store.ask("abc", "why?", {})
    before = snapshot(store)
    with pytest.raises(Refused, match=r"^run first is running$"):
        store.delete("abc")
    assert snapshot(store) == before
    store.release(token, "handed_back", "back")
    store.delete("abc")
    assert (store.all(), store.events("abc"), len(store.events("xyz"))) == ([other], [], 1)
    with store.engine.begin() as db:
        counts = [db.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() for table in ("stages", "questions")]
    assert counts == [5, 0]


def test_keep(store: RunStore, run: Run) -> None:
    for kept in (True, False):
        store.keep("abc", kept)
        assert store.get("abc").kept is kept


# ---- what the reconciler and the cache ask --------------------------------------------------------------


@ON_BOTH
def test_waiting_is_for_heads_that_nobody_took_up(store: RunStore, clock: Clock) -> None:
    for run_id in ("new", "old", "run", "held", "over", "next"):
        clock.now += 1 if run_id == "old" else 0
        store.create(run_id, run_id, SPEC, "hash")
    claim(store, "prepare", run_id="run")
    store.pause("held")
    store.cancel("over")
    store.succeed(claim(store, "prepare", run_id="next"), None, [])
    clock.now += 10
    assert store.waiting(10) == [("new", "prepare", 1)]
    assert store.waiting(9)[0] == ("new", "prepare", 1)  # the oldest first
    assert sorted(store.waiting(9)) == [("new", "prepare", 1), ("next", "train", 1), ("old", "prepare", 1)]
    assert store.waiting(11) == []
    assert {run.id for run in store.all() if store.due(run.id)} == {"new", "old", "next"}
    assert store.due("nobody") is None


def test_one_question_to_the_database_finds_all_that_wait(store: RunStore, clock: Clock) -> None:
    for number in range(20):
        store.create(f"r{number}", f"run-{number}", SPEC, "hash")
    clock.now += 10
    asked: list[str] = []
    sa.event.listen(store.engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
    assert len(store.waiting(8)) == 20
    assert len([statement for statement in asked if "stages" in statement]) == 1


@ON_BOTH
def test_find_cached_takes_the_newest_success(store: RunStore, clock: Clock) -> None:
    for run_id in ("one", "two", "bad"):
        clock.now += 1
        store.create(run_id, run_id, SPEC, "hash")
        token = claim(store, "prepare", run_id=run_id)
        if run_id == "bad":
            store.fail(token, ERROR)
        else:
            store.succeed(token, "key", FILES)
    assert store.find_cached("prepare", "key") == "two"
    assert (store.find_cached("train", "key"), store.find_cached("prepare", "other")) == (None, None)
    store.delete("two")
    assert store.find_cached("prepare", "key") == "one"


def test_events_in_order_after_an_id(store: RunStore, run: Run, clock: Clock) -> None:
    token = claim(store, "prepare")
    for step in range(3):
        clock.now += 1
        store.note(token, "note", f"step {step}", step=step)
    events = store.events("abc")
    assert [event.id for event in events] == sorted(event.id for event in events)
    assert store.events("abc", after=events[2].id) == events[3:] == [
        Event(events[3].id, 1002.0, "prepare", 1, "note", "step 1", {"step": 1}),
        Event(events[4].id, 1003.0, "prepare", 1, "note", "step 2", {"step": 2}),
    ]  # fmt: skip


@ON_BOTH
def test_a_text_that_no_database_stores_is_still_told(store: RunStore, run: Run) -> None:
    """A stage names a file whose name isn't UTF-8; a question's process as well."""
    strange, shown = "M\udcfcller\0.md: Müller", "M\\udcfcller\\x00.md: Müller"
    token = claim(store, "prepare")
    store.note(token, "warning", strange, file=strange)
    question = store.ask("abc", "why?", {})
    store.take_question(question, "w1")
    store.write_answer(question, strange)
    assert store.read_answer(question).written == shown
    store.answer(question, None, replace(ERROR, message=strange))
    store.fail(token, replace(ERROR, hint=strange, message=strange))
    error = replace(ERROR, hint=shown, message=shown, place="prepare.1 on w1")
    assert (store.get("abc").status, store.get("abc").error) == ("failed", error)
    assert [event.message for event in store.events("abc")][-2:] == [shown, f"failed (bug): {shown}"]
    assert store.read_answer(question) == Reply("failed", shown, None, replace(ERROR, message=shown, place="ask on w1"))


@ON_BOTH
def test_a_question_is_taken_once_and_answered(store: RunStore, run: Run) -> None:
    question, other = store.ask("abc", "why?", {"max_tokens": 5}), store.ask("abc", "how?", {})
    assert store.read_answer(question) == Reply("queued")
    store.write_answer(question, "nobody has it yet")
    assert store.take_question(question, "w1") == ("abc", "why?", {"max_tokens": 5})
    assert store.take_question(question, "w1") is None
    assert store.take_question("none", "w1") is None
    assert store.read_answer(question) == Reply("running")
    store.write_answer(question, "bec")
    assert store.read_answer(question) == Reply("running", "bec")
    store.answer(question, {"answer": "because"})
    store.write_answer(question, "too late")
    store.take_question(other, "w1")
    store.answer(other, None, ERROR)
    assert store.read_answer(question) == Reply("succeeded", "bec", {"answer": "because"})
    assert store.read_answer(other) == Reply("failed", "", None, replace(ERROR, place="ask on w1"))


def test_a_question_to_a_run_that_was_deleted(store: RunStore, run: Run) -> None:
    question = store.ask("abc", "why?", {})
    store.delete("abc")
    with pytest.raises(FtqError, match=r"^the run was deleted meanwhile, and the question with it$"):
        store.read_answer(question)
    with pytest.raises(NotFound, match=r"^run abc was deleted$"):
        store.ask("abc", "why?", {})


def test_a_question_is_withdrawn_until_it_is_answered(store: RunStore, run: Run) -> None:
    question, other = store.ask("abc", "why?", {}), store.ask("abc", "how?", {})
    store.withdraw(question)
    assert (store.take_question(question, "w1"), store.read_answer(question)) == (None, Reply("withdrawn"))
    store.take_question(other, "w1")
    assert store.check_question(other, "w1") == (True, False)
    store.withdraw(other)
    store.answer(other, {"answer": "so"})
    assert (store.check_question(other, "w1"), store.read_answer(other)) == ((False, False), Reply("withdrawn"))
    last = store.ask("abc", "when?", {})
    store.take_question(last, "w1")
    store.see_worker("w1", "host", ["cpu"], None, 1)
    store.drain_worker("w1", True)
    assert store.check_question(last, "w1") == (True, True)
    store.answer(last, {"answer": "now"})
    store.answer(last, None, ERROR)
    store.withdraw(last)
    assert store.read_answer(last) == Reply("succeeded", "", {"answer": "now"})


def test_a_question_is_lost_with_its_worker(store: RunStore, run: Run, clock: Clock) -> None:
    question, waits = store.ask("abc", "why?", {"seed": 1}), store.ask("abc", "how?", {})
    store.take_question(question, "w1")
    clock.now += 15
    store.see_worker("w1", "host", ["ask"], None, 1)
    clock.now += 15  # taken long ago, by a worker that is alive
    store.lose_question_if_silent(question)
    store.lose_question_if_silent(waits)
    assert store.read_answer(question) == Reply("running")
    clock.now += 10
    store.lose_question_if_silent(question)
    lost = replace(LOST, place="ask on w1")
    assert (store.read_answer(question), store.read_answer(waits)) == (Reply("failed", "", None, lost), Reply("queued"))
    store.take_question(waits, "w2")  # which hasn't given its first sign of life
    clock.now += 5
    store.lose_question_if_silent(waits)
    assert store.read_answer(waits) == Reply("running")


def test_a_worker_that_starts_again_gives_up_what_it_had_taken_before(store: RunStore, run: Run, clock: Clock) -> None:
    old, other, new, done = (store.ask("abc", "why?", {}) for _ in range(4))
    store.take_question(old, "w1")
    store.take_question(other, "w2")
    store.take_question(done, "w1")
    store.answer(done, {"answer": "yes"})
    clock.now += 1
    store.take_question(new, "w1")
    clock.now += 1
    store.lose_questions_of("w1", seconds=1)
    assert [store.read_answer(one).status for one in (old, other, new, done)] == [
        "failed", "running", "running", "succeeded",
    ]  # fmt: skip


def test_questions_are_deleted_after_a_day(store: RunStore, run: Run, clock: Clock) -> None:
    old = store.ask("abc", "why?", {})
    clock.now += OLD_SECONDS - 1
    young = store.ask("abc", "how?", {})
    assert store.read_answer(old) == Reply("queued")
    clock.now += 2
    store.ask("abc", "when?", {})
    assert store.read_answer(young) == Reply("queued")
    with pytest.raises(FtqError, match="the question with it"):
        store.read_answer(old)


# ---- workers --------------------------------------------------------------------------------------------


def test_a_queue_is_live_while_a_worker_shows_itself(store: RunStore, clock: Clock) -> None:
    store.see_worker("w1", "host", ["cpu"], None, 1)
    clock.now += 10
    store.see_worker("w2", "host", ["cpu", "gpu"], "H100", 2)
    assert store.live_queues() == {"cpu", "gpu"}
    store.drain_worker("w2", True)
    assert store.live_queues() == {"cpu"}
    clock.now += 15
    assert store.live_queues() == set()
    store.drain_worker("w2", False)
    assert store.live_queues() == {"cpu", "gpu"}
    store.see_worker("w2", "host", ["gpu"], "H100", 3)
    assert store.live_queues() == {"gpu"}
    store.forget_worker("w2")
    assert store.live_queues() == set()


def test_a_draining_worker_is_told_so(store: RunStore, run: Run) -> None:
    store.see_worker("w1", "host", ["cpu"], None, 1)
    token = claim(store, "prepare")
    assert store.check(token) == ("run", False)
    store.drain_worker("w1", True)
    store.see_worker("w1", "host", ["cpu"], None, 1)  # its sign of life doesn't undo it
    assert store.check(token) == ("run", True)


def test_a_worker_that_ended_without_a_word_is_forgotten_after_a_day(store: RunStore, clock: Clock) -> None:
    for day in range(4):
        store.see_worker(f"w{day}", "host", ["cpu"], None, day)
        clock.now += 24 * 3600 - 1
        store.see_worker("stays", "host", ["cpu"], None, 9)
    assert [worker.name for worker in store.workers()] == ["stays", "w3"]
    clock.now += 24 * 3600
    assert [worker.name for worker in store.workers()] == ["stays"]
    clock.now += 1
    assert store.workers() == [], "though no other has come since"


def test_a_worker_that_was_seen_in_the_future_is_not_alive(store: RunStore, clock: Clock) -> None:
    clock.now += 8 * 3600
    store.see_worker("w1", "host", ["cpu"], None, 1)
    assert [worker.is_live for worker in store.workers()] == [True]
    clock.now -= 8 * 3600
    assert ([worker.is_live for worker in store.workers()], store.live_queues()) == ([False], set())


def test_what_a_worker_has(store: RunStore, clock: Clock) -> None:
    facts = {"gpus": 2, "gpu": "H100", "memory": 80 * 2**30}
    store.see_worker("w1", "host", ["cpu"], None, 1)
    clock.now += 30
    store.see_worker("w2", "host", ["gpu2", "gpu"], "2 x H100", 2, facts)
    store.see_worker("w3", "host", ["gpu"], None, 3)
    store.drain_worker("w3", True)
    assert store.workers() == [
        Worker("w2", ["gpu2", "gpu"], facts, True, "host", "2 x H100", START + 30, False),
        Worker("w3", ["gpu"], {}, False, "host", None, START + 30, True),
        Worker("w1", ["cpu"], {}, False, "host", None, START, False),
    ]


# ---- plans ----------------------------------------------------------------------------------------------

CHOSEN = {"card": "H100", "engine": "unsloth", "load_in_4bit": False, "gradient_checkpointing": False, "steps": 10,
          "predicted": {"peak": 1000, "seconds": 10.0, "step_seconds": 1.0}}  # fmt: skip
MEASURED = {"measured": {"peak": 1100, "seconds": 13.5, "steps": 10, "step_seconds": 1.5}}


def test_a_plan_is_told_once_and_grows_by_what_is_measured(store: RunStore, run: Run) -> None:
    succeed(store, "prepare")
    token = claim(store, "train")
    store.plan(token, "16-bit base", CHOSEN)
    store.plan(token, "", MEASURED)
    found = store.get("abc").stage("train").plan
    assert found == {**CHOSEN, **MEASURED, "message": "16-bit base"}
    assert said(store)[-1] == ("train", 1, "plan", "16-bit base")
    store.release(token, "handed_back", "back")
    again = claim(store, "train", 2)
    assert store.get("abc").stage("train").plan == found
    store.plan(again, "4-bit base", {**CHOSEN, "load_in_4bit": True})
    assert store.get("abc").stage("train").plan == {**CHOSEN, "load_in_4bit": True, "message": "4-bit base"}


def test_the_revision_that_prepare_used_stays_until_it_is_done_anew(store: RunStore, run: Run) -> None:
    store.succeed(claim(store, "prepare"), None, FILES, revision="c" * 40)
    store.fail(claim(store, "train"), ERROR)
    assert store.retry("abc").revision == store.get("abc").revision == "c" * 40
    store.cancel("abc")
    assert store.retry("abc", "prepare").revision is None


def test_retry_keeps_a_plan_and_retry_from_a_stage_forgets_it(store: RunStore, run: Run) -> None:
    succeed(store, "prepare")
    token = claim(store, "train")
    store.plan(token, "16-bit base", CHOSEN)
    store.fail(token, ERROR)
    assert store.retry("abc").stage("train").plan == {**CHOSEN, "message": "16-bit base"}
    store.cancel("abc")
    assert store.retry("abc", "train").stage("train").plan is None


def train(store: RunStore, run_id: str, model: str = "qwen3-4b", **plan: Any) -> None:
    store.create(run_id, run_id, {**SPEC, "model": model}, "hash")
    store.succeed(claim(store, "prepare", run_id=run_id), None, FILES)
    token = claim(store, "train", run_id=run_id)
    store.plan(token, "", {**CHOSEN, **MEASURED, **plan})
    store.succeed(token, None, FILES)


def test_corrections_come_from_the_same_card_the_same_model_first_the_newest_first(
    store: RunStore, clock: Clock
) -> None:
    def measured(seconds: float) -> dict[str, Any]:
        return {"measured": {**MEASURED["measured"], "step_seconds": round(seconds / 9, 9)}}

    for run_id, options in {
        "old": measured(9.0), "new": measured(10.8), "other": {"model": "qwen3-8b", **measured(12.6)},
        "elsewhere": {"card": "L4"}, "half": {"measured": None},
    }.items():  # fmt: skip
        clock.now += 1
        train(store, run_id, **options)
    store.create("failed", "failed", SPEC, "hash")
    store.succeed(claim(store, "prepare", run_id="failed"), None, FILES)
    token = claim(store, "train", run_id="failed")
    store.plan(token, "", {**CHOSEN, **measured(18.0)})
    store.fail(token, ERROR)

    def known(card: str, model: str) -> tuple[Correction, ...]:
        return calibration.corrections(store.plans_on(card, model))

    assert [one.seconds for one in known("H100", "qwen3-4b")] == [1.2, 1.0, 1.4]
    assert [one.seconds for one in known("H100", "qwen3-8b")] == [1.4, 1.2, 1.0]
    assert [one.peak for one in known("L4", "any")] == [1.1]
    assert store.plans_on("T4", "qwen3-4b") == []


def test_the_last_plan(store: RunStore, clock: Clock) -> None:
    assert store.last_plan() is None
    store.create("retried", "retried", SPEC, "hash")
    store.succeed(claim(store, "prepare", run_id="retried"), None, FILES)
    token = claim(store, "train", run_id="retried")
    store.plan(token, "", {**CHOSEN, "card": "H100", "steps": 99})
    store.fail(token, ERROR)
    store.retry("retried")  # it keeps its plan and hasn't started again: PostgreSQL puts that first
    for number, card in enumerate(["H100", "L4", "H100"]):
        clock.now += 1
        train(store, f"r{number}", card=card, steps=number)
    store.create("queued", "queued", SPEC, "hash")
    assert [(store.last_plan(card) or {}).get("steps") for card in (None, "H100", "L4", "T4")] == [2, 2, 1, None]
    clock.now += 1
    store.create("r3", "r3", SPEC, "hash")
    store.succeed(claim(store, "prepare", run_id="r3"), None, FILES)
    token = claim(store, "train", run_id="r3")
    store.plan(token, "", {"card": "H100", "steps": 3})
    store.release(token, "paused", "it waits for its next attempt")
    assert (store.last_plan() or {}).get("steps") == 3
    clock.now += 1
    train(store, "r4", card="H100", steps=4)
    assert (store.last_plan() or {}).get("steps") == 4
    store.cancel("retried")
    clock.now += 1
    store.retry("retried")
    assert (store.last_plan() or {}).get("steps") == 4


# ---- the database itself --------------------------------------------------------------------------------


def test_what_was_written_is_there_for_another_process(url: str, store: RunStore, run: Run) -> None:
    claim(store, "prepare")
    other = RunStore(url)
    assert snapshot(other) == snapshot(store)
    other.close()


def test_a_database_of_another_version_is_refused(url: str, store: RunStore) -> None:
    with store.engine.begin() as db:
        db.exec_driver_sql("UPDATE ftq_schema SET version = 99")
    with pytest.raises(Unavailable, match=rf"has schema version 99, this ftq needs {schema.VERSION}$"):
        RunStore(url)


VERSION_1 = """
CREATE TABLE ftq_schema (version INTEGER NOT NULL PRIMARY KEY);
CREATE TABLE runs (id VARCHAR(16) NOT NULL PRIMARY KEY, name VARCHAR(120) NOT NULL UNIQUE, model VARCHAR(400) NOT NULL,
    spec JSON NOT NULL, documents_hash VARCHAR(64) NOT NULL, wanted VARCHAR(8) NOT NULL, kept BOOLEAN NOT NULL,
    created_at FLOAT NOT NULL);
CREATE TABLE workers (name VARCHAR(200) NOT NULL PRIMARY KEY, host VARCHAR(200) NOT NULL, queues VARCHAR(200) NOT NULL,
    gpu VARCHAR(200), pid INTEGER NOT NULL, draining BOOLEAN NOT NULL, seen_at FLOAT NOT NULL);
CREATE TABLE stages (run_id VARCHAR(16) NOT NULL REFERENCES runs (id) ON DELETE CASCADE, name VARCHAR(16) NOT NULL,
    position INTEGER NOT NULL, status VARCHAR(12) NOT NULL, attempt INTEGER NOT NULL, tries INTEGER NOT NULL,
    fresh_from INTEGER NOT NULL, cached BOOLEAN NOT NULL, key VARCHAR(64), owner VARCHAR(32), worker VARCHAR(200),
    lease_until FLOAT, queued_at FLOAT, started_at FLOAT, finished_at FLOAT, progress JSON, changes JSON, error JSON,
    artifacts JSON, PRIMARY KEY (run_id, name));
CREATE TABLE events (id {serial}, run_id VARCHAR(16) NOT NULL REFERENCES runs (id) ON DELETE CASCADE, at FLOAT NOT NULL,
    stage VARCHAR(16), attempt INTEGER, kind VARCHAR(24) NOT NULL, message TEXT NOT NULL, data JSON);
CREATE TABLE questions (id VARCHAR(16) NOT NULL PRIMARY KEY, run_id VARCHAR(16) NOT NULL REFERENCES runs (id),
    prompt TEXT NOT NULL, options JSON NOT NULL, status VARCHAR(12) NOT NULL, answer JSON, error JSON,
    created_at FLOAT NOT NULL);
INSERT INTO ftq_schema VALUES (1);
INSERT INTO runs VALUES ('abc', 'first', 'qwen3-4b', '{spec}', 'hash', 'run', false, 1000.0);
INSERT INTO stages VALUES ('abc', 'prepare', 0, 'queued', 1, 0, 0, false, NULL, NULL, NULL, NULL, 1000.0, NULL, NULL,
    NULL, NULL, NULL, NULL);
INSERT INTO stages VALUES ('abc', 'train', 1, 'queued', 1, 0, 0, false, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL);
INSERT INTO workers VALUES ('w1', 'host', 'cpu', NULL, 1, false, 1000.0)
"""


def make_version_1(url: str) -> None:
    """A database as the first ftq made it, with a run and a worker."""
    engine = sa.create_engine(url)
    serial = "INTEGER PRIMARY KEY AUTOINCREMENT" if url.startswith("sqlite") else "SERIAL PRIMARY KEY"
    with engine.begin() as db:
        for statement in VERSION_1.format(serial=serial, spec=json.dumps(SPEC)).split(";\n"):
            db.exec_driver_sql(statement)
    engine.dispose()


@ON_BOTH
def test_a_database_of_the_version_before_is_brought_up_to_date_and_keeps_its_rows(url: str, clock: Clock) -> None:
    make_version_1(url)
    store = RunStore(url, clock)
    assert store.get("abc") == Run("abc", "first", "qwen3-4b", SPEC, "hash", "run", False, START,
                                   [stage("prepare", queued_at=START), stage("train")], "first")  # fmt: skip
    assert [(worker.name, worker.queues, worker.facts, worker.is_live) for worker in store.workers()] == [
        ("w1", ["cpu"], {}, True)
    ]
    token = claim(store, "prepare")
    store.plan(token, "a plan", {"steps": 3})
    store.see_worker("w1", "host", ["cpu"], None, 1, {"memory": 5})
    store.close()
    again = RunStore(url, clock)
    assert again.get("abc").stages[0].plan == {"steps": 3, "message": "a plan"}
    assert again.workers()[0].facts == {"memory": 5}
    with again.engine.begin() as db:
        assert db.exec_driver_sql("SELECT version FROM ftq_schema").scalars().all() == [schema.VERSION]
    again.close()


def _open(number: int, url: str) -> list[str]:
    store = RunStore(url)
    return [run.id for run in store.all()]


@ON_BOTH
def test_processes_that_upgrade_at_once_do_it_once(url: str) -> None:
    make_version_1(url)
    assert in_processes(6, _open, url) == [["abc"]] * 6


def test_a_database_that_cannot_be_used_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=rf"^database sqlite:///{tmp_path}/none/x\.db can't be used: unable to open"):
        RunStore(f"sqlite:///{tmp_path}/none/x.db")
    with pytest.raises(Unavailable) as caught:
        RunStore("postgresql+psycopg://me:secret@127.0.0.1:1/x")
    assert caught.value.message.startswith("database postgresql+psycopg://me:***@127.0.0.1:1/x can't be used: ")
    assert "secret" not in caught.value.message + caught.value.hint
    with pytest.raises(Unavailable, match=r"^database nonsense can't be used: "):
        RunStore("nonsense")


def test_a_database_that_goes_away_later_is_unavailable(tmp_path: Path) -> None:
    store = RunStore(f"sqlite:///{tmp_path}/ftq.db")
    store.close()
    (tmp_path / "ftq.db").rename(tmp_path / "gone.db")
    (tmp_path / "ftq.db").write_bytes(b"")
    with pytest.raises(Unavailable, match="no such table"):
        store.all()
    store.close()


def test_a_full_disk_is_said_with_what_may_be_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    (tmp_path / "ftq.db").mkdir()  # SQLite has another word for it, as it has for a full disk
    with pytest.raises(Unavailable) as caught:
        RunStore(f"sqlite:///{tmp_path}/ftq.db")
    assert caught.value.message == f"database sqlite:///{tmp_path}/ftq.db can't be used: its disk is full"
    assert "Make a few MB of room by hand" in caught.value.hint and "`ftq gc`" in caught.value.hint


# ---- many processes at once -----------------------------------------------------------------------------


def in_processes(count: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `work` returned in each of so many processes, which start together."""
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(count), context.SimpleQueue()
    processes = [context.Process(target=_together, args=(barrier, answers, work, number, *arguments))
                 for number in range(count)]  # fmt: skip
    for process in processes:
        process.start()
    found = [answers.get() for _ in processes]
    for process in processes:
        process.join(PATIENCE)
    assert [process.exitcode for process in processes] == [0] * count
    return found


def _together(barrier: Any, answers: Any, work: Callable[..., Any], number: int, *arguments: Any) -> None:
    barrier.wait(PATIENCE)
    try:
        answers.put(work(number, *arguments))
    except Exception as error:
        answers.put(error)


def _claim_all(number: int, url: str) -> list[tuple[str, str]]:
    store = RunStore(url)
    claims = [(f"r{run}", store.claim(f"r{run}", "prepare", 1, f"w{number}", LEASE)) for run in range(20)]
    return [(run_id, token) for run_id, token in claims if token]


@ON_BOTH
def test_eight_processes_claim_each_stage_once(url: str, store: RunStore) -> None:
    for number in range(20):
        store.create(f"r{number}", f"run-{number}", SPEC, "hash")
    store.close()
    found = in_processes(8, _claim_all, url)
    assert sorted(run_id for claims in found for run_id, _ in claims) == sorted(f"r{number}" for number in range(20))
    for run_id, token in (claim for claims in found for claim in claims):
        store.succeed(token, None, [])  # the token is the one that the database kept
        assert [event.kind for event in store.events(run_id)] == ["submitted", "claimed", "succeeded"]


def _submit(number: int, url: str) -> str:
    try:
        return RunStore(url).create(f"r{number}", "same", SPEC, "hash").id
    except UserError as error:
        return error.message


@ON_BOTH
def test_four_processes_that_take_one_name_at_once_on_a_new_database(url: str) -> None:
    found = in_processes(4, _submit, url)
    store = RunStore(url)
    assert sorted(found, key=len) == [store.all()[0].id, *["the name same is taken"] * 3]
    assert store.count() == 1
    store.close()


def _expire(number: int, url: str) -> list[str]:
    return list(RunStore(url, lambda: START + 1000).expire(LEASE))


@ON_BOTH
def test_reconcilers_that_look_at_once_take_a_stage_back_once(url: str, store: RunStore) -> None:
    for number in range(10):
        store.create(f"r{number}", f"run-{number}", SPEC, "hash")
        claim(store, "prepare", run_id=f"r{number}")
    store.close()
    found = in_processes(4, _expire, url)
    assert sorted(run_id for ids in found for run_id in ids) == [f"r{number}" for number in range(10)]
    for number in range(10):
        assert statuses(store, f"r{number}")[0] == ("queued", 2)
        assert [event.kind for event in store.events(f"r{number}")] == ["submitted", "claimed", "lost"]


@ON_BOTH
@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        (lambda store, token: store.release(token, "handed_back", "back"), "cancel", ("cancelled", "cancel")),
        (lambda store, token: store.expire_attempt("abc", "prepare", 1), "cancel", ("cancelled", "cancel")),
        (lambda store, token: store.cancel("abc"), "pause", ("running", "cancel")),
        (lambda store, token: store.cancel("abc"), "resume", ("running", "cancel")),
        (lambda store, token: store.pause("abc"), "cancel", ("running", "cancel")),
        (lambda store, token: store.release(token, "handed_back", "back"), "pause", ("queued", "pause")),
        (lambda store, token: store.succeed(token, None, []), "cancel", ("succeeded", "cancel")),
    ],
)
def test_a_wish_at_the_moment_of_another_write_is_never_forgotten(
    store: RunStore, run: Run, first: Callable[[RunStore, str], Any], second: str, outcome: tuple[str, str]
) -> None:
    token = claim(store, "prepare")
    in_the_middle(store, lambda: first(store, token), lambda: getattr(store, second)("abc"))
    found = store.get("abc")
    assert (found.stages[0].status, found.wanted) == outcome


@ON_BOTH
def test_two_retries_at_the_same_moment_are_one(store: RunStore, run: Run) -> None:
    store.cancel("abc")
    refused: list[Refused] = []

    def retry() -> None:
        try:
            store.retry("abc")
        except Refused as error:
            refused.append(error)

    in_the_middle(store, lambda: store.retry("abc"), retry)
    assert [error.message for error in refused] == ["run first is queued, there is nothing to retry"]
    assert [kind for _, _, kind, _ in said(store)] == ["submitted", "cancelled", "retried"]


def in_the_middle(store: RunStore, first: Callable[[], Any], second: Callable[[], Any]) -> None:
    """Do `first`, and `second` at once in another thread when `first` has written but not committed."""
    event, thread = store._event, threading.Thread(target=second)

    def write(*arguments: Any, **data: Any) -> None:
        store._event = event  # type: ignore[method-assign]
        event(*arguments, **data)
        thread.start()
        thread.join(0.15)  # it can't end before this transaction does

    store._event = write  # type: ignore[method-assign]
    first()
    thread.join(PATIENCE)
    assert not thread.is_alive()
