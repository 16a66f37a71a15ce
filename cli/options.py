"""A run's options as people give them: from a file, from --set and from flags, in this order of precedence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


def options_from(config: Path | None, assignments: tuple[str, ...], named: dict[str, Any]) -> dict[str, Any]:
    """--set wins over --config, a flag with a name of its own wins over both. Flags that weren't given don't count."""
    from ftq.spec.options import parse_assignment, read_config

    try:
        assigned = dict(map(parse_assignment, assignments))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    flags = {key: value for key, value in named.items() if value not in (None, [])}
    return {**(read_config(config) if config else {}), **assigned, **flags}
