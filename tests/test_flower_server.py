"""A real Flower, worker and broker: who gets in, what is shown, and that showing it never harms a run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from flower_tools import LOGIN, Bench, free_port, until

from benchmarks.drill_machine import children
from ftq.files.run_dir import STAGES
from ftq.programs import UpOptions
from tests.tools import PATIENCE, freeze
from worker.host import broker

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A broker, a worker and Flower with its controls; whoever uses them leaves the worker with nothing to do."""
    with Bench(tmp_path_factory.mktemp("shared") / "artifacts") as bench:
        bench.start_flower()
        bench.start_worker()
        yield bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench(tmp_path / "artifacts") as bench:
        yield bench


@pytest.mark.slow
def test_nobody_gets_in_without_a_login(shared: Bench) -> None:
    paths = ["/", "/workers?json=1", "/worker/x", "/tasks", "/task/x", "/broker", "/metrics", "/logout", "/nowhere",
             "/static/js/flower.js", "/api/workers", "/api/tasks", "/api/task/types", "/api/queues/length"]  # fmt: skip
    posts = ["/tasks/datatable", "/api/task/revoke/x", "/api/task/async-apply/ftq.train", "/nowhere"]
    for login in (None, "ann:", "ann:a-password-of-bob", LOGIN + "x", "ann:\xe9"):
        assert {path: shared.ask(path, login=login) for path in paths} == dict.fromkeys(paths, (401, "Login needed"))
        assert {path: shared.ask(path, "POST", login)[0] for path in posts} == dict.fromkeys(posts, 401)
    assert shared.ask("/metrics")[0] == 200
    assert shared.ask("/static/js/flower.js")[0] == 200
    assert shared.ask("/login")[0] == 404
    assert shared.ask("/healthcheck", login=None) == (200, "OK")


@pytest.mark.slow
def test_another_site_in_the_same_browser_can_do_nothing(shared: Bench) -> None:
    revoke = "/api/task/revoke/x"
    assert shared.ask(revoke, "POST")[0] == 200
    assert shared.ask(revoke, "POST", Sec_Fetch_Site="same-origin", Origin=shared.url)[0] == 200
    for headers in (
        {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}, {"Origin": "http://evil.example"},
        {"Origin": "null"}, {"Origin": f"http://localhost:{shared.port}"},
    ):  # fmt: skip
        assert shared.ask(revoke, "POST", **headers)[0] == 403, headers
    for host, status in {
        "evil.example": 403, f"evil.example:{shared.port}": 403, "127.0.0.1.evil.example": 403,
        f"localhost:{shared.port}": 200, "LOCALHOST": 200, f"[::1]:{shared.port}": 200, "10.1.2.3": 200,
    }.items():  # fmt: skip
        assert shared.ask("/tasks", Host=host)[0] == status, host
        assert shared.ask("/healthcheck", login=None, Host=host)[0] == status, host


@pytest.mark.long
def test_a_named_host_is_let_in(bench: Bench) -> None:
    bench.environment["FTQ_FLOWER_HOSTS"] = "gpu-box.lan, flower"
    bench.start_flower()
    assert [bench.ask("/tasks", Host=host)[0] for host in ("gpu-box.lan:5555", "flower", "x.lan")] == [200, 200, 403]


@pytest.mark.long
def test_read_only_refuses_every_control(bench: Bench) -> None:
    from flower import urls

    patterns = [route.regex.pattern if hasattr(route, "regex") else route[0] for route in urls.handlers]
    controls = {
        path.rstrip("$").replace("(.+)", "x")
        for path in patterns
        if re.search(r"/api/(worker|task)/(?!types|info|result)", path)
    }
    assert len(controls) == 14
    bench.start_flower(control=False)
    refused = {path: bench.ask(path, "POST") for path in controls}
    assert {path: status for path, (status, _) in refused.items()} == dict.fromkeys(controls, 403)
    assert all("Read only" in text for _, text in refused.values())
    bench.stop_flower()
    bench.start_flower(control=True)
    assert bench.ask("/api/task/revoke/x", "POST")[0] == 200


