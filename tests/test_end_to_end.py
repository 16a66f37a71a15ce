"""The whole way with nothing replaced: `ftq up`, a real broker, a real worker, the real stages on a tiny real model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tiny import make_tiny_model

from ftq.client.client import Client
from ftq.settings import Settings
from tests.tools import PATIENCE, until

FTQ = str(Path(sys.executable).with_name("ftq"))
OPTIONS = ["--set", "r=4", "--set", "max_seq_length=256", "--set", "max_tokens=8", "--quant", "q8_0", "--quant", "f16"]


def ftq(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([FTQ, *arguments], input=stdin, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`ftq up` in a folder with documents/ and a tiny model; ends it as Ctrl-C does and sees that nothing is left."""
    folder = tmp_path_factory.mktemp("up")
    make_tiny_model(folder / "tiny", tried=False)
    (folder / "documents").mkdir()
    (folder / "documents" / "faq.json").write_text(
        json.dumps([{"question": f"What is {number}?", "answer": f"{number} is a number."} for number in range(24)])
    )
    (folder / "documents" / "broken.json").write_text("[{]")
    environment = os.environ | {"FTQ_HOME": str(folder / "artifacts")}
    process = subprocess.Popen([FTQ, "up", "--no-flower"], env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    for line in process.stderr:
        if line.startswith("Everything is up"):
            break
    assert process.poll() is None
    yield folder
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=PATIENCE) == 0
    assert said.endswith("stopped\n")
    until(lambda: not subprocess.run(["pgrep", "-af", str(folder)], stdout=subprocess.PIPE).stdout)


@pytest.fixture(autouse=True)
def here(up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTQ_HOME", str(up / "artifacts"))
    monkeypatch.chdir(up)


@pytest.fixture(scope="module")
def done(up: Path) -> dict[str, str]:
    """A finished run: {"id", "name"}."""
    command = [FTQ, "submit", "--model", "./tiny", "--name", "first", *OPTIONS, "--json", "--wait"]
    environment = os.environ | {"FTQ_HOME": str(up / "artifacts")}
    sent = subprocess.run(command, cwd=up, env=environment, capture_output=True, text=True, timeout=300)
    assert sent.returncode == 0, sent.stderr
    answer: dict[str, str] = json.loads(sent.stdout)
    return answer


@pytest.mark.slow
def test_submit_brings_every_artifact(up: Path, done: dict[str, str]) -> None:
    folder = up / "artifacts" / done["id"]
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".") and path.name != "checkpoints"} == {
        "run.json", "documents", "dataset", "adapter", "metrics.jsonl", "merged", "model-q8_0.gguf", "model-f16.gguf",
        "export.json", "Modelfile", "README.md", "answers.jsonl", "eval.json", "loss.png", "report.html", "logs",
    }  # fmt: skip
    report = json.loads((folder / "dataset" / "report.json").read_text())
    assert "broken.json" in json.dumps(report)
    status = json.loads(ftq("status", "first", "--json").stdout)
    assert [stage["status"] for stage in status["stages"]] == ["succeeded"] * 5
    assert [one["subject"] for one in status["evaluation"]["subjects"]] == ["base", "f16", "q8_0"]
    assert status["error"] is None
    assert status["revision"] == report["base_revision"]
    assert f"`{status['revision']}`" in (folder / "README.md").read_text()


@pytest.mark.slow
def test_the_same_again_is_a_cache_hit_each_time(done: dict[str, str]) -> None:
    sent = json.loads(ftq("submit", "--model", "./tiny", *OPTIONS, "--json", "--wait").stdout)
    status = json.loads(ftq("status", sent["id"], "--json").stdout)
    assert [(stage["stage"], stage["cached"]) for stage in status["stages"]] == [
        ("prepare", True), ("train", True), ("export", True), ("infer", True),
        ("evaluate", True),
    ]  # fmt: skip
    first = json.loads(ftq("status", "first", "--json").stdout)
    assert status["progress"]["loss"] == first["progress"]["loss"] > 0


@pytest.mark.long
def test_another_quantisation_keeps_the_training(done: dict[str, str]) -> None:
    options = [*OPTIONS[:-4], "--quant", "q4_k_m"]
    sent = json.loads(ftq("submit", "--model", "./tiny", *options, "--json", "--wait").stdout)
    status = json.loads(ftq("status", sent["id"], "--json").stdout)
    assert [stage["cached"] for stage in status["stages"]] == [True, True, False, False, False]
    assert status["status"] == "succeeded"


@pytest.mark.slow
def test_infer_answers_on_stdout_alone(done: dict[str, str]) -> None:
    asked = ftq("infer", done["name"], "What is 3?")
    piped = ftq("infer", done["id"], stdin="What is 3?\n")
    assert asked.returncode == piped.returncode == 0, asked.stderr + piped.stderr
    assert asked.stdout == piped.stdout != ""


@pytest.mark.long
def test_a_stage_that_is_killed_goes_on_from_its_checkpoint(up: Path) -> None:
    sent = ftq("submit", "--model", "./tiny", "--set", "save_steps=5", "--set", "logging_steps=1",
               "--set", "epochs=40", *OPTIONS, "--json")  # fmt: skip
    run_id = json.loads(sent.stdout)["id"]
    with closing(Client(Settings.from_env())) as client:
        told = lambda kind: [one for one in client.store.events(run_id) if (one.stage, one.kind) == ("train", kind)]  # noqa: E731
        until(lambda: told("checkpoint"), 2 * PATIENCE)
        os.killpg((told("started")[-1].data or {})["pid"], signal.SIGKILL)
    assert ftq("status", run_id, "--watch").returncode == 0
    kinds = [event["kind"] for event in _events(run_id) if event["stage"] == "train"]
    assert kinds.count("succeeded") == 1
    assert kinds.index("lost") < kinds.index("resumed")
    lines = (up / "artifacts" / run_id / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == list(range(1, len(steps) + 1))


@pytest.mark.long
def test_an_unreachable_hub_fails_at_once_and_says_what_to_do() -> None:
    sent = ftq("submit", "--model", "nobody/has-this-model", "--json", "--wait")
    assert sent.returncode == 1
    error = json.loads(ftq("status", json.loads(sent.stdout)["id"], "--json").stdout)["error"]
    assert error["kind"] == "user"
    assert "nobody/has-this-model" in error["message"] and error["hint"]


def _events(run_id: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in ftq("events", run_id, "--json").stdout.splitlines()]
