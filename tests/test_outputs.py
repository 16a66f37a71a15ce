"""Every command prints on every output: any encoding, closed, slow, narrow, without colours."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_tools import Store

from cli import start as entry
from cli.main import main
from ftq import start
from ftq.errors import RunError
from ftq.files.run_dir import STAGES, RunDir

ROOT = Path(__file__).parents[1]
ENCODINGS = ["ascii", "latin-1", "cp1252", "utf-8"]

pytestmark = pytest.mark.usefixtures("utc")


@pytest.fixture
def runs(store: Store, documents: Path) -> Store:
    """A finished run, one that failed and one that trains, with text that few encodings have."""
    (documents / "ä🔧.md").write_text(f"# 🔧\n\nText — {'x' * 300}\n", encoding="utf-8")
    for run_id, name in (("aaaa1111", "done"), ("bbbb2222", "failed"), ("cccc3333", "train")):
        store.add(run_id, name, prompts=["Wer? 🔧"], documents=str(documents))
        (store.home / run_id / "logs" / "prepare.log").write_text("🔧 — geladen\n", encoding="utf-8")
    for number, stage in enumerate(STAGES):
        store.do("aaaa1111", stage, 500 - 10 * number)
    RunDir(store.home / "aaaa1111").gguf("q8_0").write_bytes(b"GGUF")
    store.fail("bbbb2222", "prepare", 400, RunError("user", "🔧 is no document", "Delete „ä🔧.md“ first."))
    store.do("cccc3333", "prepare", 300)
    store.train("cccc3333", 200, 10)
    return store


class Output(io.TextIOWrapper):
    """Standard output as a terminal or file of that encoding, and as strict as Python makes it."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors="strict", write_through=True)

    def text(self) -> str:
        assert isinstance(self.buffer, io.BytesIO)
        written = self.buffer.getvalue()
        return written.decode("utf-8" if self.encoding == "ascii" else self.encoding)  # Click trusts no ASCII


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)
    start.lacking.clear()


def ftq(monkeypatch: pytest.MonkeyPatch, encoding: str, *arguments: str) -> tuple[object, str, str]:
    """(exit code, standard output, standard error) of the command, begun where the program begins."""
    out, err = Output(encoding), Output(encoding)
    err.reconfigure(errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(sys, "argv", ["ftq", *arguments])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    monkeypatch.undo()
    assert "this shouldn't happen" not in err.text()
    return ended.value.code, out.text(), err.text()


COMMANDS = {
    "check": ["documents"],
    "submit": ["--model", "smollm2-135m", "--documents", "documents", "--name", "neu"],
    "status": ["failed"],
    "logs": ["done"],
    "events": ["failed"],
    "cancel": ["train"],
    "pause": ["train"],
    "resume": ["🔧"],
    "retry": ["failed", "--from", "🔧"],
    "infer": ["done", "Wer? 🔧"],
    "eval": ["done"],
    "compare": ["done", "failed"],
    "report": ["failed"],
    "models": ["--tuned"],
    "promote": ["🔧"],
    "pull": ["done:🔧"],
    "push": ["done", "🔧/x"],
    "options": [],
    "rm": ["🔧", "--yes"],
    "gc": ["--dry-run"],
    "keep": ["🔧"],
    "doctor": ["--🔧"],
    "up": ["--🔧"],
    "worker": ["--queues", "🔧"],
    "serve": ["--🔧"],
    "keys": ["revoke", "🔧"],
    "workers": ["drain", "🔧"],
    "notify": ["--🔧"],
}


def test_each_command_is_tried() -> None:
    assert set(COMMANDS) == set(main.commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_prints_in_each_encoding(runs: Store, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    for encoding in ENCODINGS:
        code, out, err = ftq(monkeypatch, encoding, command, *COMMANDS[command])
        assert code in (0, 1, 2) and out + err
    assert ftq(monkeypatch, "ascii", command, "--help")[0] == 0


def test_what_an_encoding_lacks_is_a_question_mark_and_is_told(runs: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _, out, err = ftq(monkeypatch, "latin-1", "status", "failed")
    assert "? is no document" in out and "Delete ?ä?.md? first." in out
    assert err.endswith("Note: latin-1 lacks 5 characters, shown as ?. LANG=C.UTF-8 or --json shows all.\n")


@pytest.mark.parametrize(
    ("redirect", "setting"),
    [
        (">&-", ""),
        (">&- 2>&-", ""),
        ("<&- >&- 2>&-", ""),
        ("", "COLUMNS=20 TERM=dumb NO_COLOR=1"),
        ("", "PYTHONIOENCODING=ascii"),
        ("", "LANG=C LC_ALL=C PYTHONCOERCECLOCALE=0 PYTHONUTF8=0"),
        ("", "LC_ALL=de_DE.ISO-8859-1 PYTHONUTF8=0"),
        ("", "COLUMNS=x LINES=-1 TERM="),
    ],
)
def test_a_program_whose_outputs_are_unusual_does_its_work(
    runs: Store, documents: Path, redirect: str, setting: str
) -> None:
    """The database would get the descriptor 1 or 2 of an output that was closed, and with it what others print."""
    command = f"exec env {setting} {sys.executable} -c 'from cli.start import main; main()' cancel train {redirect}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True)
    assert (done.returncode, "rror" in done.stderr) == (0, False), done.stderr
    assert runs.runs.get("cccc3333").wanted == "cancel"


def test_an_output_that_takes_its_time_gets_all(runs: Store) -> None:
    """Its other end has made the pipe non-blocking, as some programs do with the pipes of their children."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    command = [sys.executable, "-c", "from cli.start import main; main()", "options", "--json"]
    with subprocess.Popen(
        command, stdout=write, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)}
    ) as child:
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            text = pipe.read()
        assert child.stderr and child.stderr.read() == b""
    assert child.returncode == 0 and len(json.loads(text)) > 20


@pytest.mark.parametrize(("name", "value"), [("COLUMNS", "0"), ("COLUMNS", "20"), ("TERM", "dumb"), ("NO_COLOR", "1")])
def test_a_terminal_of_any_kind_shows_something(runs: Store, name: str, value: str) -> None:
    """A terminal without a size is one of 80 columns; one that can't be printed over gets a line for each change."""
    program = "from cli.start import main; import sys; sys.argv = ['ftq', 'status', 'done', *sys.argv[1:]]; main()"
    for more in ([], ["--watch"]):
        ours, theirs = os.openpty()
        command = [sys.executable, "-c", program, *more]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", name: value}
        subprocess.run(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, check=True, timeout=300)
        os.close(theirs)
        shown = os.read(ours, 65536).decode()
        os.close(ours)
        assert "done" in shown and "Traceback" not in shown
        assert ("\x1b[3" in shown) == (name == "COLUMNS")
