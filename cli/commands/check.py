"""`ftq check`: what a folder of documents would teach, before anything is trained."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import click

from cli.common import Place, complete_model, json_option, note, print_json
from cli.options import TakesOptions, option_sources, options_from
from ftq.words import plural


@click.command(cls=TakesOptions)
@click.argument("documents", metavar="[DIR]", required=False, type=click.Path())
@click.option("--model", metavar="MODEL", shell_complete=complete_model, help="Whose tokens are counted.")
@option_sources
@click.option("--html", metavar="FILE", type=Place(), help="Write it as a page too.")
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@json_option
def check(
    config: Path | None, assignments: tuple[str, ...], html: Path | None, strict: bool, as_json: bool, **named: Any
) -> None:
    """Look at what documents would teach.

    Shows what each document gives, thirty of the rows exactly as the model sees them, how long rows are, and what
    should be better, with what to do. Needs no GPU, no worker and no network. DIR is `documents` unless the options
    say otherwise. Exit code 1 if there are errors, with --strict also if there are warnings.

    \b
    Examples:
      ftq check
      ftq check handbook --model phi-3.5-mini
      ftq check handbook --strict --html handbook.html
    """
    import ftq.client
    from ftq.parallel import OFTEN
    from ftq.settings import Settings

    gc.set_threshold(OFTEN)
    checked = ftq.client.check(Settings.from_env(), options_from(config, assignments, named))
    if html:
        _write(html, checked)
    if as_json:
        print_json(checked.to_json())
    else:
        from cli.screens.check import print_check

        print_check(checked)
    errors, warnings = len(checked.of("error")), len(checked.of("warning"))
    if not as_json or (strict and warnings):
        note(_verdict(errors, warnings, strict))
    if errors or (strict and warnings):
        click.get_current_context().exit(1)


def _write(path: Path, checked: Any) -> None:
    from ftq.check.page import page
    from ftq.settings import as_the_user

    try:
        with as_the_user():
            path.write_text(page(checked), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{path}: can't be written ({error.strerror})") from None


def _verdict(errors: int, warnings: int, strict: bool) -> str:
    said = [plural(number, word) for number, word in ((errors, "error"), (warnings, "warning")) if number]
    failed = " With --strict, warnings count as errors." if strict and warnings else ""
    return f"{' and '.join(said)} found.{failed}" if said else "Nothing stands in the way."
