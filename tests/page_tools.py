"""Runs in every state for the page of `ftq serve`, and who answers its questions without a model."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from ftq.errors import RunError
from ftq.files.artifact import Artifact
from ftq.files.run_dir import STAGES, write_jsonl
from ftq.spec.options import parse
from ftq.store.store import RunStore
from gateway.chat.upstream.order import Order
from gateway.models import Served
from tests import reported

TRAINING = {"percent": 63.2, "step": 120, "total_steps": 190, "loss": 0.501, "tokens_per_second": 412.3,
            "eta_seconds": 58.0}  # fmt: skip
HOSTILE = "</title><script>alert(1)</script><img src=x onerror=alert(1)>"


class Runs:
    """Puts runs into a store; `owner` is the id of the key that asked for them."""

    def __init__(self, store: RunStore, home: Path, owner: str = "") -> None:
        self.store, self.home, self.owner = store, home, owner

    def add(self, run_id: str, name: str, **options: Any) -> str:
        spec = {**parse({"model": "smollm2-135m", **options}).model_dump()}
        spec |= {"documents": options.get("documents", "/srv/documents/handbook")}
        self.store.create(run_id, name, spec, "0" * 64, name, self.owner)
        (self.home / run_id / "logs").mkdir(parents=True)
        return run_id

    def do(self, run_id: str, *names: str, artifacts: list[Artifact] | None = None) -> None:
        for name in names:
            self.store.succeed(self.begin(run_id, name), None, artifacts or [])
            (self.home / run_id / "logs" / f"{name}.log").write_text(f"{name} of {run_id}\n")

    def begin(self, run_id: str, stage: str) -> str:
        token = self.store.claim(run_id, stage, 1, "gpu-1", 3600.0)
        assert token
        return token

    def train(self, run_id: str, progress: dict[str, Any] = TRAINING) -> str:
        """The training is at work and has reported."""
        self.do(run_id, "prepare")
        token = self.begin(run_id, "train")
        self.store.progress(token, progress)
        saves = self.home / run_id / "checkpoints" / "1"
        saves.mkdir(parents=True)
        lines = [reported.line(step, progress["total_steps"]) for step in range(1, progress["step"] + 1)]
        write_jsonl(saves / "metrics.jsonl", lines)
        return token

    def fail(self, run_id: str, message: str = "the training diverged", hint: str = "Lower `learning_rate`.") -> None:
        self.do(run_id, "prepare")
        (self.home / run_id / "logs" / "train.log").write_text("step 1\nloss nan\n")
        self.store.fail(self.begin(run_id, "train"), RunError("user", message, hint))

    def finish(self, run_id: str, name: str, **options: Any) -> str:
        """A run with every file that its page tells of."""
        self.add(run_id, name, quantizations=["f16", "q8_0"], epochs=5, **options)
        reported.finished(self.home / "spare")
        logs = self.home / run_id / "logs"
        for path in (self.home / "spare").iterdir():
            if path.name != "run.json":
                path.rename(logs.parent / path.name)
        shutil.rmtree(self.home / "spare")
        write_jsonl(logs.parent / "dataset" / "train.jsonl", [{"instruction": "a", "input": "", "output": "b"}])
        (logs.parent / "dataset" / "preview.html").write_text("<!doctype html><title>preview</title><p>rows")
        self.do(run_id, *STAGES)
        return run_id


def every_state(runs: Runs) -> None:
    """Six runs, the newest last."""
    runs.finish("aaaa1111", "handbook")
    runs.fail(runs.add("bbbb2222", "contracts", epochs=9))
    runs.store.cancel(runs.add("cccc3333", "old-manuals"))
    runs.store.pause(runs.add("dddd4444", f"a-very-long-name-{'and-on-' * 9}"))
    runs.train(runs.add("eeee5555", "handbook-2", model="phi-3.5-mini"))
    runs.add("ffff6666", "price-list")
    runs.store.see_worker("gpu-1", "gpu-1", ["cpu", "gpu", "ask"], None, 1)


class Answerer:
    """Answers by saying who was asked what."""

    def __init__(self) -> None:
        self.orders = list[Order]()

    async def events(self, served: Served, order: Order) -> AsyncIterator[dict[str, Any]]:
        self.orders.append(order)
        for word in (f"{served.name} ", "was asked: ", order.body["messages"][-1]["content"]):
            yield {"choices": [{"index": 0, "delta": {"content": word}}]}
        yield {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}

    async def close(self) -> None:
        pass
