"""Takes docs/status.svg: `ftq status RUN` of a finished run. After `make demo`: `python docs/status_picture.py [RUN]`

The run is found as the commands find it, by FTQ_HOME. Its documents are shown as below ~/ftq, wherever they were.
"""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from cli.screens.run import run_view
from ftq.client.client import Client
from ftq.settings import Settings

ROOT = Path(__file__).parents[1]
WIDTH = 100
SINCE = 60.0  # seconds after its end


def main() -> None:
    client = Client(Settings.from_env())
    run = client.find(sys.argv[1]) if len(sys.argv) > 1 else client.all(1)[0]
    assert run.finished_at
    shown = replace(run, spec={name: _at_home(value) for name, value in run.spec.items()})
    console = Console(width=WIDTH, file=io.StringIO(), record=True, force_terminal=True)
    console.print(run_view(shown, client.settings.home, run.finished_at + SINCE))
    console.save_svg(str(ROOT / "docs" / "status.svg"), title=f"ftq status {run.name}")


def _at_home(value: Any) -> Any:
    """A path below the folder that the run was submitted in."""
    return f"~/ftq/{Path(value).name}" if isinstance(value, str) and value.startswith("/") else value


if __name__ == "__main__":
    main()
