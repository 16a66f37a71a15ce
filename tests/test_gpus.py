"""Which GPUs a worker takes, and which runs it serves with them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ftq.errors import UserError
from ftq.settings import Settings
from worker.host import up, worker
from worker.machine import hardware

FOUR = ["H100"] * 3 + ["A100"]


@pytest.fixture(autouse=True)
def _nothing_visible_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.setenv(name, "")  # so that what the code sets is undone
        monkeypatch.delenv(name)


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "gpus", lambda: FOUR)


@pytest.fixture
def none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "gpus", list)


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize(
    ("visible", "given", "name"),
    [
        (None, ["0", "1", "2", "3"], "4 x H100"), ("3", ["3"], "A100"), ("1,2", ["1", "2"], "2 x H100"),
        ("GPU-8f1c, GPU-77aa", ["GPU-8f1c", "GPU-77aa"], "2 x H100"), ("", [], None), ("0,-1,2", ["0"], "H100"),
    ],
)  # fmt: skip
def test_the_gpus_that_a_process_may_use(
    visible: str | None, given: list[str], name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert (hardware.own_gpus(), hardware.gpu_name()) == (given, name)


@pytest.mark.usefixtures("none")
def test_a_machine_without_a_gpu() -> None:
    assert (hardware.own_gpus(), hardware.gpu_name(), worker.take_gpus(None, ["cpu", "gpu"])) == ([], None, 0)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    with pytest.raises(UserError, match=r"--gpus 0: there is no GPU here \(nvidia-smi shows none\)"):
        worker.take_gpus("0", ["gpu"])


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize(
    ("wanted", "message", "hint"),
    [
        ("4", "--gpus 4: no GPU 4 here", "This machine has 0: H100, 1: H100, 2: H100, 3: A100."),
        ("0,x", "--gpus 0,x: no GPU x here", "This machine has 0: H100, 1: H100, 2: H100, 3: A100."),
        ("1,1", "--gpus 1,1: a GPU is named twice", "Name each once, for example --gpus 0,1."),
    ],
)
def test_gpus_that_cannot_be_had(wanted: str, message: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        worker.take_gpus(wanted, ["gpu"])
    assert (caught.value.message, caught.value.hint) == (message, hint)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_more_gpus_than_a_run_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "gpus", lambda: ["H100"] * 16)
    with pytest.raises(UserError, match="a run takes 8 GPUs at most"):
        hardware.choose("0,1,2,3,4,5,6,7,8")


@pytest.mark.usefixtures("four")
def test_a_worker_takes_what_it_is_told_or_given_or_the_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert worker.take_gpus(None, ["cpu", "gpu"]) == 1
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert capsys.readouterr().err == "This worker takes GPU 0 of 4. For the others: ftq worker --gpus 1,2,3\n"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert worker.take_gpus(None, ["gpu"]) == 2
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert worker.take_gpus("1, 0", ["gpu"]) == 2
    assert (os.environ["CUDA_VISIBLE_DEVICES"], os.environ["CUDA_DEVICE_ORDER"]) == ("1,0", "PCI_BUS_ID")
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize("queues", [["cpu"], ["ask"], ["cpu", "ask"]])
def test_a_worker_that_serves_no_gpu_s_queue_sees_none_unless_told_so(
    queues: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert worker.take_gpus(None, queues) == 0
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    facts = hardware.facts()
    assert (hardware.gpu_name(), facts["gpus"], facts["gpu"]) == (None, 0, "CPU")
    assert worker.take_gpus("2", queues) == 1
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    assert worker.take_gpus(None, queues) == 2
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1,3"


@pytest.mark.parametrize(
    ("wanted", "gpus", "queues"),
    [
        ("cpu,gpu", 0, "cpu,gpu"), ("cpu,gpu", 1, "cpu,gpu"), ("cpu,gpu", 3, "cpu,gpu3,gpu2,gpu"), ("cpu", 4, "cpu"),
        ("gpu", 2, "gpu2,gpu"), ("gpu2", 2, "gpu2"), ("gpu,gpu2", 2, "gpu2,gpu"),
        ("cpu,gpu,ask", 2, "cpu,gpu2,gpu,ask"), ("ask", 0, "ask"),
        ("gpu", 16, "gpu8,gpu7,gpu6,gpu5,gpu4,gpu3,gpu2,gpu"),
    ],
)  # fmt: skip
def test_the_queues_of_a_worker(wanted: str, gpus: int, queues: str) -> None:
    assert worker.queues_for(wanted.split(","), gpus) == queues.split(",")


def test_a_queue_for_which_a_worker_has_too_few_gpus() -> None:
    with pytest.raises(UserError, match="--queues gpu2: that needs 2 GPUs, this worker has 1"):
        worker.queues_for(["cpu", "gpu2"], 1)


@pytest.mark.parametrize(
    ("groups", "started"),
    [
        ([], {"all": ("cpu,gpu", None), "ask": ("ask", "")}),
        (
            [["0", "1"], ["2"]],
            {"gpu0+1": ("gpu", "0,1"), "gpu2": ("gpu", "2"), "cpu": ("cpu", ""), "ask": ("ask", "")},
        ),
    ],
)
def test_each_worker_of_ftq_up_sees_its_own_gpus_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch,
    groups: list[list[str]], started: dict[str, tuple[str, str | None]],
) -> None:  # fmt: skip
    home.mkdir()
    seen = {}

    def start(self: up.Up, name: str, queues: str, environment: dict[str, str]) -> None:
        seen[name] = (queues, environment.get("CUDA_VISIBLE_DEVICES"))

    monkeypatch.setattr(up.Up, "_start_worker", start)
    monkeypatch.setattr(up.Up, "_wait_until_ready", lambda *_: None)
    monkeypatch.setenv("FTQ_BROKER_URL", "redis://localhost:1/0")
    up.Up(Settings.from_env(), None, groups, False)._start()
    assert seen == started


def test_the_gpus_of_each_worker_of_a_machine() -> None:
    assert up.groups_of([], 1) == []
    assert up.groups_of(["0", "1", "2"], 1) == [["0"], ["1"], ["2"]]
    assert up.groups_of(["0", "1", "2"], 2) == [["0", "1"], ["2"]]
    for gpus, size, message in [([], 2, "--gpus-per-worker 2: this machine has 0"), (["0"], 2, "this machine has 1")]:
        with pytest.raises(UserError, match=message):
            up.groups_of(gpus, size)
