"""What `ftq submit --dry-run` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from cli.common import note
from cli.screens import terminal
from cli.screens.run import asked_for
from ftq.errors import printable
from ftq.report.forecast import told

if TYPE_CHECKING:
    from ftq.files.snapshot import Snapshot
    from ftq.plan.forecast import Forecast


def print_forecast(spec: dict[str, Any], documents: Snapshot, forecast: Forecast) -> None:
    """What a submit would do, and what it would take: `~` is what is estimated."""
    grid = terminal.Rows(("", " "), folds={" ": 16})
    for name, text in told(spec, documents, forecast):
        grid.add(Text(name, "dim"), Text(printable(text), "yellow" if text.startswith("skipped") else ""))
    terminal.put(terminal.console(), Group(grid, "", *asked_for(spec)))
    for text in forecast.notes:
        note(f"Note: {text}")
