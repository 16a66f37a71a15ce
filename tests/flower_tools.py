"""For the tests of Flower: a machine with a broker, a worker whose stages are fake but run for real, and Flower."""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import Any

from ftq.store.records import Run
from tests import tools
from tests.tools import PATIENCE, free_port

LOGIN = "ann:a-password-of-ann"
CONFIG = Path(__file__).parents[1] / "worker" / "flower" / "config.py"
until = functools.partial(tools.until, seconds=2 * PATIENCE, pause=0.1)


class Bench(tools.Bench):
    """The drill's machine with Flower beside it."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.login_file = home.parent / "login"
        self.login_file.write_text(LOGIN + "\n")
        super().__init__(
            home, FTQ_FLOWER_AUTH_FILE=str(self.login_file),
            FTQ_FLOWER_STATE=str(home.parent / "flower" / "state"), **environment,
        )  # fmt: skip
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.flower: subprocess.Popen[bytes] | None = None

    def start_flower(self, control: bool = True) -> None:
        environment = self.environment | {"FTQ_FLOWER_CONTROL": "1" if control else "0"}
        command = [sys.executable, "-m", "celery", "-A", "worker.app", "flower", f"--conf={CONFIG}"]
        with (self.logs / "flower.log").open("ab") as log:
            self.flower = subprocess.Popen([*command, f"--port={self.port}"], env=environment, stdout=log, stderr=log)
        until(lambda: self._is_up())

    def stop_flower(self, kill: bool = False) -> None:
        if self.flower:
            self.flower.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            self.flower.wait(timeout=PATIENCE)
        self.flower = None

    def ask(self, path: str, method: str = "GET", login: str | None = LOGIN, **headers: str) -> tuple[int, str]:
        """(status, body) of Flower's answer; a header `Sec_Fetch_Site` is given with underscores."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if login:
            given["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
        request = urllib.request.Request(self.url + path, b"" if method == "POST" else None, given, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def task(self, task_id: str) -> dict[str, Any]:
        """What Flower knows of a task; {} if nothing."""
        status, body = self.ask(f"/api/task/info/{task_id}")
        return json.loads(body) if status == 200 else {}

    def start_long_run(self, name: str) -> Run:
        """A run that trains until it is stopped; returns once it has begun to."""
        run = self.submit(name, max_steps=100_000, save_steps=20)
        until(lambda: self.steps(run) > 1)
        return run

    def steps(self, run: Run) -> int:
        progress = self.client.find(run.id).stage("train").progress or {}
        return int(progress.get("step") or 0)

    def close(self) -> None:
        self.stop_flower(kill=True)
        super().close()

    def _is_up(self) -> bool:
        assert self.flower
        assert self.flower.poll() is None, (self.logs / "flower.log").read_text()
        try:
            return self.ask("/healthcheck", login=None) == (200, "OK")
        except OSError:
            return False
