"""FTQ_OWNER_LIMIT: at most so many runs of one owner at work at once, said to who waits, and nobody starves."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import main
from ftq.client.workers import missing_for, would_wait
from ftq.errors import UserError
from ftq.files.run_dir import STAGES
from ftq.settings import Settings
from ftq.store.store import RunStore
from tests.test_store import LEASE, ON_BOTH, Clock, clock, in_processes, store, url
from tests.tools import Bench, until

__all__ = ["clock", "store", "url"]  # fixtures
ANA, BO = "user:ana", "user:bo"
SPEC = {"model": "m", "priority": "normal", "gpus": 1, "worker": "", "infer_with": "gguf"}


def add(store: RunStore, clock: Clock, *names: str, owner: str = ANA, **options: Any) -> None:
    for name in names:
        store.create(name, name, {**SPEC, **options}, "hash", owner=owner)
        clock.now += 1


def claim(store: RunStore, name: str, stage: str = "prepare", limit: int = 2) -> str | None:
    return store.claim(name, stage, 1, "w1", LEASE, limit)


def end(store: RunStore, name: str, stage: str = "prepare", limit: int = 2) -> str | None:
    """Do a stage; the name of the run of the same owner that may begin then."""
    token = claim(store, name, stage, limit)
    assert token
    store.succeed(token, None, [])
    following = store.next_of_owner(name, limit)
    return following and following.name


@ON_BOTH
def test_an_owner_has_no_more_runs_at_work_than_the_limit(store: RunStore, clock: Clock) -> None:
    add(store, clock, "a1", "a2", "a3")
    add(store, clock, "b1", owner=BO)
    add(store, clock, "o1", "o2", "o3", owner="")  # of an earlier ftq
    token = claim(store, "a1")
    assert token and claim(store, "a2") and claim(store, "a3") is None
    assert store.at_work_of(ANA) == 2
    assert claim(store, "b1") and all(claim(store, name) for name in ("o1", "o2", "o3"))
    store.succeed(token, None, [])
    assert claim(store, "a3"), "one has ended a stage: another may begin"
    assert claim(store, "a1", "train") is None
    assert claim(store, "a1", "train", limit=0), "a worker without a limit takes all"


def _claim_all(number: int, url: str, limit: int) -> list[str]:
    store = RunStore(url)
    names = [f"{owner}{run}" for run in range(6) for owner in "ab"]
    return [name for name in names if store.claim(name, "prepare", 1, f"w{number}", LEASE, limit)]


@ON_BOTH
def test_processes_that_claim_at_once_keep_the_limit(url: str, store: RunStore, clock: Clock) -> None:
    for owner in "ab":
        add(store, clock, *(f"{owner}{run}" for run in range(6)), owner=owner)
    store.close()
    claimed = [name for names in in_processes(6, _claim_all, url, 2) for name in names]
    assert sorted(name[0] for name in claimed) == ["a", "a", "b", "b"]
    assert len(set(claimed)) == 4


def test_who_goes_on_when_a_run_has_ended(store: RunStore, clock: Clock) -> None:
    add(store, clock, "a1", "a2", "a3")
    add(store, clock, "hot", priority="high")
    add(store, clock, "b1", owner=BO)
    assert end(store, "a2") == "hot"  # by priority
    assert end(store, "hot") == "a2"  # those of a priority that have begun before those that only wait
    assert claim(store, "hot", "train") and claim(store, "a2", "train")
    assert store.next_of_owner("a1", 2) is None, "no place is free"
    assert store.next_of_owner("b1", 2) is None, "nobody else of bo's waits"


def test_only_those_that_may_begin_are_sent_again(store: RunStore, clock: Clock) -> None:
    add(store, clock, "a1", "a2", "a3", "a4")
    add(store, clock, "big1", "big2", "big3", worker="big")
    add(store, clock, "b1", owner=BO)
    add(store, clock, "o1", "o2", "o3", owner="")
    clock.now += 20
    assert claim(store, "a1")
    names = [run_id for run_id, _, _ in store.waiting(10, 2)]
    assert names == ["a2", "big1", "b1", "o1", "o2", "o3"], "as many as may begin of an owner, in each queue"
    assert claim(store, "big1")
    assert [run_id for run_id, _, _ in store.waiting(10, 2)] == ["b1", "o1", "o2", "o3"]
    assert len(store.waiting(10)) == 9


def test_an_owner_at_the_limit_has_no_turn(store: RunStore, clock: Clock) -> None:
    add(store, clock, "a1", "a2")
    add(store, clock, "b1", "b2", owner=BO)
    add(store, clock, "c1", "c2", "c3", owner="user:cy")
    for name in ("b1", "c1", "c2"):
        assert claim(store, name, limit=0)
    turn = store.next_in_turn("b1", "prepare", 2)
    assert turn and turn.name == "a1"
    assert claim(store, "a1", limit=1)
    turn = store.next_in_turn("b1", "prepare", 1)
    assert turn is None, "all three have one at work"


def see(store: RunStore, name: str, limit: int) -> None:
    store.see_worker(name, "host", ["cpu", "gpu"], None, 1, {"owner_limit": limit, "stages": list(STAGES)})


def test_who_waits_for_it_is_told(store: RunStore, clock: Clock) -> None:
    add(store, clock, "a1", "a2", "a3")
    add(store, clock, "k1", "k2", owner="key1")
    see(store, "w1", 1)
    assert would_wait(SPEC, store, ANA) == missing_for((store.get("a1"),), store) == ""
    assert claim(store, "a1") and claim(store, "k1")
    said = "1 run of ana is at work, as many as FTQ_OWNER_LIMIT lets one owner have"
    assert would_wait(SPEC, store, ANA) == said
    assert missing_for((store.get("a1"), store.get("a2")), store) == f"a2 waits. {said}"
    assert missing_for((store.get("k2"),), store) == f"k2 waits. {said.replace('ana', 'this key')}"
    assert missing_for((store.pause("a3"),), store) == ""
    see(store, "w2", 3)
    assert would_wait(SPEC, store, ANA) == "", "one worker takes more"
    assert claim(store, "a2")
    see(store, "w2", 2)
    assert would_wait(SPEC, store, ANA).startswith("2 runs of ana are at work, ")
    see(store, "w2", 0)
    assert would_wait(SPEC, store, ANA) == ""


def test_a_limit_that_is_none_is_refused() -> None:
    assert Settings.from_env({"FTQ_HOME": "/x"}).owner_limit == 0
    assert Settings.from_env({"FTQ_HOME": "/x", "FTQ_OWNER_LIMIT": "3"}).owner_limit == 3
    with pytest.raises(UserError, match=r"^FTQ_OWNER_LIMIT=0: must be 1 or more$"):
        Settings.from_env({"FTQ_HOME": "/x", "FTQ_OWNER_LIMIT": "0"})


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench(tmp_path / "artifacts", FTQ_OWNER_LIMIT="1") as bench:
        yield bench


@pytest.mark.slow
def test_real_workers_keep_it_and_every_run_ends(bench: Bench) -> None:
    anas = ("a1", "a2", "a3")
    for name in anas:
        bench.submit(name, {"train": {"1": "wait"}}, ANA, max_steps=2)
    bench.submit("b1", owner=BO, max_steps=2)
    for _ in range(2):
        bench.start_worker("cpu,gpu")
    until(lambda: any(bench.has(name, "started", "train") for name in anas))
    environment = {"FTQ_HOME": str(bench.settings.home)}
    listed = CliRunner().invoke(main, ["status"], env=environment)
    assert "as many as FTQ_OWNER_LIMIT lets one owner have" in listed.stderr, listed.output
    for name in anas:
        bench.let_go(name)
    bench.wait_for_all()
    times = json.loads(CliRunner().invoke(main, ["status", "--all", "--json"], env=environment).stdout)
    spans = sorted(
        (stage["started_at"], stage["finished_at"]) for run in times if run["name"] != "b1" for stage in run["stages"]
    )
    overlaps = [(one, two) for one, two in itertools.pairwise(spans) if two[0] < one[1]]
    assert not overlaps, "two runs of ana were at work at once"
