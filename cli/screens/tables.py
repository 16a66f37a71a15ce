"""The models, the versions and the options that there are."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from rich.console import Group
from rich.padding import Padding
from rich.text import Text

from cli.screens import terminal, words
from ftq.plan.memory import least
from ftq.store.records import Version

NARROW = 72  # columns of a terminal, below which four columns of text can't be read


def print_models(models: Iterable[Any]) -> None:
    """The three last columns of numbers: least GPU memory in GiB, one row of 2048 tokens at a time."""
    numbers = ("SIZE", "CONTEXT", "4 BIT", "16 BIT", "FASTEST")
    lost = ("LICENCE", "FASTEST", "CONTEXT", "HUB ID", "16 BIT")
    table = terminal.Rows(("ALIAS", "HUB ID", *numbers, "LICENCE"), numbers, lost_first=lost)
    for model in models:
        size_b = f"{model.parameters_b:g}B" if model.parameters_b >= 1 else f"{model.parameters_b * 1000:g}M"
        memory = [f"{number / 2**30:.1f}" for number in least(model.shape).values()]
        table.add(Text(model.alias, "bold"), model.hub_id, size_b, str(model.context), *memory, model.licence)
    terminal.put(terminal.console(), table)


def print_versions(versions: list[Version]) -> None:
    headings, lost = ("VERSION", "LATEST", "MODEL", "RUN", "MADE"), ("MODEL", "MADE", "RUN")
    table = terminal.Rows(headings, folds={"VERSION": 16}, lost_first=lost)
    for version in map(terminal.clean, versions):
        latest, age = "latest" if version.is_latest else "", words.short(time.time() - version.created_at)
        table.add(Text(version.name, "bold"), Text(latest, "green"), version.model, version.run, f"{age} ago")
    terminal.put(terminal.console(), table)


def print_options(options: list[dict[str, str]]) -> None:
    out = terminal.console()
    if out.width < NARROW:
        for option in options:
            setting = f"{option['default'].replace(',', ', ')}  ({option['allowed']})"
            terminal.put(
                out, Group(Text(option["name"], "bold"), Padding(Text(f"{setting}\n{option['help']}"), (0, 0, 0, 2)))
            )
        return
    headings = ("OPTION", "DEFAULT", "ALLOWED", "MEANING")
    table = terminal.Rows(headings, folds=dict.fromkeys(headings[1:], 12))
    for option in options:
        name, default = Text(option["name"], "bold"), option["default"].replace(",", ", ")
        table.add(name, default, option["allowed"], option["help"])
    terminal.put(out, table)
