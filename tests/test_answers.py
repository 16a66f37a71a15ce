"""How a worker answers: which model, what the asker sees meanwhile, and when the answer isn't worth writing."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ftq.errors import RunError, Unavailable
from ftq.files.run_dir import RunDir, write_json
from ftq.settings import Settings
from ftq.spec.options import parse
from ftq.store.questions import Reply
from ftq.store.store import RunStore
from tests.fake_pool import FakePool
from tests.tools import PATIENCE, until
from worker import answers, tasks
from worker.answers import Answerer
from worker.host import worker
from worker.llama import base

WORKER = "w1@host"
TIMES = {"seconds": 0.25, "first_token_seconds": 0.125}


class Rig:
    """A run `r` with two GGUF files, and who answers its questions."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home, f"redis+socket://{home}/nobody.sock", f"sqlite:///{home}/ftq.db")
        self.store = RunStore(self.settings.database_url)
        self.pools: list[FakePool] = []
        self.answerer = Answerer(self.settings, lambda: self.store, lambda: False)
        self.folder = RunDir(home / "r")
        (self.folder.path / "logs").mkdir(parents=True)
        spec = parse({"model": "qwen3-4b", "quantizations": "q4_k_m,q8_0", "max_tokens": 7, "infer_with": "adapter"})
        self.store.create("r", "r", spec.model_dump(), "h")
        self.store.see_worker(WORKER, "host", ["ask"], None, 1)
        for quant in ("q4_k_m", "q8_0"):
            self.folder.gguf(quant).write_bytes(b"GGUF")

    def open_pool(self, gpu: bool) -> FakePool:
        self.pools.append(FakePool(gpu))
        return self.pools[-1]

    def ask(self, prompt: str, **options: Any) -> Reply:
        question = self.store.ask("r", prompt, options)
        self.answerer.answer(question, WORKER)
        return self.store.read_answer(question)

    def begin(self, prompt: str) -> tuple[str, threading.Thread]:
        """A question that is being answered: (its id, the thread that answers)."""
        question = self.store.ask("r", prompt, {})
        thread = threading.Thread(target=self.answerer.answer, args=(question, WORKER))
        thread.start()
        until(lambda: self.store.read_answer(question).written)
        return question, thread


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    monkeypatch.setattr(answers, "open_pool", rig.open_pool)
    yield rig
    rig.answerer.close()
    rig.store.close()


def test_the_answer_comes_from_the_gguf_that_is_asked_for(rig: Rig) -> None:
    """Also of a run whose test prompts the adapter has answered."""
    reply = rig.ask("Who are you?")
    assert (reply.status, reply.error) == ("succeeded", None)
    assert reply.answer == {"prompt": "Who are you?", "answer": "Who are you?", "stopped": True, "tokens": 3, **TIMES}
    rig.ask("Who?", quant="q8_0", max_tokens="5", temperature=0.5, seed=0)
    (pool,) = rig.pools  # the models stay loaded
    (first, one), (second, two) = pool.asked
    assert (first, second) == ("model-q4_k_m.gguf", "model-q8_0.gguf")
    assert (one.max_tokens, one.temperature, one.seed, one.chat) == (7, 0.0, None, False)
    assert (two.max_tokens, two.temperature, two.seed, two.chat) == (5, 0.5, 0, False)
    assert not pool.gpu and not pool.closed
    rig.answerer.close()
    assert pool.closed


def test_the_base_model_is_asked_by_its_chat_template(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []
    made = rig.folder.path / "base.gguf"
    made.touch()
    monkeypatch.setattr(answers, "base_gguf", lambda *what: asked.append(what) or made)
    assert rig.ask("Who?", base=True).status == rig.ask("How?", base=True).status == "succeeded"
    assert [(file, question.chat) for file, question in rig.pools[0].asked] == [("base.gguf", True)] * 2
    assert asked == [("qwen3-4b", None)]  # to look for it takes a process
    made.unlink()
    rig.folder.dataset.mkdir()
    write_json(rig.folder.dataset / "report.json", {"base_revision": "c0ffee"})
    rig.ask("Where?", base=True)
    assert asked[1:] == [("qwen3-4b", "c0ffee")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quant": "../../etc/passwd"}, "unknown quantisation ../../etc/passwd. Known: f16, "),
        ({"quant": "q6_k"}, "model-q6_k.gguf is not there; the run has model-q4_k_m.gguf, model-q8_0.gguf"),
        ({"max_tokens": 0}, "max_tokens=0: expected integer 1 to 65536"),
        ({"temperature": "hot"}, "temperature=hot: "),
        ({"exec": "rm"}, "unknown option exec."),
    ],
)
def test_what_a_database_asks_for_is_checked_by_the_options_of_a_run(
    rig: Rig, options: dict[str, Any], message: str
) -> None:
    reply = rig.ask("Who?", **options)
    assert reply.error and reply.error.kind == "user" and message in reply.error.message
    assert rig.pools == []


