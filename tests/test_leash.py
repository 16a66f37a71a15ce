"""A process on the leash of its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.tools import PATIENCE
from worker.machine.leash import leashed

PARENT = """
import subprocess, sys
from worker.machine.leash import leashed
child = subprocess.Popen(leashed([sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(60)"]))
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_killed_parent_takes_its_child_along() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    said = {parent.stdout.readline().strip(), parent.stdout.readline().strip()}
    [pid] = said - {"ready"}
    child = psutil.Process(int(pid))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert child.wait(timeout=PATIENCE) is None  # somebody else's child by now: its exit code is unknown
    parent.stdout.close()


def test_a_command_whose_parent_is_dead_already_does_not_run() -> None:
    command = leashed([sys.executable, "-c", "print('ran')"])
    command[command.index(str(os.getpid()))] = "1" if os.getpid() != 1 else "2"
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGTERM, "", "")


def test_a_command_keeps_its_words_its_environment_and_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "kept")
    code = "import os, sys; print(sys.argv[1:], os.environ['PYTHONSAFEPATH'], os.getppid()); sys.exit(7)"
    done = subprocess.run(leashed([sys.executable, "-c", code, "a b", ""]), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (7, f"['a b', ''] kept {os.getpid()}\n")


def test_a_command_that_is_not_there_is_said() -> None:
    done = subprocess.run(leashed(["/nowhere/valkey-server"]), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "/nowhere/valkey-server: No such file or directory\n")
