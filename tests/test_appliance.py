"""FTQ_AUTO_SUBMIT: what is trained at a start, and what isn't."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_tools import Store

from ftq.client.client import Client
from ftq.errors import RunError, UserError
from ftq.files.run_dir import STAGES
from ftq.programs import UpOptions
from ftq.settings import Settings
from tests.tools import PATIENCE
from worker.host import appliance

OPTIONS = {"model": "smollm2-135m", "epochs": 2}


@pytest.fixture
def client(home: Path, documents: Path) -> Iterator[Client]:
    """Its working directory has documents/; no broker is there."""
    made = Client(Settings.from_env())
    yield made
    made.close()


def ensure(client: Client, options: dict[str, object] = OPTIONS) -> tuple[str, str]:
    run, done = appliance.ensure(client, options)
    return run.name, done


def finish(client: Client, store: Store) -> None:
    for number, stage in enumerate(STAGES):
        store.do(client.all()[0].id, stage, 100 - 10 * number)


def test_a_first_start_submits_and_a_later_one_finds(client: Client, store: Store) -> None:
    assert ensure(client) == ("smollm2-135m-1", "submitted")
    assert ensure(client) == ("smollm2-135m-1", "found")
    finish(client, store)
    assert ensure(client) == ("smollm2-135m-1", "found")
    assert client.count() == 1
    run = client.all()[0]
    ready = 'smollm2-135m-1 is ready: ftq infer smollm2-135m-1 "A question?"'
    assert appliance.describe(client, run) == f"{ready}  ({client.run_dir(run.id).path})"


def test_changed_documents_are_a_new_run_and_the_old_ones_again_are_the_old_run(
    client: Client, store: Store, documents: Path
) -> None:
    ensure(client)
    finish(client, store)
    before = (documents / "a.md").read_text()
    (documents / "a.md").write_text("# A\n\nAnother text.\n")
    assert ensure(client) == ("smollm2-135m-2", "submitted")
    (documents / "a.md").write_text(before)
    assert ensure(client) == ("smollm2-135m-1", "found")


def test_other_options_are_a_new_run(client: Client) -> None:
    ensure(client)
    assert ensure(client, {**OPTIONS, "epochs": 3}) == ("smollm2-135m-2", "submitted")


def test_an_option_that_a_later_version_brings_trains_nothing_anew(client: Client) -> None:
    ensure(client)
    run = client.all()[0]
    before = {name: value for name, value in run.spec.items() if name != "temperature"}
    assert appliance._same(before, run.spec) and appliance._same(run.spec, before)


def test_a_failed_run_is_tried_again_once_a_start(client: Client, store: Store) -> None:
    ensure(client)
    store.fail(client.all()[0].id, "prepare", 60, RunError("user", "the disk is full", "Make room."))
    failed = appliance.describe(client, client.all()[0])
    assert failed == "smollm2-135m-1 failed: the disk is full\nMake room."
    assert ensure(client) == ("smollm2-135m-1", "had failed and is tried again")
    assert client.all()[0].status == "queued"


def test_a_cancelled_run_stays_cancelled(client: Client) -> None:
    ensure(client)
    client.cancel("smollm2-135m-1")
    assert ensure(client) == ("smollm2-135m-1", "found")
    line = appliance.describe(client, client.all()[0])
    assert line == "smollm2-135m-1 was cancelled and stays so: ftq retry smollm2-135m-1 goes on with it"


def test_a_model_that_succeeded_wins_over_a_newer_failure_of_the_same(client: Client, store: Store) -> None:
    ensure(client)
    finish(client, store)
    store.now += 1e6
    second = client.submit(OPTIONS).run
    store.fail(second.id, "prepare", 60, RunError("bug", "m", "h"))
    assert ensure(client) == ("smollm2-135m-1", "found")


def test_two_containers_that_start_together_submit_one_run(client: Client) -> None:
    done: list[str] = []
    threads = [threading.Thread(target=lambda: done.append(ensure(client)[1])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == ["found", "found", "found", "submitted"]


def test_options_come_from_the_config_and_the_model_from_the_variable(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("epochs: 5\nmodel: another\n")
    environment = {"FTQ_AUTO_SUBMIT": "smollm2-135m", "FTQ_AUTO_CONFIG": str(config)}
    assert appliance.wanted(environment) == {"epochs": 5, "model": "smollm2-135m"}


def test_no_documents_say_so(client: Client, documents: Path) -> None:
    for path in documents.iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"no document in it"):
        appliance.ensure(client, OPTIONS)


# ---- the whole of it ------------------------------------------------------------------------------------


class Appliance:
    """`ftq up --no-flower --log-to-stderr` as a container runs it; `said` are its lines of the appliance."""

    def __init__(self, folder: Path) -> None:
        self.journal = folder / "journal.jsonl"
        wanted = {"FTQ_HOME": str(folder / "artifacts"), "FTQ_AUTO_SUBMIT": "smollm2-135m",
                  "FTQ_JOURNAL": str(self.journal), "PYTHONPATH": str(Path(__file__).parents[1])}  # fmt: skip
        command = UpOptions(flower=False, log_to_stderr=True).argv("tests.fake_up")
        self.process = subprocess.Popen(
            command, cwd=folder, env=os.environ | wanted, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.said: list[str] = []

    def until_it_says(self, end: str) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            if line.startswith("appliance "):
                self.said.append(line.removeprefix("appliance ").strip())
                if end in line:
                    return
        raise AssertionError(f"ended with {self.process.wait()}, said {self.said}")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stderr
        self.process.stderr.read()
        self.process.stderr.close()
        assert self.process.wait(timeout=PATIENCE) == 0

    def trained(self) -> int:
        lines = self.journal.read_text().splitlines()
        return sum('"stage": "train"' in line and '"event": "start"' in line for line in lines)


@pytest.mark.long
def test_it_trains_once_announces_the_model_and_trains_nothing_at_the_next_start(documents: Path) -> None:
    folder = documents.parent
    for number, done in enumerate(["submitted", "found"], 1):
        up = Appliance(folder)
        up.until_it_says("is ready")
        up.stop()
        assert up.said[0] == f"smollm2-135m-1 {done}: smollm2-135m from {documents}"
        assert up.said[-1].startswith('smollm2-135m-1 is ready: ftq infer smollm2-135m-1 "A question?"')
        assert up.trained() == 1, f"start {number}"
    (documents / "a.md").write_text("# A\n\nAnother text.\n")
    up = Appliance(folder)
    up.until_it_says("smollm2-135m-2 is ready")
    up.stop()
    assert up.trained() == 2


@pytest.mark.long
def test_a_problem_is_said_and_the_workers_stay_up(documents: Path) -> None:
    for path in documents.iterdir():
        path.unlink()
    up = Appliance(documents.parent)
    up.until_it_says("Error: documents")
    assert up.process.poll() is None
    up.stop()
