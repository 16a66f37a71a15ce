"""The standby: a process that waits with everything imported does a stage exactly as one that is started for it."""

from __future__ import annotations

import fcntl
import functools
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from benchmarks.drill_machine import children
from ftq.files.run_dir import STAGES, RunDir, read_jsonl, write_json
from ftq.settings import Settings
from tests.forked import Forked
from tests.tiny import make_run, make_tiny_model
from tests.tools import PATIENCE, Bench, gone, until
from worker.attempt import stage_process
from worker.attempt.keeper import Keeper, Standby
from worker.attempt.stage_process import StageProcess
from worker.attempt.supervisor import Supervisor
from worker.machine import hardware
from worker.stages import STOPPED

ROOT = Path(__file__).parent.parent
LEASE = 60.0


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages and a standby that take no time."""
    monkeypatch.setattr(stage_process, "PACKAGE", "tests.fake_stages")
    monkeypatch.chdir(ROOT)  # where their processes find `tests`


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Callable[[], Standby]]:
    """Starts standbys; at the end none is left."""
    started: list[Standby] = []

    def start() -> Standby:
        started.append(Standby(tmp_path / "standby.log", LEASE))
        return started[-1]

    yield start
    for each in started:
        if each._orders.fileno() != -1:  # it was neither handed a stage nor ended
            each.end()


def run_dir(path: Path, behave: dict[str, Any] | None = None, **options: Any) -> RunDir:
    run = RunDir(make_run(path, Path("qwen3-4b"), **{"max_steps": 3, "save_steps": 1, **options}))
    if behave:
        write_json(run.documents / "behave.json", behave)
    return run


def begin(run: RunDir, ready: Standby | None = None, stage: str = "train") -> StageProcess:
    arguments = [str(run.path), "--attempt", "1"]
    return StageProcess(stage, arguments, run.log(stage), LEASE, run.path, take_standby=lambda: ready)


def finish(running: StageProcess) -> list[dict[str, Any]]:
    """All its reports."""
    reports = []
    while running.running:
        reports += running.reports(timeout=0.05)
        running.beat()
    return reports + running.last_reports()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- one stage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wish", [None, "user", "bug", "exit", "abort", "kill"])
def test_reports_exit_code_and_files_are_those_of_an_ordinary_start(
    fakes: None, waiting: Callable[[], Standby], tmp_path: Path, wish: str | None
) -> None:
    runs = [run_dir(tmp_path / name, {"train": {"1": wish}}) for name in ("ordinary", "standby")]
    ready = waiting()
    outcomes = []
    for run, using in zip(runs, (None, ready), strict=True):
        with begin(run, using) as running:
            outcomes.append((finish(running), running.exit_code))
            assert running.stood_by is (using is not None)
            assert (running.pid == ready.pid) is running.stood_by
            assert gone(running.pid)
    assert outcomes[0] == outcomes[1]
    made = [files(run.partial("train", 1)) for run in runs]
    assert made[0] == made[1] and (wish is not None or "adapter/steps.json" in made[0])
    assert outcomes[1][1] == {None: 0, "user": 1, "bug": 1, "exit": 3, "abort": -6, "kill": -9}[wish]
    log = runs[1].log("train").read_text()
    assert (
        re.match(r"--- \S+ \S+ UTC train, attempt 1\n", log)
        and "standby: had imported everything in" in log.splitlines()[1]
    )
    assert ("this is a bug" in log) is (wish == "bug")
    assert (tmp_path / "standby.log").read_text() == ""


def test_an_order_that_comes_while_it_still_imports_is_done_when_it_has(
    fakes: None, waiting: Callable[[], Standby], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(pid: int | str) -> str:
        return Path(f"/proc/{pid}/oom_score_adj").read_text()

    monkeypatch.setenv("FTQ_PRELOAD", str(tmp_path / "imported"))
    ready = waiting()
    assert not ready.ready and score(ready.pid) == "1000\n"  # the kernel's first victim
    with begin(run_dir(tmp_path / "run"), ready) as running:
        assert score(ready.pid) == score("self")  # from now on it has work
        (tmp_path / "imported").touch()
        reports = finish(running)
        assert (running.pid, running.exit_code) == (ready.pid, 0)
        assert [report["step"] for report in reports if report["event"] == "progress"] == [1, 2, 3]


def test_one_whose_imports_fail_becomes_an_ordinary_start(
    fakes: None, waiting: Callable[[], Standby], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTQ_PRELOAD", "fail")
    ready = waiting()
    run = run_dir(tmp_path / "run")
    with begin(run, ready) as running:
        finish(running)
        assert (running.pid, running.exit_code) == (ready.pid, 0)
        with pytest.raises(BlockingIOError):
            take_lock(run)
    assert "its imports failed" in run.log("train").read_text()
    assert "ImportError: no such thing as Unsloth" in (tmp_path / "standby.log").read_text()


def test_one_that_was_killed_while_it_waited_is_not_missed(
    fakes: None, waiting: Callable[[], Standby], tmp_path: Path
) -> None:
    ready = waiting()
    until(lambda: ready.ready)
    os.kill(ready.pid, signal.SIGKILL)
    until(lambda: not ready.alive)  # its main thread may be gone before the others are
    with begin(run_dir(tmp_path / "run"), ready) as running:
        assert not running.stood_by
        finish(running)
        assert running.exit_code == 0


def test_told_to_stop_it_saves_and_says_so(fakes: None, waiting: Callable[[], Standby], tmp_path: Path) -> None:
    run = run_dir(tmp_path / "run", max_steps=1000, save_steps=1000)
    with begin(run, waiting()) as running:
        while not running.reports(timeout=1):
            pass
        running.terminate()
        assert finish(running)[-1]["event"] == "checkpoint"
        assert running.exit_code == STOPPED


def test_told_to_stop_while_it_still_imports_it_just_ends(
    fakes: None, waiting: Callable[[], Standby], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTQ_PRELOAD", "never")
    with begin(run_dir(tmp_path / "run"), waiting()) as running:
        running.terminate()
        assert (finish(running), running.exit_code) == ([], -signal.SIGTERM)


def take_lock(run: RunDir) -> None:
    """BlockingIOError while somebody else holds the lock of the train stage."""
    with (run.path / ".train.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_it_holds_the_lock_until_it_is_gone(fakes: None, waiting: Callable[[], Standby], tmp_path: Path) -> None:
    run = run_dir(tmp_path / "run", {"train": {"1": "hang"}})
    with begin(run, waiting()) as running, open(os.devnull) as nothing:
        while not running.reports(timeout=1):
            pass
        os.dup2(nothing.fileno(), running._lock)  # the supervisor's own hold on it is gone
        with pytest.raises(BlockingIOError):
            take_lock(run)
        running.kill()
        assert running.exit_code == -signal.SIGKILL
        take_lock(run)


@pytest.mark.parametrize("preload", ["", "never"])
def test_it_ends_when_its_supervisor_is_killed(tmp_path: Path, preload: str) -> None:
    code = f"""
