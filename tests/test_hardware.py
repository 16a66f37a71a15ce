"""What a machine has, read from what its tools say."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftq.errors import FtqError
from ftq.files.run_dir import STAGES
from ftq.settings import Settings
from ftq.store.store import RunStore
from ftq.version import VERSION
from tests.tools import PATIENCE
from worker.attempt import stage_process
from worker.machine import hardware
from worker.reconciler import Reconciler

GIB = 2**30
SMI = "NVIDIA H100 80GB HBM3, 81559\nNVIDIA RTX 4000 SFF Ada, 20475\nNVIDIA GH200, [N/A]\n"


@pytest.fixture
def smi(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with three GPUs, so nvidia-smi says."""
    hardware.cards.cache_clear()
    done = subprocess.CompletedProcess([], 0, stdout=SMI)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield
    hardware.cards.cache_clear()


@pytest.mark.usefixtures("smi")
@pytest.mark.parametrize(
    ("visible", "limit", "expected"),
    [
        ("0", None, (1, "NVIDIA H100 80GB HBM3", 81559 * 2**20)),
        ("1,0", None, (2, "NVIDIA RTX 4000 SFF Ada", 20475 * 2**20)),
        ("0", 24, (1, "NVIDIA H100 80GB HBM3", 24 * GIB)),
        ("0", 800, (1, "NVIDIA H100 80GB HBM3", 81559 * 2**20)),
        ("2", None, (1, "NVIDIA GH200", 0)),
        ("GPU-5ebe9f43", None, (1, "NVIDIA H100 80GB HBM3", 81559 * 2**20)),
        ("7", None, (0, "CPU", hardware.machine_memory())),
    ],
)
def test_the_facts_of_a_worker_with_gpus(
    monkeypatch: pytest.MonkeyPatch, visible: str, limit: float | None, expected: tuple[int, str, int]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = hardware.facts(limit)
    assert (found["gpus"], found["gpu"], found["memory"]) == expected
    assert hardware.gpus() == ["NVIDIA H100 80GB HBM3", "NVIDIA RTX 4000 SFF Ada", "NVIDIA GH200"]


@pytest.mark.usefixtures("smi")
def test_the_facts_of_a_worker_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = hardware.facts()
    assert (found["gpus"], found["gpu"], found["memory"]) == (0, "CPU", hardware.machine_memory())
    assert found["memory"] > GIB
    assert hardware.facts(0.5)["memory"] == GIB // 2


def test_a_driver_that_does_not_answer_is_said_and_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [subprocess.TimeoutExpired("nvidia-smi", 60), subprocess.CompletedProcess([], 0, stdout=SMI)]

    def smi(*_: Any, timeout: float, **__: Any) -> Any:
        assert timeout == 60
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    hardware.cards.cache_clear()
    monkeypatch.setattr(subprocess, "run", smi)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(FtqError, match="nvidia-smi didn't say within 60 s which GPUs are here"):
        hardware.own_gpus()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as the hint says
    assert (hardware.own_gpus(), hardware.gpu_name(), hardware.facts()["gpus"]) == ([], None, 0)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert hardware.own_gpus() == ["0", "1", "2"]
    hardware.cards.cache_clear()


@pytest.mark.usefixtures("smi")
def test_a_worker_s_sign_of_life_says_what_it_has(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ftq.db"
    store = RunStore(url)
    settings = Settings(tmp_path, f"redis+socket://{tmp_path}/nobody.sock", url, memory_gb=24)
    Reconciler(settings, "w1", ["gpu"])._beat()
    own = {"gpus": 3, "gpu": "NVIDIA GH200", "memory": 0}
    facts = {**own, "stages": list(STAGES), "version": VERSION, "labels": [], "cards": [], "owner_limit": 0,
             "bucket": "", "endpoint": "", "broker": f"redis+socket://{tmp_path}/nobody.sock"}  # fmt: skip
    (worker,) = store.workers()
    assert (worker.name, worker.queues, worker.facts, worker.is_live) == ("w1", ["gpu"], facts, True)
    store.close()


def test_kills_for_lack_of_memory_are_counted_where_the_kernel_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 2\noom_kill 2\n")
    (tmp_path / "vmstat").write_text("nr_free_pages 5\noom_kill 3\n")
    real = Path

    def elsewhere(path: Any) -> Path:
        return tmp_path / real(path).name

    monkeypatch.setattr(hardware, "Path", elsewhere)
    assert hardware.out_of_memory_kills() == 5
    (tmp_path / "memory.events").unlink()
    assert hardware.out_of_memory_kills() == 3
    (tmp_path / "vmstat").write_text("rubbish")
    assert hardware.out_of_memory_kills() == 0


SAYS = "import os; print(*map(os.environ.get, ['OMP_WAIT_POLICY', 'GOMP_SPINCOUNT']))"


@pytest.mark.parametrize(
    ("gpus", "own", "expected"),
    [
        ("", {}, "None 500"),
        ("", {"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None"),
        ("", {"GOMP_SPINCOUNT": "7"}, "None 7"),
        ("0", {}, "None 500"),  # its exports compute on the CPU
    ],
)
def test_a_stage_that_computes_on_the_cpu_soon_stops_spinning_unless_set_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: str, own: dict[str, str], expected: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    for name in hardware.WAITING:
        monkeypatch.delenv(name, raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    said = tmp_path / "said"
    with said.open("wb") as output:
        started, pipe = stage_process.spawn(["timeit", "-n1", "-r1", SAYS], output, 60, output.fileno())
        started.communicate(timeout=PATIENCE)
        os.close(pipe)
    assert said.read_text().splitlines()[0] == expected
