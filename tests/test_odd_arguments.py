"""Arguments that are empty, doubled, too long or no text: what is wrong with them is said, and what to type."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_tools import run

from tests.finished import finished

LONG = "9" * 400


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (["infer", "handbook", "Why?", "--quant", ""], 2, "Error: unknown quantisation . Known: f16, "),
        (["eval", "handbook", "--against", ""], 2, "Error: no run is named: the name is empty\n"),
        (["keys", "revoke", "\udcff"], 2, "Error: no key ?\n`ftq keys list` shows them.\n"),
        (
            ["workers", "drain", "box", "box", ""],
            2,
            "Error: no worker box\n       a name is empty\nStart it ",
        ),
        (["submit", "--dry-run", "--model", LONG], 2, f"Error: model {LONG}: can't be read (File name too long)\n"),
    ],
)
def test_what_is_odd_is_said(home: Path, documents: Path, line: list[str], code: int, said: str) -> None:
    finished(home)
    told = run(*line)
    assert (told.exit_code, told.stdout) == (code, "")
    assert told.stderr.startswith(said), told.stderr