import pathlib, time
from worker.attempt import keeper, stage_process
stage_process.PACKAGE = "tests.fake_stages"
ready = keeper.Standby(pathlib.Path({str(tmp_path / "standby.log")!r}), {LEASE})
while not {preload!r} and not ready.ready:
    time.sleep(0.02)
print(ready.pid, flush=True)
time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FTQ_PRELOAD": preload}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT, env=environment) as owner:
        assert owner.stdout
        pid = int(owner.stdout.readline())
        assert not gone(pid)
        owner.kill()
    until(lambda: gone(pid))


# ---- the one that is kept ------------------------------------------------------------------------------


@pytest.fixture
def keeper(fakes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    """On a machine with room, whatever other tests have taken of this one's."""
    monkeypatch.setattr("worker.attempt.keeper.free_memory", lambda: 64 * 2**30)
    keeper = Keeper(Settings.from_env({"FTQ_HOME": str(tmp_path)}))
    yield keeper
    keeper.busy()
    if left := keeper.take():
        left.end()


def test_there_is_one_until_it_is_taken(keeper: Keeper) -> None:
    assert keeper.take() is None
    keeper.start()
    keeper.start()
    taken = keeper.take()
    assert taken and taken.alive and keeper.take() is None
    taken.end()
    assert gone(taken.pid)


def test_one_that_died_is_replaced(keeper: Keeper) -> None:
    keeper.start()
    assert keeper._standby
    first = keeper._standby.pid
    os.kill(first, signal.SIGKILL)
    until(lambda: gone(first))
    keeper.start()
    assert keeper._standby.pid != first and keeper._standby.alive


def test_it_can_be_turned_off(fakes: None, tmp_path: Path) -> None:
    keeper = Keeper(Settings.from_env({"FTQ_HOME": str(tmp_path), "FTQ_STANDBY": "0"}))
    keeper.start()
    assert keeper.take() is None


def test_there_is_none_where_memory_is_short(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("worker.attempt.keeper.free_memory", lambda: 3 * 2**30)
    with caplog.at_level(logging.INFO):
        keeper.start()
    assert keeper.take() is None
    assert caplog.messages == ["no standby: 3.0 GiB of memory are free, it needs 4"]


def test_free_memory_is_a_part_of_the_memory() -> None:
    assert 0 < hardware.free_memory() <= psutil.virtual_memory().total


def test_the_next_one_waits_until_the_worker_has_nothing_to_do(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.attempt.keeper.IDLE_SECONDS", PATIENCE)
    keeper.idle()
    keeper.busy()
    assert keeper._timer and keeper._timer.finished.is_set()
    assert keeper.take() is None
    monkeypatch.setattr("worker.attempt.keeper.IDLE_SECONDS", 0.0)
    keeper.idle()
    until(lambda: keeper._standby)


@pytest.mark.parametrize(
    ("stage", "engine", "outcome"),
    [("train", "auto", "used"), ("train", "unsloth", "used"), ("train", "trl", "ended"), ("export", "auto", "kept")],
)
def test_only_a_training_that_wants_unsloth_uses_it(keeper: Keeper, stage: str, engine: str, outcome: str) -> None:
    keeper.start()
    kept, nothing = keeper._standby, SimpleNamespace()
    supervisor: Any = Supervisor(nothing, nothing, nothing, "w", print, keeper)  # type: ignore[arg-type]
    used = supervisor._standby(stage, {"engine": engine})
    assert kept and kept.alive is (outcome != "ended")
    assert (used is kept) is (outcome == "used")
    assert (keeper._standby is kept) is (outcome == "kept")
    if used:
        used.end()


@pytest.mark.parametrize(
    ("concurrency", "queues", "left"), [(1, {"gpu", "cpu"}, "1"), (1, {"cpu"}, "0"), (2, {"gpu"}, "0")]
)
def test_only_a_worker_that_trains_one_run_at_a_time_keeps_one(
    monkeypatch: pytest.MonkeyPatch, concurrency: int, queues: set[str], left: str
) -> None:
    from worker import app

    monkeypatch.setenv("FTQ_STANDBY", "1")
    amqp = SimpleNamespace(queues=SimpleNamespace(consume_from=queues))
    app._decide_about_the_standby(SimpleNamespace(concurrency=concurrency, app=SimpleNamespace(amqp=amqp)))
    assert os.environ["FTQ_STANDBY"] == left


# ---- a real worker, real imports -----------------------------------------------------------------------


def standbys(machine: Bench) -> list[int]:
    """The waiting processes of the machine's one worker."""
    child = machine.workers[-1].child()
    return children(child, "tests.fake_stages.process.standby") if child else []


def test_a_child_that_has_just_ended_hides_no_other() -> None:
    ended = subprocess.Popen(["true"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    living = subprocess.Popen(["sleep", "1234"])
    until(lambda: children(os.getpid(), "1234") == [living.pid])
    living.kill()
    living.wait()
    ended.wait()


@pytest.mark.slow
def test_a_worker_has_one_from_the_start_and_it_ends_with_the_worker(tmp_path: Path) -> None:
    with Bench(tmp_path / "artifacts", FTQ_STANDBY="1") as machine:
        worker = machine.start_worker()
        (pid,) = until(lambda: standbys(machine))
        machine.submit("one", max_steps=2)
        machine.wait_for("one")
        started = {event.stage: event.message for event in machine.events("one") if event.kind == "started"}
        assert started.pop("train") == f"process {pid} started, with its libraries loaded before"
        assert set(started) == {*STAGES} - {"train"}
        assert all(message.endswith("started") for message in started.values())
        (second,) = until(lambda: standbys(machine))
        assert second != pid
        worker.signal(signal.SIGKILL)
        until(lambda: gone(second))


@pytest.mark.slow
def test_importing_leaves_the_hub_within_reach() -> None:
    code = """
import os
before = dict(os.environ)
from worker.stages.process import standby
standby.preload()
import datasets, huggingface_hub.constants, sys
assert {"unsloth", "torch", "transformers", "trl", "peft"} <= set(sys.modules)
assert sys.modules["transformers.conversion_mapping"]._checkpoint_conversion_mapping_cache
assert datasets.config.HF_HUB_OFFLINE and not huggingface_hub.constants.HF_HUB_OFFLINE
assert not {name for name in standby.HUB_SWITCHES if name in os.environ}
assert {os.environ[name] for name in ("DO_NOT_TRACK", "UNSLOTH_DISABLE_STATISTICS")} == {"1"}
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_processes_that_compile_are_there_again_when_the_order_comes() -> None:
    """PyTorch ends them after a minute without work, and a standby waits for longer."""
    code = """
import psutil
from tests.tools import until
from torch._inductor.async_compile import AsyncCompile
from worker.stages.process import standby

standby.wake_compilers()
pool = AsyncCompile.process_pool()
pool.submit(AsyncCompile._get_ready).result()
[starter] = psutil.Process().children()
assert starter.children()
pool.quiesce()
until(lambda: not starter.children())
standby.wake_compilers()
until(starter.children)
pool.shutdown()
"""
    environment = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_real_training_in_a_standby_gives_the_same_bits(
    tmp_path: Path, waiting: Callable[[], Standby], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(subprocess, "Popen", functools.partial(Forked, stack="unsloth"))
    options = {"max_seq_length": 128, "batch_size": 2, "max_steps": 4, "save_steps": 2, "dropout": 0.1, "r": 8,
               "logging_steps": 1, "dtype": "float32"}  # fmt: skip
    first = RunDir(make_run(tmp_path / "first", make_tiny_model(tmp_path / "tiny"), valid_fraction=0.2, **options))
    rows = [{"question": f"What is {n}?", "answer": f"It is {n}, and then {n + 1}."} for n in range(20)]
    (first.documents / "faq.json").write_text(json.dumps(rows))
    with begin(first, stage="prepare") as running:
        finish(running)
    first.publish("prepare", first.partial("prepare", 1))
    second = RunDir(shutil.copytree(first.path, tmp_path / "second"))
    made = []
    for run, ready in ((first, None), (second, waiting())):
        with begin(run, ready) as running:
            reports = finish(running)
            assert running.exit_code == 0, run.log("train").read_text()
        out = run.partial("train", 1)
        clocks = {"tokens_per_second": None, "valid_seconds": None}
        metrics = [{**line, **clocks} for line in read_jsonl(out / "metrics.jsonl")]
        made.append((metrics, (out / "adapter/adapter_model.safetensors").read_bytes(), len(reports)))
    assert made[0] == made[1]
