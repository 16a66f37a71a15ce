"""What many tests need: waiting, processes that are gone, free ports, and a machine that runs are submitted to."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.drill_machine import Machine
from ftq.store.records import Run

# Far more than anything waited for takes: the machine may have others' work to do, and who succeeds waits no longer.
PATIENCE = 60.0


def until(reached: Callable[[], Any], seconds: float = PATIENCE, pause: float = 0.02) -> Any:
    """Wait until `reached()` is true and return what it gave."""
    end = time.monotonic() + seconds
    while not (value := reached()):
        assert time.monotonic() < end, f"not reached within {seconds} s"
        time.sleep(pause)
    return value


def gone(pid: int) -> bool:
    """Whether the process has ended; who collects an orphan's remains is no concern of ours."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Bench(Machine):
    """The drill's machine, and runs for it; `wishes` is {stage: {attempt: how it fails}}."""

    def submit(self, name: str, wishes: dict[str, dict[str, str]] | None = None, **options: Any) -> Run:
        folder = self.settings.home.parent / "texts" / name
        folder.mkdir(parents=True)
        (folder / "text.md").write_text(f"# {name}\n\nThis is the text of the run {name}.\n" * 12)
        if wishes:
            (folder / "behave.json").write_text(json.dumps(wishes))
        given = {"model": "smollm2-135m", "documents": str(folder), "max_steps": 4, "save_steps": 5, **options}
        return self.client.submit(given, name=name).run
