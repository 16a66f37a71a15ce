"""`ftq models` and `promote`: base models, and the numbered models that finished runs are."""

from __future__ import annotations

import click

from cli.common import json_option, note, open_client, print_json, run_argument, say


@click.command()
@click.option("--tuned", is_flag=True, help="The models that your finished runs are, by name and number.")
@json_option
def models(tuned: bool, as_json: bool) -> None:
    """List the base models that have an alias, or what was made of them.

    A hub id or a local checkpoint directory works as well. The last numbers are the least GPU memory in GiB that
    trains a row of 2048 tokens: in 4 bit, in 16 bit, and in 16 bit without gradient checkpointing (the fastest).

    \b
    Examples:
      ftq models
      ftq models --tuned
    """
    if tuned:
        _tuned(as_json)
        return
    from dataclasses import asdict

    from ftq.plan.memory import least
    from ftq.spec.models import MODELS

    if as_json:
        found = [(model, {"parameters_b": model.parameters_b, "download_gb": model.download_gb}) for model in MODELS]
        print_json([{**asdict(model), **more, "least_memory": least(model.shape)} for model, more in found])
        return
    from cli.screens.tables import print_models

    print_models(MODELS)


def _tuned(as_json: bool) -> None:
    client = open_client()
    versions = client.models.versions() if client.has_database() else []
    if as_json:
        from ftq.client.view import version_as_dict

        print_json([version_as_dict(version) for version in versions])
        return
    there = [version for version in versions if not version.gone]
    if not there:
        note(f"No run has succeeded yet in {client.settings.home}: `ftq status` lists the runs.")
        return
    from cli.screens.tables import print_versions

    print_versions(there)


@click.command()
@run_argument
def promote(run: str) -> None:
    """Make a version the one that NAME:latest stands for.

    Without it that is the newest one. A run may also decide by itself: --set promote=better or never.

    \b
    Example:
      ftq promote handbook:2
    """
    promoted, before = open_client().models.promote(run)
    latest = f"{promoted.family}:latest is {promoted.version_name}"
    was = f" (it was {before})" if before else ""
    say(f"{latest} already." if before == promoted.version_name else f"{latest} now{was}.")