@pytest.mark.slow
def test_the_state_of_every_attempt_is_its_end(shared: Bench) -> None:
    """Celery itself says nothing of a task that ends without the chain going on: it would stay STARTED."""
    failed = shared.submit("failed", {"train": {"1": "user"}})
    lost = shared.submit("lost", {"train": {"1": "kill"}})
    shared.wait_for("failed", "failed")
    shared.wait_for("lost")
    until(lambda: shared.task(f"{failed.id}.train.1").get("state") == "FAILURE")
    assert shared.task(f"{failed.id}.train.1")["exception"] == "the documents are in Klingon"
    until(lambda: shared.task(f"{lost.id}.train.1").get("state") == "RETRY")
    assert shared.task(f"{lost.id}.train.1")["exception"] == "goes on as attempt 2"
    until(lambda: shared.task(f"{lost.id}.train.2").get("state") == "SUCCESS")

    cancelled = shared.start_long_run("cancelled")
    shared.client.cancel(cancelled.id)
    until(lambda: shared.task(f"{cancelled.id}.train.1").get("state") == "REVOKED")

    dead = shared.start_long_run("its-worker-dies")
    shared.workers[0].signal(signal.SIGKILL)
    shared.workers[0].process.wait()
    shared.end_leases()
    shared.replace_the_dead()
    until(lambda: shared.task(f"{dead.id}.train.2").get("state") == "STARTED")
    until(lambda: shared.task(f"{dead.id}.train.1").get("state") == "RETRY")
    shared.client.cancel(dead.id)
    shared.wait_for("its-worker-dies", "cancelled")


@pytest.mark.slow
def test_a_revoked_task_that_only_waits_is_a_cancelled_run(shared: Bench) -> None:
    first = shared.start_long_run("first")
    waiting = shared.submit("waiting")
    assert shared.ask(f"/api/task/revoke/{waiting.id}.prepare.1", "POST")[0] == 200
    told = f"flagged as revoked: {waiting.id}.prepare.1"
    until(lambda: any(told in log.read_text() for log in shared.logs.glob("w*.log")))
    shared.client.cancel(first.id)
    shared.wait_for("waiting", "cancelled")


@pytest.mark.long
def test_a_restarted_flower_knows_what_the_old_one_knew(bench: Bench) -> None:
    bench.start_flower()
    bench.start_worker()
    done = bench.submit("done")
    bench.wait_for("done")
    running = bench.start_long_run("running")
    until(lambda: bench.task(f"{running.id}.train.1").get("progress"))
    tasks = [f"{done.id}.{stage}.1" for stage in STAGES]
    until(lambda: bench.task(tasks[-1]).get("state") == "SUCCESS")
    until(lambda: bench.task(tasks[1]).get("progress") == "100.0%")

    def known(task: str) -> dict[str, Any]:
        return bench.task(task) | {"children": ""}  # what Celery doesn't restore; each child still names its parent

    before = {task: known(task) for task in tasks}
    bench.stop_flower()
    folder = bench.settings.home.parent / "flower"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    bench.start_flower()
    assert {task: known(task) for task in tasks} == before
    last = bench.task(f"{running.id}.train.1")["step"]
    until(lambda: bench.task(f"{running.id}.train.1")["step"] != last)


@pytest.mark.long
def test_a_flower_that_was_not_there_learns_all_of_a_running_task(bench: Bench) -> None:
    bench.start_worker()
    run = bench.start_long_run("running")
    bench.start_flower()
    task = until(lambda: bench.task(f"{run.id}.train.1"))
    assert (task["name"], task["args"], task["state"]) == ("ftq.train", "running (smollm2-135m)", "STARTED")
    assert task["started"] and task["worker"].startswith("w1@")


# ---- what can't be shown harms nothing ------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("fault", ["gone", "frozen"])
def test_a_training_does_not_need_the_broker(bench: Bench, fault: str) -> None:
    """Gone: every connection is refused. Frozen: every send would hang for longer than the lease."""
    bench.environment["FTQ_LEASE_SECONDS"] = "20"
    bench.start_worker()
    run = bench.submit("one", max_steps=700, save_steps=20)
    until(lambda: bench.steps(run) > 1)
    assert bench.broker
    if fault == "frozen":
        freeze(bench.broker.pid)
    else:
        bench.stop_broker()
    until(lambda: bench.steps(run) > 500)  # 25 s of training: longer than a lease
    assert bench.client.find(run.id).stage("train").attempt == 1
    if fault == "frozen":
        bench.broker.send_signal(signal.SIGCONT)
    else:
        bench.start_broker()
    bench.wait_for("one")
    found = bench.client.find(run.id)
    assert [stage.attempt for stage in found.stages] == [1] * len(STAGES)
    steps = json.loads((bench.client.run_dir(run.id).adapter / "steps.json").read_text())["steps"]
    assert steps == list(range(1, 701))


