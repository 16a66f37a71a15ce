"""OpenAI's clients, unchanged, over a real queue with the real 135M model: every answer strictly of the client's types.

The first client's job trains; the later ones' have the same inputs, and so come from the cache.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftq.programs import ServeOptions
from ftq.store.gateway.keys import Limits
from tests import tools
from tests.gateway_clients import node_with, python_with, spoken
from tests.gateway_tools import answers
from tests.tools import free_port, until

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
FLOW = Path(__file__).with_name("gateway_flow.py")
NODE_FLOW = Path(__file__).with_name("gateway_flow.mjs")
SECONDS = 1500
INVALID = [400, "invalid_value", "hyperparameters.n_epochs", True]
SEEN = {
    "files": [["train.jsonl", "fine-tune", "processed"], ["valid.jsonl", "fine-tune", "processed"]],
    "content": True,
    "listed files": True,
    "new": ["validating_files", "smollm2-135m", 7, None, None, []],
    "asked": [True, True],
    "one way": True,
    "done": [True, 2, 1, 3.0, True, True],
    "found": True,
    "events": [
        "The job has successfully completed",
        "New fine-tuned model created",
        "Created fine-tuning job: JOB",
    ],
    "paged": True,
    "steps": [[step, 24] for step in range(1, 25)],
    "losses": True,
    "checkpoints": [24, 12],
    "named": [True, "ckpt-step-12"],
    "validated": True,
    "answered": True,
    "result": ["fine-tune-results", [str(step) for step in range(1, 25)]],
    "tuned": [["assistant"], True, True, True],
    "base": [["assistant"], True, True, True],
    "several": [[0, 2, True], [1, 2, True]],
    "json": True,
    "completion": ["text_completion", "length"],
    "response": ["response", True, True],
    "models": [True, True, "org-ftq"],
    "stopped": ["paused", True, "cancelled", "cancelled"],
    "last": "The job was cancelled",
    "again": ["BadRequestError", 400, "invalid_job_state", None, True],
    "no model": ["BadRequestError", 400, "model_not_available", "model", True],
    "no file": ["BadRequestError", 400, "invalid_file", "training_file", True],
    "bad epochs": ["BadRequestError", *INVALID],
    "no job": ["NotFoundError", 404, "fine_tune_not_found", "fine_tune_id", True],
    "no answer": ["NotFoundError", 404, "model_not_found", "model", True],
    "no messages": ["BadRequestError", 400, "invalid_value", "messages", True],
    "deleted": [True, True],
}


DELETED = {
    "deleted": [True, True],
    "job stays": "succeeded",
    "listed": False,
    "asked": ["NotFoundError", 404, "model_not_found", "model", True],
    "again": ["NotFoundError", 404, "model_not_found", "model", True],
}
VERSIONS = ["installed", "1.109.1", "2.54.0"]


class Real:
    """`ftq serve` over the parts of `ftq up`, and for each client's version its interpreter and its key."""

    def __init__(self, url: str, bench: tools.Bench, folder: Path) -> None:
        self.url, self._bench, self._folder = url, bench, folder
        self._keys, self._pythons = dict[str, str](), dict[str, Path]()

    def python(self, version: str, *arguments: str | Path) -> Any:
        """What the flow prints with this version of the client."""
        if version not in self._pythons:
            self._pythons[version] = python_with(version, self._folder / version)
        command = [self._pythons[version], "-P", FLOW, *arguments]
        return json.loads(spoken(command, self.url, self.key(version), SECONDS))

    def key(self, name: str) -> str:
        if name not in self._keys:
            self._keys[name] = self._bench.client.store.keys.create(name, Limits(jobs=3)).secret
        return self._keys[name]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    bench = tools.Bench(tmp_path_factory.mktemp("real") / "home", "worker.host.worker", FTQ_LEASE_SECONDS="60")
    options = ServeOptions(port=free_port())
    url = f"http://127.0.0.1:{options.port}"
    try:
        bench.start_broker()
        bench.start_worker()
        with (bench.logs / "serve.log").open("wb") as log:
            gateway = subprocess.Popen(options.argv(), env=bench.environment, stderr=log)
        try:
            until(lambda: answers(url, gateway))
            yield Real(url, bench, bench.logs.parent)
        finally:
            gateway.terminate()
            gateway.wait(60)
    finally:
        bench.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_whole_flow_of_a_script(version: str, real: Real, tmp_path: Path) -> None:
    assert real.python(version, *_data(tmp_path)) == SEEN


@pytest.mark.parametrize("version", ["4.104.0", "6.49.0"])
def test_the_flow_in_node(version: str, real: Real, tmp_path: Path) -> None:
    script, (train, valid) = node_with(version, tmp_path / "node", NODE_FLOW), _data(tmp_path)
    said = spoken(["node", script], real.url, real.key(version), SECONDS, TRAIN=str(train), VALID=str(valid))
    assert json.loads(said) == {
        "created": ["fine_tuning.job", "validating_files", {"team": "node"}],
        "done": ["ft:smollm2-135m:ftq:node", 2, True],
        "events": ["The job has successfully completed", True],
        "steps": 24,
        "checkpoints": [True, 2, True],
        "streamed": True,
        "result": 26,
        "listed": True,
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_a_model_is_deleted_and_its_job_stays(version: str, real: Real) -> None:
    assert real.python(version, "delete") == DELETED


def _data(folder: Path) -> tuple[Path, Path]:
    """A training and a validation file."""
    paths = folder / "train.jsonl", folder / "valid.jsonl"
    for path, numbers in zip(paths, (range(12), range(20, 22)), strict=True):
        path.write_text("".join(json.dumps({"messages": _chat(n)}) + "\n" for n in numbers))
    return paths


def _chat(n: int) -> list[dict[str, Any]]:
    turns = ("user", f"What is {n}?"), ("assistant", f"{n} is a number.")
    return [{"role": role, "content": text} for role, text in turns]
