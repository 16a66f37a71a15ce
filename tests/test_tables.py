"""Every table: in a pipe each row is a line of its own, whole; on a narrow terminal nothing is cut."""

from __future__ import annotations

import io
import itertools
import re
import time
from pathlib import Path

import pytest
from cli_tools import NOW, Store, run
from rich.console import Console
from rich.text import Text

from cli.screens import terminal
from cli.screens.terminal import WIDEST, Rows
from ftq.errors import RunError
from ftq.files.artifact import Artifact
from ftq.spec.models import ALIASES
from ftq.store.gateway.keys import Limits
from tests.test_eval_commands import evaluated

LONG = "nightly-import-of-the-handbook-and-of-all-that-belongs-to-it"
QUESTION = "Which of the two answers, of which one is rather long, is the right one, and why isn't it the other?"
ANSWER = "It is the first one, as the second " + "goes on and on and on " * 8 + "without an end."
FACTS = {"gpus": 1, "gpu": "NVIDIA H100 80GB HBM3", "memory": 80 * 2**30, "labels": ["bigmem", "fast"], "version": "1"}


@pytest.fixture
def full(store: Store, documents: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Runs, versions, workers and keys with long names."""
    for run_id, name in (("aaaa1111", LONG), ("bbbb2222", "other")):
        folder = evaluated(store, run_id, name, ["24 months", "blue", ANSWER], epochs=5 if run_id[0] == "a" else 3)
        folder.answers.write_text(f'{{"prompt": "{QUESTION}", "answer": "{ANSWER}"}}\n')
    broken = store.add("cccc3333", "broken", ago=7200)
    store.do(broken, "prepare", 7100, artifacts=[Artifact("dataset", f"/{LONG}/" * 4, 10**9)])
    store.fail(broken, "train", 7000, RunError("user", "first\nsecond", "Do this.\nDo that."))
    store.do(store.add("eeee5555", f"{LONG}-old", ago=9000), "prepare", 8900)
    store.fail("eeee5555", "train", 8800, RunError("user", "first", "Do this."))
    store.do(store.add("dddd4444", f"{LONG}-2"), "prepare", 300)
    store.train("dddd4444", 200, 1)
    monkeypatch.setattr(time, "time", lambda: NOW)
    store.now = time.clock_gettime(time.CLOCK_REALTIME)  # the database's own: a worker is listed for a day
    for number in range(3):
        store.runs.see_worker(f"gpu{number}-{LONG}@grace", "grace", ["ask", "cpu", "gpu"], "NVIDIA H100", 1, FACTS)
        store.runs.keys.create(f"{number}-{LONG}", Limits(5, 60, 10**10), admin=number == 0)
    return store


TABLES = [
    ("status", "--all"),
    ("status", LONG),
    ("status", "broken"),
    ("status", f"{LONG}-2"),
    ("compare", LONG, "other"),
    ("workers",),
    ("keys", "list"),
    ("models",),
    ("models", "--tuned"),
    ("options",),
    ("gc", "--last", "0", "--dry-run"),
    ("check", "documents"),
    ("submit", "--model", "smollm2-135m", "--documents", "documents", "--dry-run"),
    ("doctor",),
    ("events", "broken"),
]


@pytest.mark.parametrize("words", TABLES, ids=" ".join)
def test_in_a_pipe_a_row_is_a_line_and_whole(full: Store, words: tuple[str, ...]) -> None:
    code, text = said(*words)
    assert code in (0, 1) and text, "`ftq doctor` may have found something"
    lines = text.splitlines()
    assert "\x1b" not in text and not re.search(r"\w…(\s|$)", text)
    assert all(line == line.rstrip() for line in lines)
    assert not re.search(rf" {{{2 * WIDEST}}}", text)
    cells = {
        "status --all": [("aaaa1111", LONG, "succeeded"), ("dddd4444", f"{LONG}-2", "train", "63", "1.834")],
        "status broken": [("dataset", "1.0 GB", "not on this machine"), ("train", "failed")],
        f"compare {LONG} other": [(QUESTION, ANSWER, ANSWER), ("epochs", "5", "3"), (f"{LONG} q8_0", "1 of 2")],
        "workers": [(f"gpu1-{LONG}@grace", "up", "ask,cpu,gpu +bigmem +fast", "NVIDIA H100, 80 GiB", "1")],
        "keys list": [(f"0-{LONG}", "5 unfinished jobs, 60 requests a minute, 10.0 GB", "never", "admin")],
        "models --tuned": [(f"{LONG}:1", "latest", "smollm2-135m", LONG, "ago")],
        "gc --last 0 --dry-run": [("eeee5555", f"{LONG}-old", "failed")],
        "events broken": [("train.1", "failed", "first; second")],
    }
    for row in cells.get(" ".join(words), []):
        assert any(all(cell in line for cell in row) for line in lines), row


@pytest.mark.parametrize("width", [80, 60, 40])
@pytest.mark.parametrize("words", TABLES[:-1], ids=" ".join)
def test_no_terminal_cuts_a_table(
    full: Store, words: tuple[str, ...], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    out = Console(file=screen, force_terminal=True, color_system=None, width=width)
    monkeypatch.setattr(terminal, "console", lambda stderr=False: out)
    said(*words)
    text = screen.getvalue()
    assert text and not re.search(r"\w…(\s|$)", text)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    if words == ("models",) and width == 80:
        assert all(f" {model.hub_id} " in text for model in ALIASES.values())  # it can be copied


def said(*words: str) -> tuple[int, str]:
    result = run(*words)
    return result.exit_code, result.stdout


def test_in_a_pipe_columns_begin_below_their_headings(full: Store) -> None:
    lines = said("keys", "list")[1].splitlines()
    assert {line.find("  5 unfinished jobs, 60 requests a minute, 10.0 GB  ") + 2 for line in lines[1:]} == {
        lines[0].index("LIMITS")
    }
    assert all(line[lines[0].index("USED") :].startswith("never") for line in lines[1:])
    lines = said("compare", LONG, "other")[1].splitlines()
    head, row = (next(line for line in lines if line.startswith(start)) for start in ("QUESTION", QUESTION))
    assert head.index(f"{LONG} q8_0") == row.index(ANSWER)
    table = Rows(("NAME", "DOES"))
    for name in ("a" * WIDEST, "b", "c" * 300):
        table.add(name, "x")
    assert [len(line) for line in render(table, 80, False).splitlines()] == [WIDEST + 6, WIDEST + 3, WIDEST + 3, 303]


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_no_letter_of_a_column_that_is_shown_is_lost(width: int, is_terminal: bool) -> None:
    """Each column's texts are of a letter of its own."""
    names, sizes = ("ID", "NAME", "SIZE", "DOES"), (1, 3, 8, 21, 90)
    for lengths in itertools.product(sizes, repeat=4):
        table = Rows(names, ("SIZE",), {"NAME": 6, "DOES": 10}, ("ID", "SIZE"))
        table.add(*(Text(letter * length) for letter, length in zip("abcd", lengths, strict=True)))
        shown = render(table, width, is_terminal)
        counts = [shown.count(letter) for letter in "abcd"]
        assert [count for name, count in zip(names, counts, strict=True) if name in shown] == [
            length for name, length in zip(names, lengths, strict=True) if name in shown
        ]
        assert all(name in shown for name in ("NAME", "DOES"))
        lines = shown.splitlines()
        assert max(map(len, lines)) <= width if is_terminal else len(lines) == 2


def render(table: Rows, width: int, is_terminal: bool) -> str:
    screen = io.StringIO()
    out = Console(file=screen, force_terminal=is_terminal, color_system=None, width=width)
    out.print(table, soft_wrap=not is_terminal)
    return screen.getvalue()
