"""Flower where somebody else's data lies under the broker's keys of ftq."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from flower_tools import Bench, until
from test_foreign_keys import OTHERS, STEP, held, occupy

from ftq.files.run_dir import STAGES


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench(tmp_path / "artifacts") as bench:
        yield bench


@pytest.mark.long
def test_flower_shows_tasks_and_the_queues_that_are_queues(bench: Bench) -> None:
    theirs, names = bench.redis(), [*OTHERS, "ask", "gpu2"]
    occupy(theirs, names)
    before = held(theirs, names)
    bench.start_flower()
    bench.start_worker()
    run = bench.submit("one")
    bench.wait_for("one")
    for stage in STAGES:
        until(lambda stage=stage: bench.task(f"{run.id}.{stage}.1").get("state") == "SUCCESS")  # type: ignore[misc]
    theirs.lpush("gpu3", "one")
    theirs.lpush(f"gpu3{STEP}6", "two", "three")
    status, lengths = bench.ask("/api/queues/length")
    waiting = {one["name"]: one["messages"] for one in json.loads(lengths)["active_queues"] if one["messages"]}
    assert (status, waiting) == (200, {"gpu3": 3})
    assert "No queue data is available" not in bench.ask("/broker")[1]
    assert held(theirs, names) == before
