"""What the tests of the client share: runs in any state, and the command line."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from cli.main import main
from ftq.errors import RunError
from ftq.files.artifact import Artifact
from ftq.spec.options import parse
from ftq.store.store import RunStore

NOW = 1_767_322_800.0  # 2026-01-02 03:00:00 UTC
START = "Start it with `ftq up` (everything on this machine) or `ftq worker`."
TRAINING = {"percent": 63.2, "step": 120, "total_steps": 190, "loss": 1.8342, "tokens_per_second": 412.3,
            "eta_seconds": 58.0}  # fmt: skip


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, list(arguments), input=stdin, prog_name="ftq")


def ok(*arguments: str, stdin: str | None = None) -> Result:
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result


class Store:
    """Puts runs into any state, with a clock of its own: `at` is in seconds before NOW."""

    def __init__(self, home: Path) -> None:
        home.mkdir(exist_ok=True)
        self.home, self.runs, self.now = home, RunStore(f"sqlite:///{home / 'ftq.db'}"), NOW
        self.runs.clock = lambda: self.now

    def at(self, seconds_ago: float) -> RunStore:
        self.now = NOW - seconds_ago
        return self.runs

    def add(self, run_id: str, name: str, ago: float = 600, **options: Any) -> str:
        spec = {**parse({"model": "smollm2-135m", **options}).model_dump(), "documents": "/docs"}
        self.at(ago).create(run_id, name, spec, "0" * 64)
        (self.home / run_id / "logs").mkdir(parents=True)
        return run_id

    def do(self, run_id: str, stage: str, ago: float, took: float = 10, *, cached: bool = False,
           progress: dict[str, Any] | None = None, artifacts: list[Artifact] | None = None) -> None:  # fmt: skip
        token = self.begin(run_id, stage, ago)
        if progress:
            self.at(ago - took).progress(token, progress)
        self.at(ago - took).succeed(token, None, artifacts or [], cached)

    def begin(self, run_id: str, stage: str, ago: float, lease: float = 60) -> str:
        token = self.at(ago).claim(run_id, stage, 1, "box", lease)
        assert token
        return token

    def fail(self, run_id: str, stage: str, ago: float, error: RunError) -> None:
        token = self.begin(run_id, stage, ago + 10)
        self.at(ago).fail(token, error)

    def train(self, run_id: str, ago: float, reported: float) -> None:
        """The train stage is at work since `ago` seconds and has sent its last report `reported` seconds ago."""
        token = self.begin(run_id, "train", ago)
        self.at(reported).renew(token, 60)
        self.runs.progress(token, TRAINING)

    def worker(self, facts: dict[str, Any] | None = None) -> None:
        self.now = time.clock_gettime(time.CLOCK_REALTIME)  # the client's own store doesn't see the test's clock
        self.runs.see_worker("box", "box", ["cpu", "gpu"], None, 1, facts)
