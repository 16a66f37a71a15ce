"""OpenAI's client, the gateway, a real broker, a real worker, the real stages on a tiny real model."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import openai
import pytest

from gateway import models
from tests import tools
from tests.gateway_tools import make_gateway, serving
from tests.tiny import make_tiny_model
from tests.tools import until

pytestmark = pytest.mark.long


def test_a_file_becomes_a_model_with_checkpoints_that_answer(tmp_path: Path) -> None:
    tiny = make_tiny_model(tmp_path / "tiny")
    bench = tools.Bench(tmp_path / "home", "worker.host.worker")
    try:
        bench.start_broker()
        bench.start_worker()
        app, secret = make_gateway(tmp_path / "home")
        with serving(app) as url:
            client = openai.OpenAI(base_url=f"{url}/v1", api_key=secret)
            files = [client.files.create(file=_rows(*part), purpose="fine-tune").id for part in ((0, 24), (20, 30))]
            job = client.fine_tuning.jobs.create(
                model=str(tiny), training_file=files[0], validation_file=files[1], suffix="tiny",
                hyperparameters={"n_epochs": 4, "batch_size": 5},
            )  # fmt: skip
            until(lambda: client.fine_tuning.jobs.retrieve(job.id).status in ("succeeded", "failed"), 400)
            job = client.fine_tuning.jobs.retrieve(job.id)
            assert job.status == "succeeded", job.error
            assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (4, 5)
            assert job.trained_tokens and job.trained_tokens % 4 == 0
            kept = list(client.fine_tuning.jobs.checkpoints.list(job.id))
            assert [one.step_number for one in kept] == [20, 15, 10]
            assert all(one.metrics.valid_loss and one.metrics.train_loss for one in kept)
            rows = list(csv.DictReader(io.StringIO(client.files.content(job.result_files[0]).text)))
            assert [row["step"] for row in rows] == [str(step) for step in range(1, 21)]
            assert [row["step"] for row in rows if row["valid_loss"]] == ["5", "10", "15", "20"]
            for one in kept:
                answer = client.chat.completions.create(
                    model=one.fine_tuned_model_checkpoint,
                    messages=[{"role": "user", "content": "What is 3?"}],
                    max_tokens=4,
                )
                assert answer.model == one.fine_tuned_model_checkpoint and answer.usage
                assert 1 <= answer.usage.completion_tokens <= 4
        gateway = app.state.gateway
        key = gateway.client.store.keys.all()[0]
        served = [models.resolve(gateway, key, one.fine_tuned_model_checkpoint) for one in kept]
        assert [(one.lora and one.lora.name) for one in served] == [None, "checkpoint-15.gguf", "checkpoint-10.gguf"]
        assert all((one.lora or one.gguf).read_bytes()[:4] == b"GGUF" for one in served)
        gateway.client.close()
    finally:
        bench.close()


def _rows(first: int, last: int) -> tuple[str, bytes]:
    chats = [[("user", f"What is {n}?"), ("assistant", f"{n} is a number.")] for n in range(first, last)]
    rows = [{"messages": [{"role": role, "content": text} for role, text in chat]} for chat in chats]
    return "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode()
