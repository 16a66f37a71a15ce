"""What `ftq submit --dry-run` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from cli.common import note
from cli.screens.run import asked_for
from cli.screens.terminal import console, put
from ftq.errors import printable
from ftq.report.forecast import told

if TYPE_CHECKING:
    from ftq.files.snapshot import Snapshot
    from ftq.plan.forecast import Forecast


def print_forecast(spec: dict[str, Any], documents: Snapshot, forecast: Forecast) -> None:
    """What a submit would do, and what it would take: `~` is what is estimated."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, text in told(spec, documents, forecast):
        grid.add_row(Text(name, "dim"), Text(printable(text), "yellow" if text.startswith("skipped") else ""))
    put(console(), Group(grid, "", *asked_for(spec)))
    for text in forecast.notes:
        note(f"Note: {text}")
