"""A run's options as people give them: from a file, from --set and from flags, in this order of precedence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from cli.common import Place

Function = TypeVar("Function", bound=Callable[..., Any])
FLAGS = {"quantizations": "quant", "prompts": "prompt"}  # options whose flag has another name


class TakesOptions(click.Command):
    """A command with --set: what looks like a run's option beside it is answered with how that is given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            from ftq.spec.options import RunSpec

            flag, name = error.option_name, error.option_name.lstrip("-").replace("-", "_")
            if name not in RunSpec.model_fields:
                raise
            how = f"give it as --set {name}={_value_of(flag, given) or 'VALUE'}"
            raise click.UsageError(f"No such option {flag!r}: {how}", ctx) from None
        except click.UsageError as error:
            if not error.message.startswith("Got unexpected extra argument"):
                raise
            how = "documents are given as DIR" if self.name == "check" else "documents are given as --documents DIR"
            raise click.UsageError(f"{error.message}: {how}, other options as --set KEY=VALUE", ctx) from None


def option_sources(function: Function) -> Function:
    """Give a command --config and --set."""
    how = "One of `ftq options`; wins over --config. Repeatable."
    function = click.option("--set", "assignments", metavar="KEY=VALUE", multiple=True, help=how)(function)
    how = "YAML file of options, a line each: `epochs: 5`."
    return click.option("--config", metavar="FILE", type=Place(), help=how)(function)


def _value_of(flag: str, arguments: list[str]) -> str:
    for one, after in zip(arguments, [*arguments[1:], ""], strict=True):
        if one.startswith(f"{flag}="):
            return one.partition("=")[2]
        if one == flag and not after.startswith("--"):
            return after
    return ""


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
