"""Ctrl-C: while a program imports, in a command, and at a question."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import Store, run
from click.testing import CliRunner

from cli.main import main
from ftq.client.client import Client
from ftq.programs import UpOptions
from ftq.start import end_at_ctrl_c, interruptible

ROOT = Path(__file__).parents[1]
CTRL_C = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(0.2)\nprint('went on')\n"


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("click", [sys.executable, "-c", "from cli.start import main; main()"]),
        ("interrupted", UpOptions().argv("interrupted")),
    ],
)
def test_ctrl_c_while_a_program_imports_is_silent(name: str, command: list[str], tmp_path: Path) -> None:
    """The module that it imports presses Ctrl-C."""
    (tmp_path / f"{name}.py").write_text(CTRL_C)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")  # 130, as shells say it
    ignored = subprocess.run(["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command], env=environment,
                             capture_output=True, text=True)  # fmt: skip
    assert ignored.stdout == "went on\n"  # as a script's `ftq ... &`


def test_a_program_gets_its_arguments_and_is_the_main_module(tmp_path: Path) -> None:
    (tmp_path / "shown.py").write_text("import sys\nprint(__name__, sys.argv[1:])\n")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-m", "ftq.start", "shown", "a", "b"]
    assert subprocess.check_output(command, env=environment, text=True) == "__main__ ['a', 'b']\n"


def test_ctrl_c_in_a_command_is_exit_code_130(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Client, "all", press)
    result = run("status")
    assert (result.exit_code, result.output) == (130, "\n")


def test_a_command_hears_ctrl_c_and_gives_it_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        end_at_ctrl_c()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        with interruptible():
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_question_that_is_answered_no_or_not_at_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.common.on_terminal", lambda: True)
    store.add("aaaa1111", "old")
    store.at(10).cancel("aaaa1111")
    for answer, code in (("n\n", 1), ("", 130)):
        assert CliRunner().invoke(main, ["rm", "old"], input=answer).exit_code == code
    assert store.runs.find("old")


@pytest.mark.parametrize("arguments", ["--help", "options", "models --json"])
def test_output_that_cannot_be_written_is_one_line(arguments: str) -> None:
    command = [sys.executable, "-c", "from cli.start import main; main()", *arguments.split()]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "Error: No space left on device")


def test_logs_need_no_standard_output(store: Store) -> None:
    store.add("aaaa1111", "one")
    (store.home / "aaaa1111" / "logs" / "train.log").write_text("text\n")
    code = "from cli.start import main; main()"
    command = ["sh", "-c", '"$0" -c "$1" logs one >&-', sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "==> train <==\n")
