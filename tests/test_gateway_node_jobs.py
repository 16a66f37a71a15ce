"""Fine-tuning jobs in OpenAI's own client for Node, unchanged but for the base URL and the key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.gateway_clients import node_with, spoken
from tests.gateway_tools import make_gateway, serving

SCRIPT = Path(__file__).with_name("gateway_node_jobs.mjs")
ROW = '{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}\n'


@pytest.mark.long
@pytest.mark.parametrize("version", ["4.104.0", "6.49.0"])
def test_jobs_in_the_official_client(version: str, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(ROW * 10)
    script = node_with(version, tmp_path, SCRIPT)
    app, secret = make_gateway(tmp_path / "home")
    with serving(app) as url:
        said = spoken(["node", script], url, secret, 300, TRAIN=str(tmp_path / "train.jsonl"))
    assert json.loads(said) == {
        "job": ["fine_tuning.job", "validating_files", "node", {"team": "a b"}],
        "paused": "paused",
        "resumed": "validating_files",
        "listed": True,
        "found": True,
        "events": ["resumed by the user", "paused by the user", "Validating training file: FILE",
                   "Created fine-tuning job: JOB"],
        "checkpoints": [],
        "cancelled": "cancelled",
        "again": ["BadRequestError", 400, "invalid_job_state", None],
        "unknown": ["NotFoundError", 404, "fine_tune_not_found", "fine_tune_id"],
        "bad": ["BadRequestError", 400, "invalid_value", "hyperparameters.n_epochs"],
        "model": "smollm2-135m",
        "gone": ["NotFoundError", 404, "model_not_found", "model"],
    }  # fmt: skip
