"""A run's options as people give them: from a file, from --set and from flags, in this order of precedence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

FLAGS = {"quantizations": "quant", "prompts": "prompt"}  # options whose flag has another name


def options_from(config: Path | None, assignments: tuple[str, ...], named: dict[str, Any]) -> dict[str, Any]:
    """--set and flags win over --config. Flags that weren't given don't count.

    UsageError for an option with two values on the command line: nobody knows which one is meant.
    """
    from ftq.spec.given import SET, Given, places_in, read_config
    from ftq.spec.options import parse_assignment

    try:
        assigned = list(map(parse_assignment, assignments))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    flags = {key: value for key, value in named.items() if value not in (None, [])}
    _check_once(assigned, flags)
    there, places = (read_config(config), places_in(config)) if config else ({}, {})
    places = {**places, **dict.fromkeys(dict(assigned), SET)}
    return Given({**there, **dict(assigned), **flags}, {name: at for name, at in places.items() if name not in flags})


def _check_once(assigned: Iterable[tuple[str, str]], flags: Mapping[str, Any]) -> None:
    first = dict[str, str]()
    for name, value in assigned:
        other = first.setdefault(name, value)
        if other != value:
            raise click.UsageError(f"--set {name}={other} and --set {name}={value}: give one of the two")
        if name in flags and value != flags[name]:
            raise click.UsageError(f"--{FLAGS.get(name, name)} and --set {name}={value}: give one of the two")
