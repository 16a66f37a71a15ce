"""Asking without a broker and without a worker: what is refused, waited for, withdrawn and sent again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from ftq import queue
from ftq.client import asking
from ftq.client.asking import drain
from ftq.client.client import Client
from ftq.errors import FtqError, Refused, RunError, UserError
from ftq.settings import Settings
from ftq.spec.options import parse

START = "Start it with `ftq up` (everything on this machine) or `ftq worker`."
ERROR = RunError("memory", "too small", "buy more")


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A run `mine` with a q8_0 and a q4_k_m; a worker that shows itself, and does nothing."""
    home = tmp_path / "home"
    home.mkdir()
    client = Client(Settings(home, f"redis+socket://{home}/nobody.sock", f"sqlite:///{home / 'ftq.db'}"))
    client.store.create("abc", "mine", parse({"model": "qwen3-4b"}).model_dump(), "")
    client.run_dir("abc").path.mkdir()
    for quant in ("q8_0", "q4_k_m"):
        client.run_dir("abc").gguf(quant).write_bytes(b"GGUF")
    client.store.see_worker("w1", "host", ["ask"], None, 1)
    yield client
    client.close()


Rings = Callable[[Callable[[str], Any]], list[str]]


@pytest.fixture
def rings(client: Client, monkeypatch: pytest.MonkeyPatch) -> Rings:
    """A broker at whose every ring something is done: rings(what) -> the questions that were rung for."""

    def answer_with(what: Callable[[str], Any]) -> list[str]:
        rung: list[str] = []

        def send_question(app: Any, question: str) -> None:
            rung.append(question)
            what(question)

        monkeypatch.setattr(queue, "send_question", send_question)
        return rung

    return answer_with


def answer(client: Client, question: str, text: str = "because") -> None:
    client.store.take_question(question, "w1")
    client.store.answer(question, {"answer": text})


def fail(client: Client, question: str) -> None:
    client.store.take_question(question, "w1")
    client.store.answer(question, None, ERROR)


# ---- what is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("x" * 1_000_001, "the question has 1,000,001 bytes, 1,000,000 are the most"),
        ("a\0b", "the question is no text"),
        ("\udcff", "the question is no text"),
        ("", "the question is no text"),
    ],
)
def test_a_question_that_cannot_be_asked(client: Client, prompt: str, message: str) -> None:
    for ask in (client.ask, client.stream, lambda run, text: client.ask_many(run, ["fine", text])):
        with pytest.raises(UserError) as caught:
            ask("mine", prompt)
        assert caught.value.message == message and caught.value.hint


@pytest.mark.parametrize(
    ("options", "kind", "message", "hint"),
    [
        ({"max_tokens": 65_537}, UserError, "max_tokens=65537: expected integer 1 to 65536",
         "`ftq options` lists every option with its limits."),
        ({"quant": "q9"}, UserError, "unknown quantisation q9. Known: f16, bf16, q8_0, q6_k, q5_k_m, q5_k_s, q4_k_m, "
         "q4_k_s, q3_k_m, q3_k_l, q2_k", "`ftq options` lists every option with its limits."),
        ({"max_token": 5}, UserError, "unknown option max_token of a question. Did you mean max_tokens?",
         "Known: quant, base, max_tokens, temperature, seed"),
        ({"quant": "q6_k"}, Refused, "run mine has no q6_k, it has q4_k_m, q8_0",
         "`ftq infer mine --quant q4_k_m`, or submit it again with --set quantizations=q4_k_m,q8_0,q6_k: "
         "only the export is made anew."),
        ({"quant": "q8_0", "base": True}, UserError, "the base model has no other quantisation than q8_0",
         "Leave out --quant, or --base."),
    ],
)  # fmt: skip
def test_options_that_a_question_cannot_have(
    client: Client, options: dict[str, Any], kind: type[UserError], message: str, hint: str
) -> None:
    with pytest.raises(kind) as caught:
        client.ask("mine", "why?", **options)
    assert (type(caught.value), caught.value.message, caught.value.hint) == (kind, message, hint)


def test_a_run_without_a_model_has_only_its_base_model_to_ask(client: Client, rings: Rings) -> None:
    for file in client.run_dir("abc").ggufs():
        file.unlink()
    with pytest.raises(Refused, match=r"^run mine has no exported model yet: its stage prepare waits$"):
        client.ask("mine", "why?")
    rings(lambda question: answer(client, question))
    assert client.ask("mine", "why?", base=True) == {"answer": "because"}


def test_nobody_who_answers_is_said_before_anything_is_asked(client: Client) -> None:
    client.store.see_worker("w1", "host", ["cpu", "gpu"], None, 1)
    with pytest.raises(FtqError) as caught:
        client.ask("mine", "why?")
    assert caught.value.message == "no worker serves the queue ask, so nobody can answer (w1 serves cpu, gpu)"
    assert caught.value.hint == (
        "`ftq worker --queues ask` starts one. Workers of an earlier ftq serve it once they are restarted."
    )
    client.store.forget_worker("w1")
    with pytest.raises(FtqError) as caught:
        client.ask("mine", "why?")
    assert (caught.value.message, caught.value.hint) == ("no worker is up, so nobody can answer", START)


# ---- the answer -----------------------------------------------------------------------------------------


