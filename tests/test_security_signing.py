"""Signed messages: what isn't signed with the key starts nothing, and everything that ftq sends is signed."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftq import queue
from ftq.client.client import Client
from ftq.files.run_dir import STAGES
from ftq.settings import Settings
from tests.tools import Bench, until
from worker.incoming.message import OTHER_TASK

KEY = "0123456789abcdef" * 2


def test_only_the_message_that_was_signed_is_genuine(tmp_path: Path) -> None:
    app = queue.make_app(Settings(tmp_path, "", "", signing_key=KEY.encode()))

    def nothing() -> None: ...

    train, export = (app.task(nothing, name=f"ftq.{name}", shared=False) for name in ("train", "export"))
    signature = queue._signature(KEY.encode(), "abc.train.1", "ftq.train", ("abc", 1))

    def genuine(task: Any, *arguments: Any, id: str = "abc.train.1", sent: Any = signature, key: str = KEY) -> bool:
        task.push_request(id=id, ftq_signature=sent)
        try:
            return queue.is_genuine(key.encode(), task, *arguments)
        finally:
            task.pop_request()

    assert genuine(train, "abc", 1)
    assert genuine(train, "other", 2, sent=None, key="")  # no key: nothing is asked for
    assert not genuine(train, "abc", 2)
    assert not genuine(train, "other", 1)
    assert not genuine(train, "abc", "1")
    assert not genuine(export, "abc", 1)
    assert not genuine(train, "abc", 1, id="abc.train.2")
    assert not genuine(train, "abc", 1, key=KEY[::-1])
    for sent in (None, "", signature[:-1], 7, ["x"], {}):
        assert not genuine(train, "abc", 1, sent=sent)


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "a.md").write_text("# A\n\nText.\n")
    return tmp_path / "documents"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Bench]:
    key = tmp_path / "signing.key"
    key.write_text(KEY + "\n")
    with Bench(tmp_path / "artifacts", FTQ_SIGNING_KEY_FILE=str(key)) as machine:
        yield machine


def submit(client: Client, documents: Path, name: str) -> str:
    return client.submit({"model": "smollm2-135m", "documents": str(documents), "max_steps": 2}, name).run.id


@pytest.mark.slow
def test_unsigned_messages_are_dropped_and_the_reconciler_sends_signed_ones(machine: Bench, documents: Path) -> None:
    forger = Client(dataclasses.replace(machine.settings, signing_key=b""))
    forged, signed = submit(forger, documents, "forged"), submit(machine.client, documents, "signed")
    forger.close()
    machine.start_worker()
    log = machine.logs / "w1.log"
    until(lambda: f"'{forged}.prepare.1' (ftq.prepare): not signed" in log.read_text())
    until(lambda: machine.client.find(signed).is_finished)
    until(lambda: machine.client.find(forged).is_finished)  # nobody but a reconciler could have sent it on
    claimed = [event for event in machine.client.store.events(forged) if event.kind == "claimed"]
    created = machine.client.find(forged).created_at
    assert len(claimed) == len(STAGES) and claimed[0].at - created > 1.5  # FTQ_HASTE
    assert [machine.client.find(run).status for run in (forged, signed)] == ["succeeded"] * 2
    until(lambda: f"run {forged} was stuck: its next stage is sent again" in log.read_text())
    assert log.read_text().count("not signed") == 1


@pytest.mark.slow
def test_a_forged_rest_of_a_chain_is_dropped(machine: Bench, documents: Path) -> None:
    """A true first message whose tail was replaced (its links need signatures of their own), and a call by Celery."""
    victim = machine.client.submit({"model": "smollm2-135m", "documents": str(documents)}, "victim").run
    head = queue._link(machine.client._doorbell.app, victim, victim.stages[0])
    machine.client._doorbell.app.connection_for_write().default_channel.client.flushall()
    calls_another = {"task": "ftq.train", "args": [], "kwargs": {}, "options": {}, "subtask_type": None}
    machine.client._doorbell.app.send_task("celery.starmap", (calls_another, [(victim.id, 7)]), queue="gpu")
    tail = machine.client._doorbell.app.signature("ftq.train", args=(victim.id, 1), immutable=True, queue="gpu")
    queue.chain(head, tail.set(task_id=f"{victim.id}.train.1"), app=machine.client._doorbell.app).apply_async()
    machine.start_worker()
    log = machine.logs / "w1.log"
    until(lambda: f"'{victim.id}.train.1' (ftq.train): not signed" in log.read_text())
    until(lambda: f"dropped from the queue gpu: it {OTHER_TASK}" in log.read_text())  # Celery's starmap would call it
    assert machine.client.find(victim.id).stage("prepare").status == "succeeded"


@pytest.mark.slow
def test_a_question_is_signed_too(machine: Bench, documents: Path) -> None:
    run = submit(machine.client, documents, "asked")
    machine.start_worker()
    until(lambda: machine.client.find(run).is_finished)
    question = machine.client.store.ask(run, "why?", {})
    unsigned = queue.make_app(dataclasses.replace(machine.settings, signing_key=b""))
    queue.send_question(unsigned, question)
    log = machine.logs / "w1.log"
    until(lambda: f"'answer.{question}' (ftq.answer): not signed" in log.read_text())
    assert machine.client.store.read_answer(question).status == "queued"
    queue.send_question(machine.client._doorbell.app, question)
    until(lambda: machine.client.store.read_answer(question).status != "queued")


def test_text_of_a_message_sends_no_command_to_the_terminal_of_a_worker(tmp_path: Path) -> None:
    code = """if True:
        import logging
        from worker.app import app
        app.log.setup_logging_subsystem(loglevel="INFO")
        logging.getLogger("ftq.worker").warning("%s isn't there to be taken", "\\x1b]0;owned\\x07")"""
    environment = {**os.environ, "FTQ_HOME": str(tmp_path)}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "\ufffd]0;owned\ufffd isn't there to be taken" in said.stderr and "\x1b" not in said.stderr
