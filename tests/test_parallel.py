"""Work on every core: results come in order, whoever makes them, and nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from benchmarks import api_manual
from ftq.examples import dataset
from ftq.examples import read as reading
from ftq.examples.dataset import Examples
from ftq.examples.read import read
from ftq.examples.records.known import FACT, SECTION
from ftq.examples.split import Row
from ftq.facts import ALL, facts_of
from ftq.facts.most import Facts
from ftq.formats.kind import Unusable
from ftq.parallel import Processes
from ftq.questions import Options, mix

MANUAL = Path(__file__).parent.parent / "documents"


def square(number: int, wait: float = 0.0) -> tuple[int, int]:
    time.sleep(wait)
    if number == 13:
        raise Unusable("thirteen")
    return number * number, os.getpid()


def end(number: int, here: int) -> int:
    """Dies, unless it is called in the process that asks."""
    if os.getpid() != here:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_results_come_in_order_from_several_processes_that_end() -> None:
    with Processes("tests.test_parallel:square", 2) as processes:
        results = list(processes.results((number, 0.02 * (number % 3)) for number in range(12)))
    assert [value for value, _ in results] == [number * number for number in range(12)]
    made_by = {process for _, process in results}
    assert len(made_by) == min(2, len(os.sched_getaffinity(0)))
    assert os.getpid() not in made_by
    assert not any(map(psutil.pid_exists, made_by))


def test_an_error_there_is_raised_here() -> None:
    with Processes("tests.test_parallel:square", 2) as processes:
        results = processes.results((number,) for number in (12, 13))
        assert next(results)[0] == 144
        with pytest.raises(Unusable, match=r"^thirteen$"):
            next(results)


def test_the_work_of_a_process_that_died_is_done_here() -> None:
    with Processes("tests.test_parallel:end", 2) as processes:
        assert list(processes.results((number, os.getpid()) for number in range(9))) == list(range(9))


def test_facts_give_the_same_questions_whoever_writes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = [fact for path in MANUAL.glob("*.md") for fact in facts_of(path.read_text(), path.name)]
    alone = mix.rows_of(facts, Options())
    monkeypatch.setattr(mix, "SHARED", 0)
    monkeypatch.setattr(mix, "AT_ONCE", 50)
    assert mix.rows_of(facts, Options()) == alone


def test_a_folder_gives_the_same_whoever_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        for page in MANUAL.glob("*.md"):
            (tmp_path / f"{number}-{page.name}").write_text(page.read_text())
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "picture.png").write_text("x")
    shares: list[float] = []
    alone = list(read(tmp_path, rules=ALL))
    monkeypatch.setattr(reading, "SHARED", 0)
    monkeypatch.setattr(reading, "AT_ONCE", 10_000)
    monkeypatch.setattr(reading, "LARGE", 12_000)
    assert list(read(tmp_path, progress=shares.append, rules=ALL)) == alone
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_the_same_sections_are_drawn_whoever_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more facts than are kept, and rules look at no section that is known to be left out."""
    api_manual.write(tmp_path, files=300)
    texts = [f"The pump {n} runs for {n + 2} minutes each day. It has a filter of {n} layers." for n in range(300)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    monkeypatch.setattr(dataset, "Facts", lambda: Facts(200))
    monkeypatch.setattr(reading, "AT_ONCE", 5_000)
    monkeypatch.setattr(reading, "FIRST", 2)
    made = []
    for shared in (0, 10**9):
        monkeypatch.setattr(reading, "SHARED", shared)
        examples = Examples(tmp_path, Row(512, lambda example: 1), questions=Options())
        rows = list(examples)
        made.append((rows, examples.report(0, [1], 512, "")))
    assert made[0] == made[1]
    report = made[0][1]
    assert report.questions is not None
    assert 190 < report.questions.facts <= 200
    left_out = Counter[str]()
    for cut in report.cuts:
        left_out[cut.what] += cut.count
    assert 0 < sum(row["document"] == "texts.jsonl" and "rule" in row for row, _ in rows) < 300  # a share of its lines
    assert left_out[SECTION] > 500
    assert left_out[FACT] > 500