def test_an_answer_or_its_error(client: Client, rings: Rings) -> None:
    taken = []

    def take(question: str) -> None:
        taken.append(client.store.take_question(question, "w1"))
        client.store.answer(question, *(({"answer": "because"},) if len(taken) == 1 else (None, ERROR)))

    rings(take)
    assert client.ask("mine", "why?", max_tokens=5, quant="q8_0") == {"answer": "because"}
    with pytest.raises(FtqError) as caught:
        client.ask("mine", "how?")
    assert (caught.value.message, caught.value.hint, caught.value.kind) == ("too small", "buy more", "memory")
    assert taken == [("abc", "why?", {"max_tokens": 5, "quant": "q8_0"}), ("abc", "how?", {})]


def test_an_answer_is_read_while_it_is_written(client: Client, rings: Rings) -> None:
    rung: list[str] = []
    steps = [lambda: client.store.write_answer(rung[0], "Be"), lambda: client.store.write_answer(rung[0], "Becau"),
             lambda: client.store.answer(rung[0], {"answer": "Because.", "tokens": 3})]  # fmt: skip
    seen: list[str] = []

    def begin(question: str) -> None:
        rung.append(question)
        client.store.take_question(question, "w1")
        steps.pop(0)()

    def take(piece: str) -> None:
        seen.append(piece)
        if steps:
            steps.pop(0)()

    rings(begin)
    pieces = client.stream("mine", "why?")
    assert rung == []
    assert drain(pieces, take) == {"answer": "Because.", "tokens": 3}
    assert seen == ["Be", "cau", "se."]


def test_a_list_is_answered_in_order_with_several_on_their_way(
    client: Client, rings: Rings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "AT_ONCE", 3)
    waiting: list[str] = []

    def last_first(question: str) -> None:
        waiting.append(question)
        if len(waiting) == 3:
            fail(client, waiting[1])
            answer(client, waiting[2], "third")
            answer(client, waiting[0], "first")
        if len(waiting) > 3:
            answer(client, question, f"number {len(waiting)}")

    rings(last_first)
    answers = client.ask_many("mine", ["a", "b", "c", "d", "e"])
    error = asdict(replace(ERROR, place="ask on w1"))
    assert list(answers) == [
        {"answer": "first"}, {"prompt": "b", "error": error}, {"answer": "third"}, {"answer": "number 4"},
        {"answer": "number 5"},
    ]  # fmt: skip
    assert list(client.ask_many("mine", [])) == []


def test_of_a_list_with_a_seed_two_are_on_their_way(client: Client, rings: Rings) -> None:
    """They are answered one at a time: more of them would only take the worker's threads from others."""
    waiting = list[str]()

    def in_pairs(question: str) -> None:
        waiting.append(question)
        if len(waiting) == asking.SEEDED:
            while waiting:
                answer(client, waiting.pop())

    rings(in_pairs)
    answers = client.ask_many("mine", ["a", "b", "c", "d"], seed=0)
    assert list(answers) == [{"answer": "because"}] * 4
    rings(waiting.append)
    answers = client.ask_many("mine", ["a", "b", "c", "d"], timeout=0, seed=0)
    with pytest.raises(FtqError, match=r"^no answer within 0 s$"):
        next(answers)
    assert len(waiting) == asking.SEEDED


# ---- who has left, and what is lost ---------------------------------------------------------------------


def test_a_question_whose_asker_has_left_is_withdrawn(
    client: Client, rings: Rings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = client.store.ask
    monkeypatch.setattr(client.store, "ask", lambda *arguments: asked.append(real(*arguments)) or asked[-1])
    with pytest.raises(FtqError, match=r"^the broker can't be reached, so nobody can answer$"):
        client.ask("mine", "why?")
    rings(lambda question: None)
    with pytest.raises(FtqError, match=r"^no answer within 0 s$"):
        client.ask("mine", "why?", timeout=0)
    rings(lambda question: _ctrl_c())
    with pytest.raises(KeyboardInterrupt):
        client.ask("mine", "why?")
    rings(lambda question: (client.store.take_question(question, "w1"), client.store.write_answer(question, "Be")))
    pieces = client.stream("mine", "why?")
    assert next(pieces) == "Be"
    pieces.close()
    assert [client.store.read_answer(question).status for question in asked] == ["withdrawn"] * 4
    several = client.ask_many("mine", ["a", "b"])
    rings(lambda question: answer(client, question) if len(asked) == 5 else None)
    assert next(several) == {"answer": "because"}
    several.close()  # type: ignore[attr-defined]
    assert [client.store.read_answer(question).status for question in asked[4:]] == ["succeeded", "withdrawn"]


def _ctrl_c() -> None:
    raise KeyboardInterrupt


def test_a_question_that_nobody_takes_is_sent_again(
    client: Client, rings: Rings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "RING_SECONDS", 0)
    times = itertools.count(1)
    rung = rings(lambda question: answer(client, question) if next(times) == 3 else None)  # the broker lost the others
    assert client.ask("mine", "why?") == {"answer": "because"}
    assert len(rung) == 3 and len(set(rung)) == 1
    rings(lambda question: client.store.forget_worker("w1"))
    with pytest.raises(FtqError, match="no worker is up, so nobody can answer"):
        client.ask("mine", "why?")


def test_a_question_whose_worker_is_silent_is_given_up(
    client: Client, rings: Rings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "LOOK_SECONDS", 0)

    def take_and_die(question: str) -> None:
        now = client.store.clock()
        client.store.clock = lambda: now - 60
        client.store.see_worker("w1", "host", ["ask"], None, 1)
        client.store.take_question(question, "w1")
        client.store.clock = lambda: now

    rings(take_and_die)
    with pytest.raises(FtqError) as caught:
        client.ask("mine", "why?")
    assert caught.value.message == "the worker's process that was to answer died"
    assert caught.value.hint == "Ask again. The worker's log has the details."
