"""The container's health check, against a real worker and a real broker."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftq.settings import Settings
from tests.tools import PATIENCE, Bench, freeze, until
from worker.host import health

HOST = socket.gethostname()


def test_nobody_there_is_said_for_each_queue(home: Path) -> None:
    home.mkdir()
    assert health.check(Settings.from_env(), HOST, 0, ["ask"]) == [f"queue ask: no worker of {HOST} serves it"]
    assert health.check(Settings.from_env(), HOST, gpus=2) == [
        f"queue cpu: no worker of {HOST} serves it",
        f"queue ask: no worker of {HOST} serves it",
        f"queue gpu: the workers of {HOST} serve it with 0 of 2 GPUs",
    ]


def test_a_workers_queues_tell_its_gpus() -> None:
    assert [health.gpus_of(queues) for queues in ({"cpu"}, {"cpu", "gpu"}, {"gpu", "gpu2", "gpu3"})] == [0, 1, 3]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Bench(tmp_path_factory.mktemp("health") / "artifacts") as machine:
        machine.start_worker()
        until(machine.client.store.live_queues)
        yield machine


@pytest.mark.slow
def test_a_worker_at_work_is_healthy_by_its_exit_code(machine: Bench) -> None:
    healthy = until(lambda: (asked := ask(machine)).returncode == 0 and asked)  # a busy machine's may answer too late
    assert (healthy.stdout, healthy.stderr) == ("", "")


def ask(machine: Bench) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "worker.host.health"]
    return subprocess.run(command, env=machine.environment, capture_output=True, text=True, timeout=PATIENCE)


@pytest.mark.slow
def test_a_worker_of_another_host_does_not_count(machine: Bench) -> None:
    assert health.check(machine.settings, "elsewhere", 1) == [
        "queue cpu: no worker of elsewhere serves it",
        "queue ask: no worker of elsewhere serves it",
        "queue gpu: the workers of elsewhere serve it with 0 of 1 GPUs",
    ]


@pytest.mark.slow
def test_a_missing_gpu_worker_is_noticed(machine: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "ANSWER_SECONDS", PATIENCE)
    problem = f"queue gpu: the workers of {HOST} serve it with 1 of 2 GPUs"
    assert health.check(machine.settings, HOST, gpus=2) == [problem]


@pytest.mark.slow
def test_a_frozen_worker_fails_and_a_thawed_one_is_healthy_again(
    machine: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "ANSWER_SECONDS", PATIENCE)
    worker = machine.workers[0]
    freeze(worker.process.pid)
    asked = ask(machine)
    worker.signal(signal.SIGCONT)
    assert asked.returncode == 1
    assert asked.stdout.splitlines() == [
        f"{worker.name}: alive, but it doesn't answer through the broker",
        f"queue cpu: no worker of {HOST} serves it",
        f"queue ask: no worker of {HOST} serves it",
        f"queue gpu: the workers of {HOST} serve it with 0 of 1 GPUs",
    ]
    assert health.check(machine.settings, HOST, 1) == []


@pytest.mark.slow
def test_a_broker_that_is_unreachable_fails(machine: Bench) -> None:
    machine.stop_broker()
    problems = health.check(machine.settings, HOST, 1)
    assert problems[0] == f"{machine.workers[0].name}: alive, but it doesn't answer through the broker"
