"""`ftq submit`: options from a file, from --set and from flags, in this order of precedence; then one call."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.common import complete_model, ctrl_c, json_option, note, open_client, print_json
from cli.options import TakesOptions, option_sources, options_from
from ftq.errors import FtqError
from ftq.words import plural

if TYPE_CHECKING:
    from ftq.client.remote.protocol import AnyClient
    from ftq.client.submit import Submitted


@click.command(cls=TakesOptions)
@click.option(
    "--model",
    metavar="MODEL",
    shell_complete=complete_model,
    help="Catalogue alias, hub id or local checkpoint directory.",
)
@click.option(
    "--documents", metavar="DIR", type=click.Path(), help="Folder of texts, records or both.  [default: documents]"
)
@click.option("--name", help="What the run and its versions are called.  [default: made from the model]")
@option_sources
@click.option("--quant", metavar="TYPE", multiple=True, help="GGUF file to write, such as q4_k_m or q8_0. Repeatable.")
@click.option("--prompt", metavar="TEXT", multiple=True, help="Question that the finished model answers. Repeatable.")
@click.option("--priority", metavar="LEVEL", help="high, normal or low.")
@click.option("--dry-run", is_flag=True, help="Check everything, estimate it, write and send nothing.")
@click.option("--card", metavar="CARD", help="With --dry-run: for this GPU, such as 'RTX 4090', or GiB.")
@click.option("--wait", is_flag=True, help="Follow the run; the exit code is its result.")
@json_option
def submit(
    config: Path | None,
    assignments: tuple[str, ...],
    name: str | None,
    dry_run: bool,
    card: str | None,
    wait: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Check, record and send a run.

    The documents are copied, so later edits don't change the run. It waits for a worker where none is free; the
    command returns at once, and `ftq status RUN --watch` follows it.

    \b
    Examples:
      ftq submit --model smollm2-135m
      ftq submit --model phi-3.5-mini --documents handbook --quant q8_0
      ftq submit --config run.yaml --set epochs=5 --wait
      ftq submit --model phi-3-medium --dry-run --card "RTX 4090"
    """
    if card and not dry_run:
        raise click.UsageError("--card belongs to --dry-run: a run lands on the worker that takes it")
    if wait and dry_run:
        raise click.UsageError("--wait follows a run, and --dry-run makes none: leave one of them out")
    client = open_client()
    lists = {"quantizations": list(flags.pop("quant")), "prompts": list(flags.pop("prompt"))}
    options = options_from(config, assignments, {**flags, **lists})
    if dry_run:
        _show_forecast(client, options, name, card, as_json)
        return
    submitted = client.submit(options, name)
    if as_json:
        print_json({"id": submitted.run.id, "name": submitted.run.name})
    _show(client, submitted, as_json, wait)
    if wait:
        _follow(client, submitted)


def _show(client: AnyClient, submitted: Submitted, as_json: bool, wait: bool) -> None:
    from ftq.client import view

    run = submitted.run
    if not as_json:
        click.echo(f"{run.id}  {run.name}")
        others = f" ({submitted.others})" if submitted.others else ""
        note(f"Taken: {plural(submitted.documents, 'document')} from {run.spec['documents']}{others}")
    for text in submitted.notes:
        note(f"Note: {text}")
    if as_json or wait:
        return
    with suppress(FtqError):  # the run is recorded, whatever else goes wrong
        if waits := view.turn(run, client.fleet.all()):
            note(f"Note: {waits}")
    note(f"\n  ftq status {run.name} --watch   follow it\n  ftq logs {run.name} -f          read along")
    note(f"  ftq cancel {run.name}           stop it")


def _follow(client: AnyClient, submitted: Submitted) -> None:
    from cli.screens.watch import watch_run

    run = submitted.run
    with ctrl_c(f"The run goes on. `ftq status {run.name} --watch` follows it again."):
        told = submitted.notes[-1] if submitted.notes else ""  # of workers it speaks at last
        finished = watch_run(client, run.id, stderr=True, told=told)  # standard output has the id, and only that
    click.get_current_context().exit(0 if finished.status == "succeeded" else 1)


def _show_forecast(
    client: AnyClient, options: dict[str, Any], name: str | None, card: str | None, as_json: bool
) -> None:
    spec, documents = client.dry_run(options, name)
    warnings, checked = client.look_over(spec, documents)
    forecast = client.forecast(spec, card, checked, documents)
    if as_json:
        print_json({"spec": spec, "forecast": forecast.as_dict()})
        return
    from cli.screens.dry_run import print_forecast

    print_forecast(spec, documents, forecast)
    if name and client.has_database() and (renamed := client.models.would_be_called(name)):
        note(f"Note: {renamed}")
    for text in warnings:
        note(f"Note: {text}")
    if waits := client.would_wait(spec):
        note(f"Note: it would wait. {waits}")
    note("Nothing was recorded or sent: leave out --dry-run to submit it.")