# ---- secrets --------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Bench]:
    """The same with a broker that listens on TCP and has a password."""
    port, password = free_port(), "the-brokers-password"
    command = [broker._binary(), "--port", str(port), "--bind", "127.0.0.1", "--requirepass", password, "--save", ""]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tmp_path)
    bench = Bench(tmp_path / "artifacts", FTQ_BROKER_URL=f"redis://:{password}@127.0.0.1:{port}/0")
    yield bench
    bench.close()
    server.terminate()
    server.wait()


@pytest.mark.long
def test_no_password_is_shown_anywhere(guarded: Bench) -> None:
    bench = guarded
    bench.start_worker()
    run = bench.start_long_run("one")
    bench.start_flower()
    until(lambda: bench.task(f"{run.id}.train.1"))
    worker = f"/worker/{bench.workers[0].name}"
    until(lambda: bench.ask(worker)[0] == 200)
    task = f"{run.id}.train.1"
    paths = ["/", "/workers?json=1", worker, "/tasks", f"/task/{task}", "/broker", "/metrics", "/nowhere",
             "/api/workers?refresh=1", "/api/tasks", f"/api/task/info/{task}", f"/api/task/result/{task}"]  # fmt: skip
    pages = {path: bench.ask(path)[1] for path in paths}
    assert "redis://" in pages["/broker"] and "broker_url" in pages[worker]
    bench.stop_flower()  # it writes its state now
    files = {str(path): path.read_bytes().decode(errors="replace")
             for folder in (bench.settings.home, bench.settings.home.parent / "flower", bench.logs)
             for path in folder.rglob("*") if path.is_file()}  # fmt: skip
    bench.start_flower()
    assert bench.flower
    commands = {str(process.pid): " ".join(process.cmdline())
                for parent in (bench.flower.pid, bench.workers[0].process.pid)
                for process in (psutil.Process(parent), *psutil.Process(parent).children(recursive=True))}  # fmt: skip
    assert len(commands) >= 4
    for secret in ("the-brokers-password", LOGIN.partition(":")[2]):
        assert [where for where, text in (pages | files | commands).items() if secret in text] == []


# ---- `ftq up` -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def ftq_up(home: Path, module: str, line: str) -> Iterator[tuple[subprocess.Popen[str], Bench, str]]:
    """(`ftq up`, its Flower that answers, the first line that starts so); at the end Ctrl-C stops it cleanly."""
    home.mkdir()
    asks, port = Bench.__new__(Bench), free_port()
    asks.url = f"http://127.0.0.1:{port}"
    environment = os.environ | {"FTQ_HOME": str(home), "PYTHONPATH": str(ROOT)}
    command = UpOptions(port=port).argv(module)
    up = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert up.stderr
    try:
        said = next(one for one in up.stderr if one.startswith(line))
        until(lambda: _answers(asks))
        yield up, asks, said
    finally:
        up.send_signal(signal.SIGINT)
        up.stderr.read()
        up.stderr.close()
        assert up.wait(timeout=PATIENCE) == 0


@pytest.mark.long
def test_ftq_up_makes_a_login_and_lets_its_owner_terminate(home: Path) -> None:
    with ftq_up(home, "worker.host.up", "Flower") as (_, asks, said):
        login = home / "flower" / "login"
        assert said == f"Flower    {asks.url}  (login: {login})\n"
        assert asks.ask("/tasks", login=None)[0] == 401
        assert asks.ask("/tasks", login=login.read_text().strip())[0] == 200
        assert asks.ask("/api/task/revoke/x", "POST", login=login.read_text().strip())[0] == 200
    assert stat.S_IMODE((home / "flower").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (home / "flower").iterdir()} == {0o600}


@pytest.mark.long
def test_ftq_up_starts_a_dead_flower_and_a_dead_worker_again(home: Path) -> None:
    with ftq_up(home, "tests.fake_up", "Ctrl-C") as (up, asks, _):
        assert up.stderr
        for module in ("flower", "tests.fake_worker"):
            os.kill(children(up.pid, module)[0], signal.SIGKILL)
            assert "ended with exit code -9: starts again in 2 s" in next(up.stderr)
            left = children(up.pid, module)
            until(lambda module=module, left=left: set(children(up.pid, module)) - set(left))
        until(lambda: _answers(asks))


def _answers(bench: Bench) -> bool:
    try:
        return bench.ask("/healthcheck", login=None)[0] == 200
    except OSError:
        return False