def test_an_error_is_the_answer_and_a_question_is_answered_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    reply = rig.ask("crash")
    assert reply == Reply(
        "failed", "", None, RunError("bug", "llama.cpp ended with SIGSEGV", "Its last lines: ...", f"ask on {WORKER}")
    )
    question = rig.store.ask("r", "Who?", {})
    rig.answerer.answer(question, WORKER)
    before = rig.store.read_answer(question)
    rig.answerer.answer(question, "w2")
    assert rig.store.read_answer(question) == before and len(rig.pools[0].asked) == 2
    rig.folder.path.rename(rig.folder.path.with_name("elsewhere"))
    assert "is not there; the run has no model" in (rig.ask("Who?").error or RunError("", "")).message


def test_the_log_has_a_line_for_each_question_and_none_of_their_words(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.ask("What is our secret?")
    rig.ask("crash")
    lines = rig.folder.log("ask").read_text().splitlines()
    assert [line.split(": ", 1)[1] for line in lines] == [
        "4 tokens in 0.25 s, the first after 0.12 s", "no answer: llama.cpp ended with SIGSEGV",
    ]  # fmt: skip
    assert "secret" not in rig.folder.log("ask").read_text() + caplog.text


@pytest.mark.parametrize("why", ["left", "draining"])
def test_an_answer_that_is_no_longer_worth_writing_is_not_written(rig: Rig, why: str) -> None:
    question, thread = rig.begin("slow")
    assert rig.store.read_answer(question) == Reply("running", "slow")
    if why == "left":
        rig.store.withdraw(question)
    else:
        rig.store.drain_worker(WORKER, True)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    reply = rig.store.read_answer(question)
    if why == "left":
        assert reply == Reply("withdrawn", "slow")
    else:
        assert reply.error and reply.error.message == "the worker was asked to stop before it had answered"


def test_a_terminate_of_flower_ends_the_answer_alone(rig: Rig) -> None:
    """In a pool child, whose main thread answers."""
    before = signal.getsignal(signal.SIGTERM)

    def terminate() -> None:
        until(lambda: signal.getsignal(signal.SIGTERM) != before)  # SIGTERM would end the tests
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=terminate)
    thread.start()
    reply = rig.ask("slow")
    thread.join()
    assert reply.error and reply.error.message == "the worker was asked to stop before it had answered"
    assert signal.getsignal(signal.SIGTERM) == before
    assert rig.ask("next").status == "succeeded"


def test_two_questions_to_one_run_do_not_wait_for_each_other(rig: Rig) -> None:
    slow, thread = rig.begin("slow one")
    assert rig.ask("quick").status == "succeeded"
    assert rig.store.read_answer(slow).status == "running"
    rig.store.withdraw(slow)
    thread.join(PATIENCE)
    assert len(rig.pools) == 1


def test_a_database_that_is_unreachable_for_a_moment_costs_no_answer(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "LOOK_SECONDS", 0.0)
    real, left = rig.store.answer, [2]

    def away(*arguments: Any) -> None:
        if left[0]:
            left[0] -= 1
            raise Unavailable("database: unreachable")
        real(*arguments)

    def never(*arguments: Any) -> None:
        raise Unavailable("database: unreachable")

    monkeypatch.setattr(rig.store, "answer", away)
    monkeypatch.setattr(rig.store, "write_answer", never)
    monkeypatch.setattr(rig.store, "check_question", never)
    assert rig.ask("Who?").status == "succeeded"


def test_threads_share_what_is_opened_once() -> None:
    made: list[int] = []

    def make() -> int:
        time.sleep(0.05)  # long enough for the other threads to come
        made.append(1)
        return len(made)

    once = tasks._once(make)
    with ThreadPoolExecutor(4) as threads:
        assert [*threads.map(lambda _: once(), range(8))] == [1] * 8


def test_a_worker_for_questions_alone_has_threads_and_no_standby(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Celery's signals would start a standby after its first question."""
    from worker import app

    home.mkdir()
    begun: list[list[str]] = []
    monkeypatch.setattr(app.app, "worker_main", begun.append)
    monkeypatch.setenv("FTQ_STANDBY", "1")
    worker._start(["cpu", "ask"], "a", 0)
    assert os.environ["FTQ_STANDBY"] == "1"
    worker._start(["ask"], "a", 0)
    assert os.environ["FTQ_STANDBY"] == "0"
    worker._start(["ask"], "a", 9)
    assert [[*words[1:3]] for words in begun] == [
        ["--pool=prefork", "--concurrency=1"], ["--pool=threads", "--concurrency=4"],
        ["--pool=threads", "--concurrency=9"],
    ]  # fmt: skip


def test_a_base_model_is_looked_for_once_and_again_when_it_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look is a process of its own, which takes a second."""
    looks, file = list[list[str]](), tmp_path / "base.gguf"

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        looks.append(command)
        file.touch()
        return subprocess.CompletedProcess(command, 0, f"{file}\n", "")

    monkeypatch.setattr(base.subprocess, "run", run)
    monkeypatch.setattr(base, "_made", {})
    assert {base.base_gguf("tiny") for _ in range(3)} == {file} and len(looks) == 1
    base.base_gguf("tiny", "abc")
    file.unlink()
    base.base_gguf("tiny")
    assert len(looks) == 3
